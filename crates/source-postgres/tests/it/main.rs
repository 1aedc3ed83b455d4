//! The source on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod any_rows;
mod incremental;
mod interruptions;
mod numbers;
mod parallel;
mod policies;
mod refusals;
mod selecting;
mod snapshots;
mod test_source;
mod tls;
mod types;
mod writers;

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use convoke_core::source::{Coverage, Source, Split};
use convoke_core::spec::ChangeSign;
use convoke_testkit::contract::source::{SourceSetUp, SuiteRecord, obeys_the_contract};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};

use crate::incremental::{by_column, incremental};
use crate::test_source::{Sourced, TestSource, literal, table};

#[tokio::test]
async fn a_table_obeys_the_contract() {
    obeys_the_contract(async || Contacts::new(|source| source.table("contacts")).await).await;
}

#[tokio::test]
async fn a_query_obeys_the_contract() {
    let query = "SELECT * FROM contacts -- all of them";
    obeys_the_contract(async || Contacts::new(|source| source.query(query)).await).await;
}

#[tokio::test]
async fn a_table_read_by_the_time_of_its_changes_obeys_the_contract() {
    obeys_the_contract(async || Contacts::incremental(by_column("updated_at")).await).await;
}

#[tokio::test]
async fn a_table_read_by_the_versions_of_its_rows_obeys_the_contract() {
    obeys_the_contract(async || Contacts::incremental(ChangeSign::RowVersions).await).await;
}

#[tokio::test]
async fn a_table_read_by_several_sessions_obeys_the_contract() {
    let ranges = |database: &TestDatabase| {
        TestSource::with(database.connection(), table("contacts"), |spec| {
            spec.parallel = std::num::NonZeroUsize::new(3).unwrap();
        })
    };
    obeys_the_contract(async || Contacts::new(ranges).await).await;
}

/// A table that the suite fills.
struct Contacts {
    database: TestDatabase,
    source: TestSource,
    /// Times of what is put: long ago, so that they tell by themselves where the next read begins.
    hours: AtomicU32,
}

impl Contacts {
    async fn new(source: impl FnOnce(&TestDatabase) -> TestSource) -> Self {
        let database = PostgresServer::shared().create_database("contract").await;
        database.execute("CREATE TABLE contacts (id text, name text, updated_at timestamptz)").await;
        let source = source(&database);
        Self { database, source, hours: AtomicU32::new(0) }
    }

    async fn incremental(by: ChangeSign) -> Self {
        Self::new(|database| incremental(database.connection(), table("contacts"), by)).await
    }
}

#[async_trait]
impl SourceSetUp for Contacts {
    fn source(&self) -> &dyn Source {
        &self.source.source
    }

    async fn put(&self, records: &[SuiteRecord]) {
        let hours = self.hours.fetch_add(1, Ordering::Relaxed);
        let at = format!("timestamptz '2026-01-01 00:00+00' + interval '{hours} hours'");
        let rows = records.iter().map(|(id, name)| format!("({}, {}, {at})", literal(id), literal(name)));
        let rows = rows.collect::<Vec<_>>().join(", ");
        self.database.execute(&format!("TRUNCATE contacts; INSERT INTO contacts VALUES {rows}")).await;
    }

    async fn replace(&self, _split: &Split) -> bool {
        self.database.execute("ALTER TABLE contacts ADD COLUMN city text").await;
        true
    }

    /// What is put takes the place of what was there.
    fn adds_up(&self, _coverage: Coverage) -> bool {
        false
    }

    fn tells_unchanged(&self) -> bool {
        false
    }
}
