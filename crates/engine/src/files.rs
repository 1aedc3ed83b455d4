//! Private files, hashed while they are written.
//!
//! Spool, plans and segments hold personal data or stand for it: files are 0600, folders 0700, and whatever the
//! checkpoint store will name is on disk before it does.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::EngineError;

/// Bytes of a row group at most, so that wide records do not make it grow: it is held in memory while it is written.
const GROUP_BYTES: usize = 32 << 20;

/// Bytes hashed at once; large enough that system calls do not show.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// Makes a folder and its parents; the folder itself is for this user alone.
pub(crate) fn make_private_folder(folder: &Path) -> Result<(), EngineError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)))
        .map_err(|cause| EngineError::file("make the folder", folder, cause))
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), EngineError> {
    File::open(folder)
        .and_then(|handle| handle.sync_all())
        .map_err(|cause| EngineError::file("make durable", folder, cause))
}

pub(crate) fn open(path: &Path) -> Result<File, EngineError> {
    File::open(path).map_err(|cause| EngineError::file("read", path, cause))
}

/// Removes a file; an absent one is no error.
pub(crate) fn remove(path: &Path) -> Result<(), EngineError> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(EngineError::file("remove", path, cause)),
        _ => Ok(()),
    }
}

/// BLAKE3 of a file, hexadecimal.
pub(crate) fn digest(path: &Path) -> Result<String, EngineError> {
    let mut file = open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(|cause| EngineError::file("read", path, cause))?;
        if count == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..count]);
    }
}

/// A new file of mode 0600 that knows its size, and its digest unless it is soon removed.
pub(crate) struct PrivateFile {
    file: File,
    hasher: Option<blake3::Hasher>,
    bytes: u64,
}

impl PrivateFile {
    fn create(path: &Path, layout: Layout) -> Result<Self, EngineError> {
        remove(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|cause| EngineError::file("write", path, cause))?;
        let hasher = (!matches!(layout, Layout::Passing)).then(blake3::Hasher::new);
        Ok(Self { file, hasher, bytes: 0 })
    }
}

impl Write for PrivateFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.file.write(data)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&data[..count]);
        }
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// How a Parquet file of ours is laid out.
///
/// Dictionaries are built for columns of few values alone: for the others they cost more than all else.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// Written once, read once or twice at once, and removed: as it stands. To compress it costs more than it saves, and
    /// nothing names it after a crash, so it is not made durable.
    Passing,
    /// Written once, read a few times, and kept for days: as it stands, with a digest.
    Waiting,
    /// Kept and searched: small, with statistics of `sorted_by`. `hashes` cannot be made smaller.
    Kept { sorted_by: &'static str, hashes: &'static [&'static str], few_values: &'static [&'static str] },
}

impl Layout {
    fn properties(self, group_rows: usize) -> WriterProperties {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(group_rows))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None);
        match self {
            Self::Passing | Self::Waiting => properties.set_compression(Compression::UNCOMPRESSED),
            Self::Kept { sorted_by, hashes, few_values } => {
                let mut properties = properties
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_column_statistics_enabled(sorted_by.into(), EnabledStatistics::Chunk);
                for column in hashes {
                    properties = properties.set_column_compression((*column).into(), Compression::UNCOMPRESSED);
                }
                for column in few_values {
                    properties = properties.set_column_dictionary_enabled((*column).into(), true);
                }
                properties
            }
        }
        .build()
    }
}

/// Writes one private Parquet file.
pub(crate) struct ParquetWriter {
    path: PathBuf,
    writer: ArrowWriter<PrivateFile>,
    is_kept: bool,
    rows: u64,
}

/// What was written.
#[derive(Clone, Debug)]
pub(crate) struct WrittenFile {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Empty for a passing file.
    pub(crate) digest: String,
    /// Rows of each row group, in order.
    pub(crate) group_rows: Vec<u64>,
}

impl ParquetWriter {
    pub(crate) fn create(
        path: &Path,
        schema: SchemaRef,
        group_rows: usize,
        layout: Layout,
    ) -> Result<Self, EngineError> {
        let writer =
            ArrowWriter::try_new(PrivateFile::create(path, layout)?, schema, Some(layout.properties(group_rows)))
                .map_err(|cause| EngineError::parquet("write", path, cause))?;
        let is_kept = !matches!(layout, Layout::Passing);
        Ok(Self { path: path.to_owned(), writer, is_kept, rows: 0 })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), EngineError> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|cause| EngineError::parquet("write", &self.path, cause))
    }

    /// Ends the file and makes it durable, unless it only passes; its folder is the caller's to sync.
    pub(crate) fn finish(mut self) -> Result<WrittenFile, EngineError> {
        let fail = |cause| EngineError::parquet("write", &self.path, cause);
        let metadata = self.writer.finish().map_err(fail)?;
        let group_rows = metadata.row_groups().iter().map(|group| group.num_rows().unsigned_abs()).collect();
        let inner = self.writer.inner();
        if self.is_kept {
            inner.file.sync_all().map_err(|cause| EngineError::file("make durable", &self.path, cause))?;
        }
        let digest = inner.hasher.as_ref().map(|hasher| hasher.finalize().to_hex().to_string()).unwrap_or_default();
        Ok(WrittenFile { rows: self.rows, bytes: inner.bytes, digest, group_rows })
    }
}
