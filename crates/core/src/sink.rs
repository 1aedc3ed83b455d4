//! What a destination is to the rest of Convoke.
//!
//! [`AudienceSetup`] finds and creates folders, audiences and columns; [`Sink`] moves rows. Every call is one attempt:
//! limits, retries and the journal are layers around it. The destination assigns ids and knows no idempotency key,
//! so what matters most about an answer is how sure it is: see [`Answer`].

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::data_type::DataType;
use crate::enrichment::{EnrichmentAnswer, EnrichmentJob, EnrichmentScope, RowStates};
use crate::error::SinkError;
use crate::hash::KeyHash;
use crate::ids::{AudienceKey, RowId};
use crate::spec::AudienceSpec;

/// Name of the hidden TEXT column in which Convoke keeps its own key of each row.
pub const KEY_COLUMN: &str = "convoke_key";

/// A destination: both halves.
pub trait Destination: AudienceSetup + Sink {}

impl<T: AudienceSetup + Sink> Destination for T {}

/// Finds and creates what rows need before they can be sent.
#[async_trait]
pub trait AudienceSetup: Send + Sync {
    /// Looks at the destination and changes nothing: exact-name folders and audiences, columns of the audience.
    ///
    /// Where `target.spec.id` or `known_id` is given, the audience is looked up by that id and nothing else; its
    /// absence is [`SinkError::NotFound`].
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError>;

    /// Makes one thing, once. An `Unknown` outcome must be surveyed again before anything is made.
    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError>;
}

/// Moves rows.
///
/// Calls may run in parallel. `Err` stops the run. After [`SinkError::Unauthorized`] and [`SinkError::Quota`] the
/// request was not applied. After [`SinkError::Forbidden`] and [`SinkError::NotFound`] it was not if
/// [`Capabilities::atomic_refusals`] says so; else, and after every other error, a write is in doubt.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What this sink can do, and what may be assumed of it.
    fn capabilities(&self) -> Capabilities;

    /// Makes one attempt at one request.
    async fn send(&self, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError>;

    /// Asks how an accepted job stands.
    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError>;

    /// Finds rows by key or id. Values beyond the limits of [`Capabilities`] are split by the caller.
    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError>;

    /// Reads the audience's rows one bounded page after the other, with the bound columns' cells.
    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError>;

    /// Starts the enrichment of rows. It costs credits and is not idempotent. After an error that leaves a write in doubt
    /// it may have been started.
    async fn enrich(&self, audience: &AudienceBinding, scope: &EnrichmentScope) -> Result<EnrichmentAnswer, SinkError> {
        let _ = scope;
        Err(cannot_enrich(audience))
    }

    /// Asks how an enrichment stands.
    async fn enrichment(&self, audience: &AudienceBinding, job: &JobId) -> Result<EnrichmentJob, SinkError> {
        let _ = job;
        Err(cannot_enrich(audience))
    }

    /// Reads the states of these columns' cells, of the rows of a scope that exist; of a whole audience of its first
    /// `limit` rows.
    async fn cell_states(
        &self,
        audience: &AudienceBinding,
        column_ids: &[String],
        scope: &EnrichmentScope,
        limit: usize,
    ) -> Result<Vec<RowStates>, SinkError> {
        let _ = (column_ids, scope, limit);
        Err(cannot_enrich(audience))
    }
}

fn cannot_enrich(audience: &AudienceBinding) -> SinkError {
    let message = format!("the destination of audience `{}` cannot enrich rows; leave `after` out", audience.name);
    SinkError::Protocol { message }
}

/// What a sink can do, and what the delivery protocol may assume of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Rows per create or update request.
    pub upsert_rows: usize,
    /// Rows per delete request.
    pub delete_rows: usize,
    /// Row ids per look-up.
    pub look_up_ids: usize,
    /// Whether a refused request (402, 403, 404 and what is told as [`Answer::Refused`]) is known to have applied
    /// nothing.
    pub atomic_refusals: bool,
    /// A request commits within this time after it was sent, or never.
    pub max_commit_delay: Duration,
    /// A committed row is found by search within this time.
    pub settle: Duration,
    /// How long one request may take before it is given up.
    pub request_timeout: Duration,
    /// Requests in flight at once.
    pub requests_in_flight: usize,
    /// Rows per enrichment; none: it cannot enrich rows.
    pub enrich_rows: Option<usize>,
}

