//! Plans that are not made from source and ledger alone: one that also deletes surplus rows, and one that is only counted.

use convoke_core::ledger::LedgerManifest;
use convoke_core::plan::PlanFile;
use convoke_core::{PlanId, RunId};
use convoke_engine::Planned;
use uuid::Uuid;

use super::Basis;
use crate::Pipeline;
use crate::error::Error;
use crate::run::Extent;

/// A plan that is about to be computed.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: PlanId,
    /// Deletes of surplus rows, in the plan's folder already.
    pub(crate) surplus: Option<PlanFile>,
}

impl Draft {
    pub(crate) fn new() -> Self {
        Self { id: PlanId(Uuid::now_v7()), surplus: None }
    }

    /// Takes the surplus into what was planned, before guards look at it.
    pub(super) fn add_surplus(self, planned: &mut Planned) {
        let Some(surplus) = self.surplus else { return };
        planned.counts.deletes += surplus.rows;
        planned.files.push(surplus);
    }
}

impl Pipeline {
    /// Computes what a plan over the whole source would change if the ledger were this one. No row will name the plan: its
    /// files are the caller's to remove.
    pub(crate) async fn plan_against(&self, id: PlanId, run: RunId, ledger: LedgerManifest) -> Result<Planned, Error> {
        let basis = Basis { ledger: Some(ledger), ..self.read_basis().await? };
        let extent = Extent { full: true, ..Extent::default() };
        Ok(self.compute_steadily(id, run, &extent, &basis).await?.planned)
    }

    /// Refuses what planning would refuse before it reads the source: another audience, another key, a stale list.
    pub(crate) async fn refuse_unfit(&self) -> Result<(), Error> {
        self.read_basis().await.map(drop)
    }
}
