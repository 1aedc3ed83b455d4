//! Files on object stores as a source: Parquet, Avro, CSV and NDJSON on `s3://`, `gs://`, `az://`, `https://` and `file://`.
//!
//! A URL with wildcards names objects. In snapshot mode they are the whole truth together; in append mode each new or
//! replaced object adds. What an object *is* is decided by its key, its ETag (or version, or time) and its size, never by
//! when it was written: one that comes late with an older time is found all the same, and one that is as it was is not
//! opened again.
//!
//! Promises: an object is pinned as it was listed, and what is read of it is of that object or an error of kind
//! [`Changed`](convoke_core::error::SourceErrorKind::Changed), never a mixture; objects that count only together are listed
//! again once they are read, Parquet also once its rows were, and waited for while one of them is younger than `settle`;
//! schemas that drift are merged so that values stay as they are, or refused, as the policy has it, with both objects named;
//! an object that is broken does not hide the others; no message shows a key, a token or a request.
//!
//! Parquet is read where it is, by the engine; the other formats from front to back, in memory that is bounded by a few
//! parts and batches. NDJSON has no schema, so its objects are read twice: once for their columns.
//!
//! Nothing is written, moved or marked.

mod columns;
mod describing;
mod drift;
mod finding;
mod footer;
mod object_source;
mod partitions;
mod pinned;
mod position;
mod run;
mod stream;
mod types;

pub use object_source::ObjectSource;