/// What the user wants to exist at the destination.
#[derive(Clone, Debug)]
pub struct AudienceTarget {
    pub spec: AudienceSpec,
    /// Mapped columns: name and type, in order.
    pub columns: Vec<(String, DataType)>,
}

/// What exists at the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Folders whose name is exactly the wanted one.
    pub folders: Vec<RemoteFolder>,
    /// Audiences with the wanted id, or whose name is exactly the wanted one.
    pub audiences: Vec<RemoteAudience>,
    /// Columns of the audience, if exactly one was found.
    pub columns: Vec<RemoteColumn>,
    /// How the key column can be searched, if it exists and can.
    pub key_look_up: Option<KeyLookUp>,
}

/// A folder as the destination shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFolder {
    pub id: String,
    pub name: String,
}

/// An audience as the destination shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteAudience {
    pub id: String,
    pub name: String,
    /// `CONTACT` or `COMPANY`; other values are kept as they are.
    pub kind: String,
    pub folder_id: Option<String>,
    pub record_count: Option<u64>,
}

/// A column as the destination shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteColumn {
    pub id: String,
    pub name: String,
    /// The API's name of the type; unknown ones are kept.
    pub data_type: String,
    /// `CUSTOM`, `ZOOMINFO_MATCH`, …
    pub column_type: String,
    pub hidden: bool,
    /// `(column id, match field)` pairs of a match column.
    pub match_criteria: Vec<(String, String)>,
}

/// How the key column can be searched, as the destination's filter metadata tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLookUp {
    /// Values per condition.
    pub values_per_request: usize,
    /// Whether rows can be found by the start of the key cell (any attempt) and not only by the whole.
    pub by_prefix: bool,
}

/// One thing to make. None of these is idempotent at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provision {
    Folder {
        name: String,
    },
    Audience {
        name: String,
        kind: String,
        folder_id: String,
        description: Option<String>,
        columns: Vec<NewColumn>,
    },
    Columns {
        audience_id: String,
        columns: Vec<NewColumn>,
    },
    HideColumn {
        audience_id: String,
        column_id: String,
    },
    /// Replaces all criteria: `(column id, match field)`.
    MatchCriteria {
        audience_id: String,
        criteria: Vec<(String, String)>,
    },
}

impl Provision {
    /// Names the thing, for the journal and for messages; the same thing has the same name.
    pub fn describe(&self) -> String {
        match self {
            Self::Folder { name } => format!("folder `{name}`"),
            Self::Audience { name, .. } => format!("audience `{name}`"),
            // Which columns are missing changes from one look to the next, and it is one thing all the same.
            Self::Columns { audience_id, .. } => format!("columns of audience {audience_id}"),
            Self::HideColumn { audience_id, column_id } => {
                format!("hiding of column {column_id} of audience {audience_id}")
            }
            Self::MatchCriteria { audience_id, .. } => format!("match criteria of audience {audience_id}"),
        }
    }

    /// Whether doing it twice leaves the destination as doing it once does.
    pub fn is_idempotent(&self) -> bool {
        matches!(self, Self::HideColumn { .. } | Self::MatchCriteria { .. })
    }
}

/// A column to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewColumn {
    pub name: String,
    pub data_type: DataType,
    /// True for a column that the destination fills by matching (`ZOOMINFO_MATCH`), false for one we fill.
    pub is_match: bool,
}

/// How sure it is that a provision step was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisionAnswer {
    Applied {
        /// What the destination calls the new folder or audience: it may keep another name than it was given.
        id: Option<String>,
    },
    /// Refused for what the step asks. It will not pass unchanged, but a part of it may have been done.
    Refused {
        /// Without values of records and without secrets.
        reason: String,
    },
    /// Certainly not done; may be tried again.
    NotApplied { reason: String, retry_after: Option<Duration> },
    /// May have been done, or may yet be.
    Unknown { reason: String },
}

/// An audience that is ready for rows. Kept in the checkpoint store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceBinding {
    pub key: AudienceKey,
    pub name: String,
    /// Columns in the order of the mapping.
    pub columns: Vec<BoundColumn>,
    pub key_column_id: String,
    pub key_look_up: Option<KeyLookUp>,
}

