//! Parquet, read where it lies: a pinned file is asked for ranges of bytes, and for no more of them than are needed.
//!
//! The memory that reading takes does not grow with the file. A row group whose wanted columns fit the budget is fetched
//! whole, with neighbouring columns in one request, and decoded where it is asked for. Of a larger one each column has a
//! window of bytes that moves on (`window`), and a thread of its own decodes: Parquet's decoders ask for their bytes
//! wherever they happen to be, and must be able to wait there. That thread waits for reads alone, and no read waits for
//! it, so nothing can wait in a circle; it ends when its batches are no longer wanted.
//!
//! What a file holds is told in types that do not depend on how its writer held them in memory (`types`). Damage is told
//! apart from a source that failed, whatever the decoder makes of it: it may panic. What it might do worse, run out of its
//! stack or of memory over what a footer claims, is found before it is asked (`shape`). Texts that are too long for one
//! array are no damage: fewer records are decoded at once (`batching`).

mod batching;
mod chunks;
mod decoder;
mod file;
mod footer;
mod group;
mod shape;
mod types;
mod window;

pub use decoder::ReadError;
pub use file::ParquetFile;
pub use footer::{MOST_RECORDS, footer_fields, length_of as footer_length};
pub use group::{BatchStream, GroupRequest};

#[cfg(test)]
mod tests;
