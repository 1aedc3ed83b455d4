//! Counts each plan once, however many runs it takes to apply it: the record of a run tells of the whole plan.

use std::collections::HashMap;

use convoke_core::journal::Operation;
use convoke_core::plan::{DeliveryCounts, OperationCounts, PlanCounts};
use convoke_core::state::RunRecord;
use convoke_core::{PlanId, SyncName};

pub(super) const OUTCOMES: [&str; 5] = ["acknowledged", "in_part", "rejected", "cancelled", "found_removed"];

pub(super) const FATES: [&str; 13] = [
    "filtered",
    "invalid",
    "superseded",
    "unchanged",
    "suppressed",
    "skipped_by_mode",
    "removed_respected",
    "held_back",
    "refused_before",
    "listed",
    "deleted",
    "create",
    "update",
];

/// What was counted of the plan that each sync was about last.
#[derive(Debug, Default)]
pub(super) struct Tally {
    last: HashMap<SyncName, (PlanId, Counted)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    records: bool,
    delivery: DeliveryCounts,
}

/// What a run adds.
pub(super) struct New {
    pub(super) changes: Vec<(Operation, &'static str, u64)>,
    pub(super) records: Vec<(&'static str, u64)>,
}

impl Tally {
    /// What this run adds to what was counted of its plan before.
    pub(super) fn add(&mut self, sync: &SyncName, run: &RunRecord) -> New {
        let same_plan = self.last.get(sync).filter(|(plan, _)| run.plan == Some(*plan));
        let before = same_plan.map_or_else(Counted::default, |(_, counted)| *counted);
        let counts = run.counts.filter(|_| !before.records);
        let delivery = run.delivery.unwrap_or(before.delivery);
        if let Some(plan) = run.plan {
            let counted = Counted { records: before.records || counts.is_some(), delivery };
            self.last.insert(sync.clone(), (plan, counted));
        }
        let changes = Operation::ALL.into_iter().flat_map(|operation| {
            let (now, then) = (outcomes(delivery.of(operation)), outcomes(before.delivery.of(operation)));
            (0..OUTCOMES.len()).map(move |index| (operation, OUTCOMES[index], now[index].saturating_sub(then[index])))
        });
        let records = counts.map(|counts| FATES.into_iter().zip(fates(&counts)).collect());
        New { changes: changes.collect(), records: records.unwrap_or_default() }
    }
}

/// In the order of [`OUTCOMES`].
fn outcomes(counts: &OperationCounts) -> [u64; OUTCOMES.len()] {
    [
        counts.acknowledged.saturating_sub(counts.failed),
        counts.failed,
        counts.rejected,
        counts.cancelled,
        counts.found_removed,
    ]
}

/// In the order of [`FATES`].
fn fates(counts: &PlanCounts) -> [u64; FATES.len()] {
    [
        counts.filtered,
        counts.invalid,
        counts.superseded,
        counts.unchanged,
        counts.suppressed,
        counts.skipped_by_mode,
        counts.removed_respected,
        counts.held_back,
        counts.refused_before,
        counts.listed,
        counts.deleted,
        counts.creates,
        counts.updates,
    ]
}
