//! Validated specifications: what a sync is, after its YAML has been checked.
//!
//! A value of these types cannot be invalid as far as that can be known without reaching out; the `config` crate
//! is the only one that makes them from YAML.

mod csv_drop;
mod object_stores;
mod objects;
mod postgres;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;

pub use crate::audience_kind::AudienceKind;
use crate::data_type::DataType;
use crate::ids::{ConnectionName, SyncName};
use crate::rule::Rule;
pub use csv_drop::{CsvDropSpec, DropMode, DropPlace, ProcessedFiles};
pub use object_stores::{
    AzureConnection, AzureCredentials, GcsConnection, GcsCredentials, ObjectStoreConnection, S3Connection,
    S3Credentials, S3Profile, S3WebIdentity,
};
pub use objects::{CsvObjects, ObjectFormat, ObjectsMode, ObjectsSpec, SchemaPolicy};
pub use postgres::{ChangeSign, Incremental, NullCursors, OutOfRange, PostgresSpec, Relation, UnsupportedTypes};

/// One configured source → mapping → audience.
///
/// Its `Serialize` form is what the configuration hash is taken over: it holds everything that changes what a plan
/// contains, and no secret.
#[derive(Clone, Debug, Serialize)]
pub struct SyncSpec {
    pub name: SyncName,
    pub source: SourceSpec,
    /// Records that do not satisfy this are `filtered`.
    pub filter: Option<Filter>,
    /// Records that satisfy this say that they are deleted. Left out of the configuration hash where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Filter>,
    /// The mapping, in the order of the file.
    pub columns: Vec<ColumnSpec>,
    /// Names of the mapped columns that identify a record; at least one.
    pub key: Vec<String>,
    pub dedupe: Dedupe,
    pub audience: AudienceSpec,
    pub mode: SyncMode,
    pub guards: Guards,
    pub suppressions: Vec<Suppression>,
    /// For how long a record that the destination refused is sent again by each plan.
    pub resend_for: Duration,
    /// Whether another sync may write the same audience.
    pub shared: bool,
    /// Left out of the configuration hash at its default.
    #[serde(skip_serializing_if = "RemovedRows::are_respected")]
    pub removed_at_destination: RemovedRows,
    /// What happens after a run. Not part of the configuration hash: it changes no plan.
    #[serde(skip)]
    pub after: Option<AfterRun>,
    /// When the sync runs by itself. Not part of the configuration hash: it changes no plan.
    #[serde(skip)]
    pub schedule: ScheduleSpec,
    /// Whether it also runs as soon as something has come to the source. Not part of the configuration hash.
    #[serde(skip)]
    pub arrival: Option<ArrivalSpec>,
}

/// What happens after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterRun {
    pub enrich: EnrichedRows,
    /// How long a run waits for enrichments at most; what goes on longer is looked at by the next run.
    pub wait: Duration,
}

/// Which rows are enriched after a run that created or updated any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrichedRows {
    /// Those that it created or updated.
    Changed,
    /// The whole audience.
    All,
}

/// Where records come from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceSpec {
    CsvDrop(CsvDropSpec),
    Objects(ObjectsSpec),
    Postgres(PostgresSpec),
    /// None any more: the sync comes to its end. No configuration says so.
    Retired,
}

impl SourceSpec {
    /// Whether what is read is the whole truth, so that absence means something.
    pub fn is_snapshot(&self) -> bool {
        match self {
            Self::CsvDrop(spec) => spec.drop_mode == DropMode::Snapshot,
            Self::Objects(spec) => spec.mode == ObjectsMode::Snapshot,
            // Also if it is incremental: now and then a run reads everything.
            Self::Postgres(spec) => {
                spec.incremental.as_ref().is_none_or(|incremental| incremental.full_every.is_some())
            }
            Self::Retired => false,
        }
    }

    /// Whether a run reads only what has changed, unless it is to read everything: such a run finds no record that is gone.
    pub fn reads_changes(&self) -> bool {
        matches!(self, Self::Postgres(spec) if spec.incremental.is_some())
    }
}

/// When a sync runs by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ScheduleSpec {
    /// Only when somebody asks.
    #[default]
    Manual,
    Cron(CronSpec),
}

