//! The CSV drop folder as a source.
//!
//! Somebody drops files into a folder. A file counts once it is settled: its size and times have not moved for a
//! while, or a marker that is not older lies beside it. In snapshot mode the newest file is the whole truth, and what
//! was dropped before it never is again, also if it turns out broken; in append mode each file adds. What an added
//! file *is* is decided by its contents (BLAKE3), so a file added twice is read once. Files are ordered by the time
//! they were last written to, which a copy can keep; times that a change of name or rights moves would reorder them.
//!
//! Promises: nothing moves before [`acknowledge`](convoke_core::source::Source::acknowledge); a move never
//! overwrites; a record that does not have the header's fields is told with its line and never repaired; a file
//! that changed while it was read yields an error, not records; a message never shows a cell.
//!
//! Every column is text; a cell without characters is NULL. Left out: other encodings than UTF-8, and folders on
//! object stores.

mod columns;
mod drop_folder;
mod file;
mod folder;
mod header;
mod marker;
mod moving;
mod position;
mod reader;
mod records;
mod search;
mod selecting;
mod settle;

pub use drop_folder::CsvDrop;
