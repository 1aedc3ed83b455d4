//! The CSV drop folder as a source.
//!
//! Somebody drops files into a folder. A file counts once it is settled: its size and times have not moved for a
//! while, or its marker lies beside it. In snapshot mode the newest file is the whole truth; in append mode each
//! file adds. What a file *is* is decided by its contents (BLAKE3), so a file dropped twice is read once.
//!
//! Promises: nothing moves before [`acknowledge`](convoke_core::source::Source::acknowledge); a move never
//! overwrites; a record that does not have the header's fields is told with its line and never repaired; a file
//! that changed while it was read yields an error, not records.
//!
//! Every column is text; a cell without characters is NULL. Left out: other encodings than UTF-8, and folders on
//! object stores.

mod drop_folder;
mod file;
mod folder;
mod header;
mod position;
mod reader;
mod records;
mod search;
mod settle;

pub use drop_folder::CsvDrop;