/// A sync runs as soon as something has come to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivalSpec {
    /// How often the source is looked at, whatever a watcher tells.
    pub scan: Duration,
}

/// A five-field cron expression in a time zone; checked where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronSpec {
    pub expression: String,
    /// IANA name, `Europe/Berlin`.
    pub timezone: String,
    /// Each run starts up to this long after its time, by a delay that is the same for the same sync and time.
    pub jitter: Duration,
    /// Whether the newest of the times that were missed, while nothing served them, is made up for.
    pub catch_up: bool,
}

/// Which records a sync takes; the others are filtered out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    Rule(Rule),
    /// A SQL predicate over the source's columns.
    Sql(String),
}

/// How one audience column is filled.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnSpec {
    /// The audience column's name.
    pub name: String,
    pub expression: Expression,
    pub data_type: DataType,
}

/// Where a column's values come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// A source column, as it is.
    Column(String),
    /// A SQL expression over the source's columns.
    Sql(String),
}

/// Which of several records with one key is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Dedupe {
    pub keep: Keep,
    /// Criteria in order of weight. Empty: the record's position in the source decides.
    /// Ties break on the content hash, so the outcome does not depend on the order of reading.
    pub by: Vec<OrderBy>,
}

/// Which end of the order wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The greatest order value wins; NULL loses.
    Latest,
    /// The smallest order value wins; NULL loses.
    First,
}

/// One order criterion: a SQL expression over the source's columns. `descending` applies to rules only: it makes
/// the smaller value win.
#[derive(Clone, Debug, Serialize)]
pub struct OrderBy {
    pub expression: Expression,
    pub descending: bool,
}

/// The audience that a sync fills.
#[derive(Clone, Debug, Serialize)]
pub struct AudienceSpec {
    pub connection: ConnectionName,
    pub name: String,
    /// The destination's own id, where the user gives one: it goes before the name.
    pub id: Option<String>,
    pub kind: AudienceKind,
    /// Folder name; none: a folder with the audience's name.
    pub folder: Option<String>,
    pub description: Option<String>,
    /// `(mapped column, match field)`, for example `(Email, CONTACT_EMAIL)`.
    pub match_criteria: Vec<(String, String)>,
    /// Columns that the destination fills by matching: `(name, ZI_CONTACT_ID | ZI_COMPANY_ID)`.
    pub match_columns: Vec<(String, DataType)>,
}

/// What a sync may do to its audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// Creates and updates; never deletes.
    Upsert,
    /// The audience's rows of this sync become exactly the source's records. Needs a complete snapshot.
    Mirror,
    /// Creates only.
    InsertOnly,
    /// Updates only.
    UpdateOnly,
    /// The source lists keys whose rows are deleted.
    DeleteList,
}

impl SyncMode {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Mirror => "mirror",
            Self::InsertOnly => "insert_only",
            Self::UpdateOnly => "update_only",
            Self::DeleteList => "delete_list",
        }
    }
}

/// What becomes of a row that somebody deleted at the destination, while the source still has its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovedRows {
    /// It stays deleted.
    #[default]
    Respect,
    /// It is created again, once it is known to be gone.
    Restore,
}

impl RemovedRows {
    /// Whether what a person deleted stays deleted.
    pub fn are_respected(&self) -> bool {
        *self == Self::Respect
    }
}

/// Limits that a whole plan is held against before the first write. A plan over one waits for approval.
#[derive(Clone, Debug, Serialize)]
pub struct Guards {
    pub max_delete: Limit,
    pub max_update: Limit,
    /// Does not apply to a first load.
    pub max_create: Limit,
    /// Share of the records read that may be invalid.
    pub max_invalid: Limit,
    /// Records read that are malformed or whose key cannot be read. Beyond it a mirror deletes nothing for want of a
    /// record: what cannot be read may be what is missed. The rest of the plan goes on.
    pub max_unreadable: Limit,
    /// Rows of the audience that the ledger does not explain, of those it holds. An audience that never was ours is not let
    /// through by it.
    pub max_unexplained: Limit,
    /// Share of the plan's changes that the destination may refuse, in part or whole; passing it stops delivery.
    pub max_reject: Limit,
    /// How much smaller than the last snapshot the source may be.
    pub max_shrink: Limit,
    /// Whether a source without any record is believed.
    pub allow_empty: bool,
}

