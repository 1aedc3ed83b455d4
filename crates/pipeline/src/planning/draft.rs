//! Plans that are not made from source and ledger alone: one that also mends what an audit found, and one that is only
//! counted.

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
    /// Rows that the ledger names and that are to be made again, in the plan's folder already.
    pub(crate) absent: Option<PlanFile>,
}

impl Draft {
    pub(crate) fn new() -> Self {
        Self { id: PlanId(Uuid::now_v7()), surplus: None, absent: None }
    }

    /// Takes what is in the plan's folder already into what was planned, before guards look at it.
    pub(super) fn end(self, planned: &mut Planned) {
        planned.counts.deletes += self.surplus.as_ref().map_or(0, |surplus| surplus.rows);
        planned.files.extend([self.surplus, self.absent].into_iter().flatten());
    }
}

impl Pipeline {
    /// Computes what a plan over the whole source would change if the ledger were this one. No row will name the plan: its
    /// files are the caller's to remove.
    pub(crate) async fn plan_against(&self, id: PlanId, run: RunId, ledger: LedgerManifest) -> Result<Planned, Error> {
        let basis = Basis { ledger: Some(ledger), ..self.read_basis().await? };
        let extent = Extent { full: true, only_counted: true, ..Extent::default() };
        Ok(self.compute_steadily(id, run, &extent, &basis).await?.planned)
    }

    /// Refuses what planning would refuse before it reads the source: another audience, another key, a stale list.
    pub(crate) async fn refuse_unfit(&self) -> Result<(), Error> {
        self.read_basis().await.map(drop)
    }
}
