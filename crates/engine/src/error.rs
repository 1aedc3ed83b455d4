//! Why the engine stopped, with who has to act.

use std::io;
use std::path::{Path, PathBuf};

use convoke_core::{AudienceKey, Origin, SinkError, SourceError, StateError, SyncName};
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

use crate::check::ExpressionProblem;

/// Why the engine could not do what it was asked.
///
/// `Display` never repeats its source and never holds a value from a record. Errors of the query engine that may
/// quote a value are cut to what can be said without it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Expressions that do not fit the source. [`Engine::check`](crate::Engine::check) finds them all beforehand.
    #[error("{count} expressions of `{sync}` do not fit its source; first: {first}; `convoke check --connect` tells all", count = problems.len(), first = first_problem(problems))]
    Expressions { sync: SyncName, problems: Vec<ExpressionProblem> },
    /// An expression failed on a value; which one is told, the value is not.
    #[error(
        "`{place}` of `{sync}` failed on the record at {origin}; make the expression accept every value, for example with `CASE` or `TRY_CAST`"
    )]
    Evaluation { sync: SyncName, place: String, origin: String },
    /// A suppression list that is missing, stale or unreadable. No list, no run.
    #[error("suppression list `{path}`: {reason}")]
    Suppression { path: PathBuf, reason: String },
    /// The key that a user typed is not one.
    #[error("{0}")]
    Key(String),
    /// A file could not be read or written.
    #[error("cannot {action} `{path}`; {remedy}")]
    File {
        action: &'static str,
        path: PathBuf,
        remedy: &'static str,
        #[source]
        cause: io::Error,
    },
    /// The source's records would take the disk on which the state lies.
    #[error(
        "the records do not fit on the disk of `{folder}`: {} MB of it are free, and {} MB are kept free for the state beside them; free some space there, or have `state_dir` on a larger disk", free_bytes >> 20, reserve_bytes >> 20
    )]
    NoRoom { folder: PathBuf, free_bytes: u64, reserve_bytes: u64 },
    /// A file of ours is not what it was when it was written.
    #[error("`{path}` is damaged: {reason}; {remedy}")]
    Damaged { path: PathBuf, reason: String, remedy: &'static str },
    /// The memory limit does not suffice although the engine spills.
    #[error(
        "the memory limit of {limit_bytes} bytes does not suffice for `{action}`; raise it, or lower the number of threads"
    )]
    Memory { action: &'static str, limit_bytes: usize },
    /// The source failed while it was read.
    #[error("cannot read split `{split}`")]
    Source {
        split: String,
        #[source]
        cause: SourceError,
    },
    /// Splits whose contents are damaged, at a place that is only met while they are read. Nothing was planned; what is left
    /// out can be planned without.
    #[error("cannot read split {}", damaged(.0))]
    DamagedSplits(Vec<DamagedSplit>),
    /// The stream of entries or rows failed, or the segment store did.
    #[error("cannot {action}")]
    State {
        action: &'static str,
        #[source]
        cause: StateError,
    },
    /// A ledger and a sync whose hashes cannot be compared.
    #[error(
        "the ledger of `{audience}` was made with another {difference}; adopt what the audience holds, restore a backup, or begin anew with an audience of another name"
    )]
    Identity { audience: AudienceKey, difference: &'static str },
    /// A ledger whose segments hold other rows than its manifest tells of.
    #[error(
        "the ledger of `{audience}` holds {found} live rows where {told} were noted; restore a backup, or adopt what the audience holds"
    )]
    Ledger { audience: AudienceKey, told: u64, found: u64 },
    /// The destination failed while its rows were read.
    #[error("cannot read the audience's rows")]
    Scan {
        #[source]
        cause: SinkError,
    },
    /// The process is shutting down.
    #[error("the engine was stopped before it was done")]
    Stopped,
    /// The query engine failed for a reason of its own.
    #[error("cannot {action}: the query engine failed; please report this")]
    Query {
        action: &'static str,
        #[source]
        cause: QueryFailure,
    },
}

