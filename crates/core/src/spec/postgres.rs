//! A database as a source.

use serde::Serialize;

use crate::ids::ConnectionName;

/// A table or query of a PostgreSQL database. Each run reads it whole, in one snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct PostgresSpec {
    pub connection: ConnectionName,
    pub relation: Relation,
    /// The column that a backfill's `--from` and `--to` are about.
    pub time_column: Option<String>,
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
