//! Objects as a source.

use std::time::Duration;

use serde::Serialize;

use crate::ids::ConnectionName;

/// Objects on an object store.
///
/// What was added to it later is left out of its `Serialize` form at its default, so that a configuration which does not
/// name it keeps its hash.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectsSpec {
    /// `s3://bucket/prefix/*.parquet` or `file:///folder/**/*.parquet`; the path may hold `*`, `?`, `[…]` and `**`.
    pub url: String,
    pub mode: ObjectsMode,
    /// Whether `name=value` folders of the path are columns.
    pub hive_partitions: bool,
    /// How the store is reached; none: as the environment says (`AWS_…` variables, or the machine's role).
    pub connection: Option<ConnectionName>,
    #[serde(skip_serializing_if = "ObjectFormat::is_parquet")]
    pub format: ObjectFormat,
    #[serde(skip_serializing_if = "SchemaPolicy::is_widen")]
    pub schema: SchemaPolicy,
    /// An object that was written less than this ago is left for later. Changes no plan, only when it is made.
    #[serde(skip)]
    pub settle: Duration,
}

/// What the objects say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectsMode {
    /// All matching objects together are the whole truth.
    Snapshot,
    /// Each new or replaced object adds or updates records.
    Append,
}

/// How records stand in an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectFormat {
    /// Read where it is, column by column.
    #[default]
    Parquet,
    Avro {
        /// An object with a larger share of records that cannot be carried is broken as a whole, 0 to 1.
        max_malformed: f64,
    },
    Ndjson {
        max_malformed: f64,
    },
    Csv(CsvObjects),
}

/// How CSV objects are to be understood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CsvObjects {
    /// Field separator, one ASCII character; none: told by the object itself.
    pub delimiter: Option<char>,
    /// A name that the web knows, or `auto`: told by the object itself.
    pub encoding: String,
    /// Other spellings of header names: `(spelling in the object, name used in the mapping)`.
    pub aliases: Vec<(String, String)>,
    pub max_malformed: f64,
}

impl ObjectFormat {
    pub fn is_parquet(&self) -> bool {
        *self == Self::Parquet
    }
}

/// What is done about columns that differ from object to object, and from those of what was read before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaPolicy {
    /// Any difference is refused.
    Strict,
    /// Columns come and go, and types are widened where no value changes.
    #[default]
    Widen,
    /// As `Widen`, but columns that were not known before are left out.
    IgnoreNew,
}

impl SchemaPolicy {
    pub fn is_widen(&self) -> bool {
        *self == Self::Widen
    }
}

impl ObjectsSpec {
    /// Parquet objects with nothing but what has to be said of them.
    pub fn parquet(url: impl Into<String>, mode: ObjectsMode) -> Self {
        Self {
            url: url.into(),
            mode,
            hive_partitions: false,
            connection: None,
            format: ObjectFormat::Parquet,
            schema: SchemaPolicy::Widen,
            settle: Duration::ZERO,
        }
    }
}
