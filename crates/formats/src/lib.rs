//! From the bytes of a file to records.
//!
//! A file is read once, front to back, from whatever can be read, on a thread that may block. What comes out are the
//! items of a split: batches of records in Arrow form, records that cannot be carried, each with its line, and an end.
//! Memory is bounded by a batch and by the longest record admitted, however large the file is, and whatever it claims to
//! hold: schemas, symbols, values and names that stand once and count often have limits of their own. How many records come
//! out is not bounded, since a small archive may hold any number of them; nor is how many of them are malformed, up to the
//! share that makes a file broken, which is told as soon as it is certain enough.
//!
//! A schema that is given is that of many files: what one of them has in a narrower type is widened, what it lacks is NULL,
//! and parts of nested values are found by their names ([`fit`]). A value that does not fit is told, at whatever depth it
//! lies.
//!
//! Promises: a record is either passed on as it was written or told as malformed, never repaired; a file that cannot be
//! used is told as broken with the reason, which is no error; an error means that the bytes could not be had. The
//! fingerprint is that of the bytes as they lie in their store. A message never shows a value.
//!
//! Parquet, which is read where it lies and in any order, has a reader of its own: [`parquet`].
//!
//! Left out: where files lie, and whether they changed while they were read.

mod avro;
mod cells;
mod csv;
mod fitting;
mod format;
mod input;
mod ndjson;
mod outlet;
pub mod parquet;
mod reading;
mod text;
mod unpacking;

pub use csv::may_be_value;
pub use fitting::{Fitted, can_fit, fit};
pub use format::{CsvFormat, Delimiter, Encoding, FileFormat, KnownEncoding};
pub use input::InputError;
pub use reading::FileReader;
