//! The source on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod any_rows;
mod interruptions;
mod refusals;
mod selecting;
mod snapshots;
mod test_source;
mod tls;
mod types;

use async_trait::async_trait;
use convoke_core::source::{Source, Split};
use convoke_testkit::contract::source::{SourceSetUp, SuiteRecord, obeys_the_contract};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};

use crate::test_source::{Sourced, TestSource, literal};

#[tokio::test]
async fn a_table_obeys_the_contract() {
    obeys_the_contract(async || Contacts::new(|source| source.table("contacts")).await).await;
}

#[tokio::test]
async fn a_query_obeys_the_contract() {
    let query = "SELECT * FROM contacts -- all of them";
    obeys_the_contract(async || Contacts::new(|source| source.query(query)).await).await;
}

/// A table that the suite fills.
struct Contacts {
    database: TestDatabase,
    source: TestSource,
}

impl Contacts {
    async fn new(source: impl FnOnce(&TestDatabase) -> TestSource) -> Self {
        let database = PostgresServer::shared().create_database("contract").await;
        database.execute("CREATE TABLE contacts (id text, name text)").await;
        let source = source(&database);
        Self { database, source }
    }
}

#[async_trait]
impl SourceSetUp for Contacts {
    fn source(&self) -> &dyn Source {
        &self.source.source
    }

    async fn put(&self, records: &[SuiteRecord]) {
        let rows = records.iter().map(|(id, name)| format!("({}, {})", literal(id), literal(name)));
        let rows = rows.collect::<Vec<_>>().join(", ");
        self.database.execute(&format!("TRUNCATE contacts; INSERT INTO contacts VALUES {rows}")).await;
    }

    async fn replace(&self, _split: &Split) -> bool {
        self.database.execute("ALTER TABLE contacts ADD COLUMN city text").await;
        true
    }

    fn tells_unchanged(&self) -> bool {
        false
    }
}
