//! A database as a source.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Serialize;

use crate::ids::ConnectionName;

/// A table or query of a PostgreSQL database.
///
/// Fields that configurations of old did not have are left out of the configuration hash at their defaults.
#[derive(Clone, Debug, Serialize)]
pub struct PostgresSpec {
    pub connection: ConnectionName,
    pub relation: Relation,
    /// The column that a backfill's `--from` and `--to` are about.
    pub time_column: Option<String>,
    #[serde(skip_serializing_if = "UnsupportedTypes::are_refused")]
    pub unsupported: UnsupportedTypes,
    #[serde(skip_serializing_if = "OutOfRange::is_refused")]
    pub out_of_range: OutOfRange,
    /// None: each run reads everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incremental: Option<Incremental>,
    /// How many sessions read a table at the same time. Changes no plan.
    #[serde(skip)]
    pub parallel: NonZeroUsize,
    /// The longest time that a snapshot is held, and so keeps vacuum from what is dead since. Changes no plan.
    #[serde(skip)]
    pub max_snapshot: Duration,
}

impl PostgresSpec {
    /// How long a snapshot may be held unless the configuration says otherwise.
    pub const MAX_SNAPSHOT: Duration = Duration::from_secs(4 * 3600);

    /// A relation that is read whole, by one session, with what is safe for all else.
    pub fn whole(connection: ConnectionName, relation: Relation) -> Self {
        Self {
            connection,
            relation,
            time_column: None,
            unsupported: UnsupportedTypes::default(),
            out_of_range: OutOfRange::default(),
            incremental: None,
            parallel: NonZeroUsize::MIN,
            max_snapshot: Self::MAX_SNAPSHOT,
        }
    }
}

/// What is read of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// `table` or `schema.table`, each part as PostgreSQL stores it: not folded, not yet quoted.
    Table { schema: Option<String>, name: String },
    /// One SELECT without a semicolon at its end.
    Query(String),
}

/// What becomes of a column whose type cannot be read as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsupportedTypes {
    /// Who reads it is told the cast that helps. A column that nobody reads stands in nobody's way.
    #[default]
    Error,
    /// It is as if it were not there, and that is told.
    Skip,
    /// The server writes it as text.
    Text,
}

impl UnsupportedTypes {
    /// Whether such a column is refused.
    pub fn are_refused(&self) -> bool {
        *self == Self::Error
    }
}

/// What becomes of dates and times that are infinite or outside the years 1 to 9999, and of numbers that are not finite
/// in a column of decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfRange {
    /// The first one ends the run, and is told with its column.
    #[default]
    Error,
    /// They are NULL, and are counted.
    Empty,
    /// All values of such columns are text.
    Text,
}

impl OutOfRange {
    /// Whether such a value is refused.
    pub fn is_refused(&self) -> bool {
        *self == Self::Error
    }
}

/// How later runs find what has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incremental {
    pub by: ChangeSign,
    /// After this time a run reads everything again, which is what finds rows that are gone.
    pub full_every: Option<Duration>,
}

/// What tells that a row has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeSign {
    /// A column that each change sets to a later value.
    Column {
        name: String,
        /// How much older a value may be than the start of the transaction that writes it.
        overlap: Duration,
        nulls: NullCursors,
    },
    /// The number of the transaction that wrote the row, which PostgreSQL keeps with it.
    RowVersions,
}

/// What becomes of rows without a value in the column that tells changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NullCursors {
    /// Each run reads them.
    #[default]
    Read,
    /// One of them ends the run.
    Refuse,
}
