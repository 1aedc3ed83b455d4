//! The checkpoint store on PostgreSQL.

mod broken;
mod opening;
mod proxy;
mod racing;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::hash::{ContentHash, KeyHash};
use convoke_core::ids::{ConnectionName, PlanId};
use convoke_core::journal::{Intent, IntentRow, Operation, RowOutcome};
use convoke_core::ledger::{LedgerIdentity, LedgerManifest};
use convoke_core::sink::AttemptTag;
use convoke_core::state::StateStore;
use convoke_core::{AudienceKey, RowId, SyncName, Timestamp};
use convoke_state::{DatabaseClock, OpenMode, PostgresState};
use convoke_testkit::contract::state::StateFixture;
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use uuid::Uuid;

const TTL: Duration = Duration::from_secs(60);

/// An empty database.
pub(crate) struct PostgresFixture {
    database: TestDatabase,
    clock: DatabaseClock,
}

impl PostgresFixture {
    pub(crate) async fn new() -> Self {
        Self { database: PostgresServer::shared().create_database("state").await, clock: DatabaseClock::default() }
    }

    async fn state(&self) -> PostgresState {
        let connection = self.database.connection();
        PostgresState::open_with_clock(&connection, OpenMode::ReadWrite, self.clock.clone()).await.unwrap()
    }

    /// Returns once this many sessions wait for a lock.
    async fn until_waiting(&self, sessions: u64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while self.database.value(waiting).await != sessions.to_string() {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl StateFixture for PostgresFixture {
    async fn open(&self) -> Arc<dyn StateStore> {
        Arc::new(self.state().await)
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

convoke_testkit::state_contract!(PostgresFixture::new().await);

fn audience() -> AudienceKey {
    AudienceKey { connection: ConnectionName::new("zoominfo"), audience_id: "one".to_owned() }
}

fn intent(batch: u32) -> Intent {
    let row = IntentRow {
        key: KeyHash([1; 16]),
        content: ContentHash([2; 16]),
        order: [3].into_iter().collect(),
        row_id: None,
    };
    Intent {
        plan: PlanId(Uuid::from_u128(1)),
        sync: SyncName::new("booth-scans"),
        audience: audience(),
        batch,
        operation: Operation::Create,
        attempt: 1,
        tag: AttemptTag(batch),
        intended_at: Timestamp(5),
        rows: vec![row],
    }
}

fn made() -> Vec<RowOutcome> {
    vec![RowOutcome::Acknowledged { row_id: RowId::new("made") }]
}

fn manifest(version: u64) -> LedgerManifest {
    LedgerManifest {
        audience: audience(),
        version,
        segments: Vec::new(),
        live: 0,
        live_by_owner: Vec::new(),
        identity: LedgerIdentity {
            hash_key_id: "0123456789abcdef".to_owned(),
            key_spec: "Email:EMAIL".to_owned(),
            normalizer_version: 1,
            encoding_version: 1,
        },
    }
}
