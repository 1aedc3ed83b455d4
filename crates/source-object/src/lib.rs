//! Parquet on object stores as a source: `s3://` and `file://`.
//!
//! A URL with wildcards names objects. In snapshot mode they are the whole truth together; in append mode each new or
//! replaced object adds. What an object *is* is decided by its key, its ETag and its size: an object that is as it was
//! is not opened again.
//!
//! Promises: an object is pinned as it was listed, and what is read of it is of that object or an error of kind
//! [`Changed`](convoke_core::error::SourceErrorKind::Changed), never a mixture; objects that count only together are listed
//! again once they are read; schemas that drift are merged so that values stay as they are, or refused with both objects
//! named; an object that is no whole Parquet file does not hide the others; no message shows a key, a token or a request.
//!
//! Nothing is written, moved or marked. Left out: `gs://` and `az://`.

mod columns;
mod fault;
mod footer;
mod listed;
mod listing;
mod location;
mod object_source;
mod partitions;
mod pinned;
mod position;
mod store;
mod types;

pub use object_source::ObjectSource;
