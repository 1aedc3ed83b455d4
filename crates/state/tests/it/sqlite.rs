//! The checkpoint store on SQLite.

mod disk_full;
mod opening;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::state::StateStore;
use convoke_state::{DatabaseClock, OpenMode, SqliteState};
use convoke_testkit::contract::state::StateFixture;
use tempfile::TempDir;

/// An empty folder for a database file.
pub(crate) struct SqliteFixture {
    folder: TempDir,
    clock: DatabaseClock,
}

impl SqliteFixture {
    pub(crate) fn new() -> Self {
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