/// A split whose contents are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSplit {
    /// The split's name.
    pub split: String,
    /// What is wrong, without values, and the remedy.
    pub reason: String,
}

/// A failure of the query engine, reduced to its kind, since its text may quote values.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QueryFailure(pub(crate) String);

impl EngineError {
    /// Who has to act.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Expressions { .. }
            | Self::Evaluation { .. }
            | Self::Suppression { .. }
            | Self::Key(_)
            | Self::Memory { .. }
            | Self::Identity { .. } => Origin::User,
            Self::File { .. }
            | Self::NoRoom { .. }
            | Self::Damaged { .. }
            | Self::DamagedSplits(_)
            | Self::Ledger { .. }
            | Self::State { .. }
            | Self::Stopped => Origin::External,
            Self::Source { cause, .. } => cause.origin,
            Self::Scan { cause } => cause.origin(),
            Self::Query { .. } => Origin::Internal,
        }
    }

    pub(crate) fn file(action: &'static str, path: &Path, cause: io::Error) -> Self {
        let remedy = match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full: free some space there",
            io::ErrorKind::PermissionDenied => "give this user access to it",
            io::ErrorKind::NotFound => "it is not there: see whether the state folder was moved or cleaned",
            _ => "see the cause below",
        };
        Self::File { action, path: path.to_owned(), remedy, cause }
    }

    /// Turns a failure while a Parquet file was read or written into an error that names the file.
    pub(crate) fn parquet(action: &'static str, path: &Path, cause: ParquetError) -> Self {
        match cause {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(io_error) => Self::file(action, path, *io_error),
                Err(_) => Self::damaged(path, "it is no readable Parquet file"),
            },
            _ => Self::damaged(path, "it is no readable Parquet file"),
        }
    }

    pub(crate) fn damaged(path: &Path, reason: &str) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
            remedy: "restore it from a backup, or remove what it belongs to and plan again",
        }
    }

    /// Turns a failure of a query into an error without values; a full disk and a spent memory limit are told apart.
    pub(crate) fn query(action: &'static str, cause: &DataFusionError, scope: &QueryScope<'_>) -> Self {
        let root = cause.find_root();
        if let DataFusionError::ResourcesExhausted(_) = root {
            return Self::Memory { action, limit_bytes: scope.memory_limit_bytes };
        }
        if let Some(io_error) = io_cause(root) {
            return Self::file("spill to", scope.spill_dir, io_error);
        }
        Self::Query { action, cause: QueryFailure(failure_kind(root)) }
    }
}

/// What an error of a query is put in relation to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryScope<'a> {
    pub(crate) memory_limit_bytes: usize,
    pub(crate) spill_dir: &'a Path,
}

fn damaged(splits: &[DamagedSplit]) -> String {
    let told: Vec<_> = splits.iter().map(|damaged| format!("`{}`: {}", damaged.split, damaged.reason)).collect();
    told.join("; ")
}

fn first_problem(problems: &[ExpressionProblem]) -> String {
    problems.first().map_or_else(String::new, |problem| format!("`{}`: {}", problem.place, problem.message))
}

fn io_cause(error: &DataFusionError) -> Option<io::Error> {
    match error {
        DataFusionError::IoError(cause) => Some(same_kind(cause)),
        DataFusionError::ArrowError(cause, _) => match cause.as_ref() {
            arrow::error::ArrowError::IoError(_, cause) => Some(same_kind(cause)),
            _ => None,
        },
        _ => None,
    }
}

fn same_kind(cause: &io::Error) -> io::Error {
    cause.raw_os_error().map_or_else(|| io::Error::from(cause.kind()), io::Error::from_raw_os_error)
}

/// Names the kind of a failure; plan and internal errors speak of columns and types only and keep their text.
fn failure_kind(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Plan(text)
        | DataFusionError::Internal(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Configuration(text) => text.clone(),
        DataFusionError::SchemaError(cause, _) => cause.to_string(),
        DataFusionError::ParquetError(_) => "a Parquet file could not be read or written".to_owned(),
        DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => "an expression failed on a value".to_owned(),
        _ => "no further detail can be shown without showing values".to_owned(),
    }
}