/// A limit in percent, in records, or both; it is passed when every part that is given is passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limit {
    pub percent: Option<f64>,
    pub records: Option<u64>,
}

impl Limit {
    /// A limit in percent alone.
    pub const fn percent(percent: f64) -> Self {
        Self { percent: Some(percent), records: None }
    }

    /// A limit in records alone.
    pub const fn records(records: u64) -> Self {
        Self { percent: None, records: Some(records) }
    }

    /// A limit that nothing passes.
    pub const fn unlimited() -> Self {
        Self { percent: None, records: None }
    }

    /// Whether `count` out of `base` passes this limit.
    pub fn is_passed(&self, count: u64, base: u64) -> bool {
        let percent_passed = self.percent.map(|percent| count as f64 * 100.0 > percent * base as f64);
        let records_passed = self.records.map(|records| count > records);
        match (percent_passed, records_passed) {
            (None, None) => false,
            (percent, records) => percent.unwrap_or(true) && records.unwrap_or(true),
        }
    }
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            max_delete: Limit { percent: Some(10.0), records: Some(50) },
            max_update: Limit::percent(50.0),
            max_create: Limit::percent(50.0),
            max_invalid: Limit { percent: Some(10.0), records: Some(50) },
            max_unreadable: Limit::records(0),
            max_unexplained: Limit::records(0),
            max_reject: Limit { percent: Some(10.0), records: Some(50) },
            max_shrink: Limit::percent(50.0),
            allow_empty: false,
        }
    }
}

/// A list of people who must not be sent, ever. It fails closed: a missing, stale or damaged list stops the run.
#[derive(Clone, Debug, Serialize)]
pub struct Suppression {
    pub path: PathBuf,
    /// The list's column.
    pub column: String,
    /// The mapped column it is compared with; the list's values go through that column's expression first.
    pub audience_column: String,
    /// What becomes of rows that are already in the audience. `Remove` needs `audience_column` to be the whole key.
    pub existing: ExistingRows,
    /// A list file older than this is stale.
    pub max_age: Duration,
    /// Entries that are no value of the compared column; with more of them the list is taken for a damaged one.
    pub max_unusable: Limit,
}

/// What becomes of the rows of suppressed people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExistingRows {
    Remove,
    Leave,
}

/// How a PostgreSQL database is reached. Not part of any hash; holds secrets.
#[derive(Clone, Debug)]
pub struct PostgresConnection {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    /// None: the environment's or the password file's, as libpq has it, else none is given.
    pub password: Option<SecretString>,
    pub tls: TlsMode,
    /// PEM file with certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Duration,
    /// Longest time for one statement; a read of a source counts from its first to its last row.
    pub statement_timeout: Duration,
}

/// How much a connection insists on TLS; the words are libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    /// TLS if the server has it. An attacker can switch it off.
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// TLS, with a certificate of a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate is for this host.
    VerifyFull,
}

/// How a GTM Studio (or Convoke store) destination is reached. Not part of any hash; holds secrets.
#[derive(Clone, Debug)]
pub struct GtmConnection {
    pub name: ConnectionName,
    pub endpoint: GtmEndpoint,
    pub http: HttpSettings,
    pub rate: RateLimits,
    /// Requests in flight at once.
    pub requests_in_flight: usize,
    /// A request commits within this time or never.
    pub max_commit_delay: Duration,
    /// A committed row is found by search within this time.
    pub settle: Duration,
    /// Consent to creating rows although the key column cannot be searched.
    pub allow_blind_creates: bool,
}

/// Where the service is.
#[derive(Clone, Debug)]
pub enum GtmEndpoint {
    /// The embedded store, started on a free loopback port for the life of the process.
    Embedded { data: PathBuf },
    /// A service: GTM Studio itself or a `convoke store`.
    Remote { base_url: String, token_url: String, client_id: String, client_secret: SecretString },
}

/// One block for every HTTP client.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// Explicit proxy; none: the environment's.
    pub proxy: Option<String>,
    /// PEM file with further certificate authorities.
    pub ca_file: Option<PathBuf>,
}

/// Requests that one credential may make; `None`: no limit in that window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    pub per_second: Option<u32>,
    pub per_hour: Option<u32>,
    pub per_day: Option<u32>,
}
