//! The checkpoint store on SQLite against its contract, and what SQLite alone has to show.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

mod disk_full;
mod journal_model;
mod opening;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::state::StateStore;
use convoke_state::{DatabaseClock, OpenMode, SqliteState};
use convoke_testkit::contract::state::StateFixture;
use tempfile::TempDir;

struct SqliteFixture {
    folder: TempDir,
    clock: DatabaseClock,
}

impl SqliteFixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: DatabaseClock::default() }
    }
}

#[async_trait]
impl StateFixture for SqliteFixture {
    async fn open(&self) -> Arc<dyn StateStore> {
        let path = self.folder.path().join("state/convoke.db");
        Arc::new(SqliteState::open_with_clock(&path, OpenMode::ReadWrite, self.clock.clone()).await.unwrap())
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

convoke_testkit::state_contract!(SqliteFixture::new());