/// A column of a binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundColumn {
    pub id: String,
    pub name: String,
    pub data_type: DataType,
}

/// Names the attempt that created a row: part of the row's key cell, so that a late double can be told as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptTag(pub u32);

/// The text in a row's [`KEY_COLUMN`] cell: `<32 hex digits of the key hash>.<8 hex digits of the tag>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyCell {
    pub key: KeyHash,
    pub tag: AttemptTag,
}

impl KeyCell {
    /// Reads a cell; none if the text is no key cell of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, tag) = text.trim().split_once('.')?;
        if tag.len() != 8 {
            return None;
        }
        Some(Self { key: KeyHash::from_hex(key)?, tag: AttemptTag(u32::from_str_radix(tag, 16).ok()?) })
    }
}

impl std::fmt::Display for KeyCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:08x}", self.key, self.tag.0)
    }
}

/// One write request.
#[derive(Clone, Debug)]
pub enum Request {
    /// New rows; every row carries a key cell.
    Create {
        cells: RecordBatch,
        key_cells: Vec<KeyCell>,
    },
    /// Rows by id; key cells stay as they are.
    Update {
        cells: RecordBatch,
        row_ids: Vec<RowId>,
    },
    Delete {
        row_ids: Vec<RowId>,
    },
}

impl Request {
    /// `cells` holds one nullable Utf8 column of canonical cell text per bound column, in the binding's order; how
    /// a text stands in JSON follows from the column's [`DataType::json_shape`].
    pub fn row_count(&self) -> usize {
        match self {
            Self::Create { key_cells, .. } => key_cells.len(),
            Self::Update { row_ids, .. } | Self::Delete { row_ids } => row_ids.len(),
        }
    }
}

/// How a request ended, by certainty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The destination says it was applied. Rows that the answer does not hold are in doubt.
    Applied(Vec<AppliedRow>),
    /// A delete was accepted as a job; poll it.
    Accepted(JobId),
    /// Refused for what the request holds (400, 413, 422).
    Refused(Refusal),
    /// Certainly not applied: connection refused, 429, or an overload answer that is declared atomic.
    NotApplied { reason: String, retry_after: Option<Duration> },
    /// May have been applied, or may yet be: time-out, reset, 408, 5xx, unreadable answer.
    Unknown { reason: String },
}

/// One row of an answer, matched to the request by key cell (creates) or row id (updates).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedRow {
    /// Index of the row in the request.
    pub index: usize,
    pub row_id: RowId,
    /// Cells of bound columns that the destination marked as failed.
    pub failed_cells: Vec<FailedCell>,
}

/// A cell that the destination could not take, although it took the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCell {
    pub column: String,
    /// The destination's summary; shown to the operator, so it must not repeat the value.
    pub summary: String,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Refusal {
    /// True for 413: smaller requests may pass.
    pub too_large: bool,
    pub problems: Vec<Problem>,
}

/// One problem of a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The row it points at, if it does.
    pub index: Option<usize>,
    /// The column it points at, if it does.
    pub column: Option<String>,
    /// The destination's code.
    pub code: String,
    /// The destination's title or detail.
    pub detail: String,
}

/// The id of a job that the destination accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub String);

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Running,
    Succeeded,
    /// Ended, but not everything was done: look the rows up.
    Incomplete,
}

/// A question about rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// Rows whose key cell is exactly one of these.
    KeyCells(Vec<KeyCell>),
    /// Rows whose key cell starts with one of these hashes, whatever the attempt. Needs `by_prefix`.
    Keys(Vec<KeyHash>),
    /// Which of these rows exist.
    RowIds(Vec<RowId>),
}

/// A row that a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRow {
    pub row_id: RowId,
    /// The key cell, if the row has one that parses.
    pub key_cell: Option<KeyCell>,
}

/// A bounded part of an audience.
#[derive(Clone, Debug)]
pub struct ScanPage {
    pub rows: Vec<ScannedRow>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A row that a scan read.
#[derive(Clone, Debug)]
pub struct ScannedRow {
    pub row_id: RowId,
    pub key_cell: Option<KeyCell>,
    /// Canonical cell texts, in the order of the binding's columns.
    pub cells: Vec<Option<String>>,
}
