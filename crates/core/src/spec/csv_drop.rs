//! A drop folder as a source.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::ids::ConnectionName;

/// A folder, or a prefix in an object store, into which somebody drops CSV files.
#[derive(Clone, Debug, Serialize)]
pub struct CsvDropSpec {
    #[serde(flatten)]
    pub place: DropPlace,
    /// Glob on the file name, `*.csv` by default.
    pub pattern: String,
    pub drop_mode: DropMode,
    /// A file counts once its size and modification time have not moved for this long.
    pub settle: Duration,
    /// If set, a file counts only when `<file><suffix>` lies beside it.
    pub done_suffix: Option<String>,
    /// If set, a glob on the names of files that list others: a file counts only when one of them lists it, and lies
    /// there as it says, with all that is listed beside it. Left out of the configuration hash where it is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    pub processed: ProcessedFiles,
    /// Field separator, one ASCII character; none if each file tells it.
    pub delimiter: Option<char>,
    /// Name of the encoding; none if each file tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// The columns of files that have no header; empty if the first record names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Other spellings of header names: `(spelling in the file, name used in the mapping)`.
    pub aliases: Vec<(String, String)>,
    /// A file in which more than this share of the records is malformed is quarantined whole, 0 to 1.
    pub max_malformed: f64,
}

/// Where files are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DropPlace {
    /// In a folder of this machine.
    Folder { path: PathBuf },
    /// Under a prefix in an object store, letter for letter: `s3://bucket/prefix/`, `gs://…`, `az://…`.
    Prefix { url: String, connection: Option<ConnectionName> },
}

impl CsvDropSpec {
    /// The folder, if it is one of this machine.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            DropPlace::Folder { path } => Some(path),
            DropPlace::Prefix { .. } => None,
        }
    }
}

/// What a newly dropped file means for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropMode {
    /// The newest file is the whole truth.
    Snapshot,
    /// Each file adds or updates records.
    Append,
}

/// What becomes of a file whose records are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessedFiles {
    /// Moved to `processed/` in the drop folder.
    Move,
    /// Left where it is; its content hash is remembered.
    Keep,
}
