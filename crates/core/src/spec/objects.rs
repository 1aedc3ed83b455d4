//! Objects as a source.

use serde::Serialize;

use crate::ids::ConnectionName;

/// Parquet objects on an object store.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectsSpec {
    /// `s3://bucket/prefix/*.parquet` or `file:///folder/**/*.parquet`; the path may hold `*`, `?`, `[…]` and `**`.
    pub url: String,
    pub mode: ObjectsMode,
    /// Whether `name=value` folders of the path are columns.
    pub hive_partitions: bool,
    /// How the store is reached; none: as the environment says (`AWS_…` variables, or the machine's role).
    pub connection: Option<ConnectionName>,
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
