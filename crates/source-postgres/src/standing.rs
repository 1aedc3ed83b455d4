//! What a relation is like, as far as it decides how it is read.

use convoke_core::SourceError;
use convoke_core::spec::Relation;
use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use crate::failure::Failures;
use crate::relation::from_of;

/// A table with its partitions and all that inherits from it.
const PARTS: &str = "WITH RECURSIVE parts(oid) AS ( \
     SELECT pg_catalog.to_regclass($1)::oid \
     UNION SELECT inhrelid FROM pg_catalog.pg_inherits JOIN parts ON inhparent = parts.oid) \
     SELECT pg_class.oid, coalesce(pg_catalog.pg_relation_filenode(pg_class.oid), 0::oid), relkind::text, \
     coalesce(amname::text, ''), \
     coalesce(pg_catalog.pg_relation_size(pg_class.oid), 0) / current_setting('block_size')::int8 \
     FROM parts JOIN pg_catalog.pg_class USING (oid) LEFT JOIN pg_catalog.pg_am ON pg_am.oid = relam ORDER BY 1";

/// The cluster, the database and the timeline. A standby takes the timeline from the last checkpoint.
const DATABASE: &str = "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text || '/' || oid || '/' \
     || CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) \
     ELSE ('x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8))::bit(32)::int4 END \
     FROM pg_catalog.pg_database WHERE datname = current_database()";

const NOW: &str = "SELECT floor(extract(epoch FROM statement_timestamp()) * 1000000)::int8, \
     pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8";

/// Scans of a range of blocks are there from this version on; before, each range would scan the table.
const RANGES_SINCE: u32 = 140_000;

/// A table, a part of one, or what is called like a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) oid: u32,
    /// Number of its file, which another takes the place of when the table is emptied.
    pub(crate) file: u32,
    kind: String,
    access: String,
    blocks: i64,
}

impl Part {
    fn is_heap(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "m") && self.access == "heap"
    }
}

/// The parts of a table; empty for a query.
pub(crate) async fn parts_of(
    connection: &mut PgConnection,
    relation: &Relation,
    failures: &Failures,
) -> Result<Vec<Part>, SourceError> {
    if matches!(relation, Relation::Query(_)) {
        return Ok(Vec::new());
    }
    let asked = sqlx::query_as(PARTS).persistent(false).bind(from_of(relation)).fetch_all(connection).await;
    let rows: Vec<(Oid, Oid, String, String, i64)> = asked.map_err(|error| failures.asking(error))?;
    let part = |(oid, file, kind, access, blocks): (Oid, Oid, _, _, _)| Part {
        oid: oid.0,
        file: file.0,
        kind,
        access,
        blocks,
    };
    Ok(rows.into_iter().map(part).collect())
}

/// Whether every row has a place in a heap, with the number of who wrote it.
pub(crate) fn are_heaps(parts: &[Part]) -> bool {
    !parts.is_empty() && parts.iter().all(|part| part.is_heap() || part.kind == "p")
}

/// How many blocks the largest part has, if the relation can be read in ranges of blocks.
pub(crate) fn blocks_to_divide(parts: &[Part], version: Option<u32>) -> Option<u64> {
    let is_possible = are_heaps(parts) && version.is_some_and(|version| version >= RANGES_SINCE);
    let blocks = parts.iter().map(|part| part.blocks).max().filter(|_| is_possible)?;
    u64::try_from(blocks).ok()
}

/// What tells one database from another, and from itself after a restore. None if it may not be known. Outside of a
/// transaction: a refusal would end it.
pub(crate) async fn database_of(connection: &mut PgConnection) -> Option<String> {
    sqlx::query_scalar(DATABASE).persistent(false).fetch_one(connection).await.ok()
}

/// The server's time, in microseconds since 1970, and the number that the next transaction gets.
pub(crate) async fn now_of(connection: &mut PgConnection, failures: &Failures) -> Result<(i64, i64), SourceError> {
    let asked = sqlx::query_as(NOW).persistent(false).fetch_one(connection).await;
    asked.map_err(|error| failures.asking(error))
}
