//! The drop folder as a source: a folder of this machine, or a prefix in an object store.
//!
//! Somebody drops files. A file counts once it is settled: its size and times have not moved for a while, a marker that
//! is not older lies beside it, or a manifest lists it and all that is listed lies there as it says. In snapshot mode the
//! newest file, or all files of the newest manifest and never some of them, are the whole truth, and what was dropped before never is again, also
//! if it turns out broken; in append mode each file adds. What an added file *is* is decided by its contents (BLAKE3), so
//! a file added twice is read once, whatever its name. Files are ordered by the time they were last written to, which a
//! copy can keep; times that a change of name or rights moves would reorder them, and only bound those that lie ahead.
//! A file that cannot be read, or is new and lacks a column that the sync reads and others have, goes to `quarantine/`, or
//! stays and is remembered where files are kept.
//!
//! Promises: nothing moves before [`acknowledge`](convoke_core::source::Source::acknowledge), and nothing is written before
//! [`claim`](convoke_core::source::Source::claim); of several that would take one file, one does; a move never
//! overwrites; a record that does not have the header's fields is told with its line and never repaired; a file that
//! changed while it was read yields an error, not records; a message never shows a cell.
//!
//! Every column is text; a cell without characters is NULL. What the bytes of a file say is for `convoke-formats`.

mod arriving;
mod attic;
mod claims;
mod columns;
mod drop_folder;
mod earlier;
mod file;
mod folder;
mod known;
mod listed;
mod local;
mod manifest;
mod marker;
mod moved;
mod moving;
mod near_misses;
mod position;
mod reader;
mod remote;
mod search;
mod selecting;
mod settle;
mod storage;
mod watching;

pub use claims::Taker;
pub use drop_folder::CsvDrop;
pub use watching::changes;
