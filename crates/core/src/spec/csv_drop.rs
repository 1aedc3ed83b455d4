//! A drop folder as a source.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// A folder into which somebody drops CSV files.
#[derive(Clone, Debug, Serialize)]
pub struct CsvDropSpec {
    pub path: PathBuf,
    /// Glob on the file name, `*.csv` by default.
    pub pattern: String,
    pub drop_mode: DropMode,
    /// A file counts once its size and modification time have not moved for this long.
    pub settle: Duration,
    /// If set, a file counts only when `<file><suffix>` lies beside it.
    pub done_suffix: Option<String>,
    pub processed: ProcessedFiles,
    /// Field separator, one ASCII character.
    pub delimiter: char,
    /// Other spellings of header names: `(spelling in the file, name used in the mapping)`.
    pub aliases: Vec<(String, String)>,
    /// A file in which more than this share of the records is malformed is quarantined whole, 0 to 1.
    pub max_malformed: f64,
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
