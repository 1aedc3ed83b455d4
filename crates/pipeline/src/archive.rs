//! Plans for other machines: what one replica planned, another can go on with.
//!
//! Without an archive a plan's files lie on this machine alone, and elsewhere the plan counts as lost: what it had sent is
//! in the ledger, and a new plan holds the rest.

use convoke_core::PlanId;

use crate::Pipeline;
use crate::error::{Error, chain};
use crate::folders::MANIFEST;

impl Pipeline {
    /// Keeps a plan's files where other machines find them, before any row names the plan.
    pub(crate) async fn publish_plan(&self, id: PlanId) -> Result<(), Error> {
        match &self.services.archive {
            Some(archive) => Ok(archive.publish(id, &self.services.folders.plan(id)).await?),
            None => Ok(()),
        }
    }

    /// Brings a plan's files here if another machine made them. Files that are nowhere are told by whoever opens them.
    pub(crate) async fn fetch_plan(&self, id: PlanId) -> Result<(), Error> {
        let folder = self.services.folders.plan(id);
        let Some(archive) = &self.services.archive else { return Ok(()) };
        if !folder.join(MANIFEST).exists() {
            archive.fetch(id, &folder).await?;
        }
        Ok(())
    }

    /// Removes a plan's files here and in the archive; false if some may be left there.
    pub(crate) async fn remove_plan(&self, id: PlanId) -> bool {
        self.services.folders.remove("plans", &id.to_string());
        let Some(archive) = &self.services.archive else { return true };
        match archive.remove(id).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(plan = %id, error = %chain(&error), "a plan could not be removed from the archive");
                false
            }
        }
    }
}
