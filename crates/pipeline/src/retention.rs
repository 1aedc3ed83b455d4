//! Removes files with personal data once they are no longer needed.

use std::time::Duration;

use convoke_core::{RunId, Timestamp};

use crate::Pipeline;
use crate::error::chain;

/// How long each kind is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Plans, after they ended.
    pub plans_settled: Duration,
    /// Plans that were never applied.
    pub plans_waiting: Duration,
    pub rejects: Duration,
}

impl Pipeline {
    /// Cleans up after a run. Failing to is told, and is no reason to call the run failed.
    pub(crate) async fn clean_up(&self, run: RunId) {
        self.services.folders.remove("spool", &run.to_string());
        let now = self.services.clock.now();
        let before =
            |age: Duration| Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let retention = self.services.retention;
        let state = &self.services.state;
        match state.expired_plans(before(retention.plans_settled), before(retention.plans_waiting)).await {
            Ok(expired) => expired.iter().for_each(|id| self.services.folders.remove("plans", &id.to_string())),
            Err(error) => tracing::warn!(error = %chain(&error), "expired plans could not be listed"),
        }
        if let Err(error) = state.forget_rejects(before(retention.rejects)).await {
            tracing::warn!(error = %chain(&error), "old rejects could not be removed");
        }
    }
}
