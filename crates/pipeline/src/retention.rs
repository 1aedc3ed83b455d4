//! Removes files with personal data once they are no longer needed.

use std::time::Duration;

use convoke_core::state::{PlanRecord, PlanState, RunState};
use convoke_core::{PlanId, RunId, StateError, Timestamp};
use uuid::Uuid;

use crate::Pipeline;
use crate::error::{Error, chain};

/// A spool that no run knows belongs to a preview; none takes this long.
const LONGEST_PREVIEW: Duration = Duration::from_secs(24 * 60 * 60);

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
        let retention = self.services.retention;
        let state = &self.services.state;
        if let Err(error) = self.remove_expired_plans().await {
            tracing::warn!(error = %chain(&error), "expired plans could not be removed");
        }
        if let Err(error) = state.forget_rejects(self.ago(retention.rejects)).await {
            tracing::warn!(error = %chain(&error), "old rejects could not be removed");
        }
        if let Err(error) = self.remove_leftovers().await {
            tracing::warn!(error = %chain(&error), "what killed runs left could not be looked for");
        }
    }

    async fn remove_expired_plans(&self) -> Result<(), Error> {
        let Retention { plans_settled, plans_waiting, .. } = self.services.retention;
        let state = &self.services.state;
        for id in state.expired_plans(self.ago(plans_settled), self.ago(plans_waiting)).await? {
            // What is forgotten is never named again, so it must be gone.
            if !self.remove_plan(id).await {
                continue;
            }
            match state.forget_plan(id).await {
                // Somebody applies it at this moment, and will find its files gone.
                Ok(()) | Err(StateError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes what processes left that were killed before anything named their files.
    async fn remove_leftovers(&self) -> Result<(), Error> {
        let Self { services, .. } = self;
        let plans_before = self.ago(services.retention.plans_waiting.max(services.retention.plans_settled));
        for name in services.folders.list("plans") {
            let Some(id) = PlanId::parse(&name) else { continue };
            // With replicas, one of them forgets a plan, and each has to remove its own copy of the files.
            let is_ended = |plan: &PlanRecord| !matches!(plan.state, PlanState::Waiting | PlanState::Applying);
            let is_old = made_at(id.0).is_some_and(|made_at| made_at < plans_before);
            if is_old && services.state.plan(id).await?.as_ref().is_none_or(is_ended) {
                services.folders.remove("plans", &name);
            }
        }
        let previews_before = self.ago(LONGEST_PREVIEW);
        // What is brought from the archive stands beside the plan's folder until it is whole.
        for name in services.folders.list("plans") {
            let Some(id) = name.strip_suffix(".fetched").and_then(PlanId::parse) else { continue };
            if made_at(id.0).is_none_or(|made_at| made_at < previews_before) {
                services.folders.remove("plans", &name);
            }
        }
        for name in services.folders.list("spool") {
            let Some(id) = RunId::parse(&name) else { continue };
            let is_left = match services.state.run(id).await? {
                Some(run) => run.state != RunState::Running,
                None => made_at(id.0).is_some_and(|made_at| made_at < previews_before),
            };
            if is_left {
                services.folders.remove("spool", &name);
            }
        }
        Ok(())
    }

    fn ago(&self, age: Duration) -> Timestamp {
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.services.clock.now().0.saturating_sub(millis))
    }
}

/// When an id was given out: ours tell the time.
fn made_at(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    Some(Timestamp(i64::try_from(seconds).ok()?.saturating_mul(1000) + i64::from(nanos / 1_000_000)))
}
