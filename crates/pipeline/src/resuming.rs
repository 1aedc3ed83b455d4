//! Whether an interrupted plan goes on: the source is looked at again first, without being read.
//!
//! A plan goes on as long as the source holds what it was made from. Once something newer has taken its place, the rest
//! is given up: it would send old values, and delete rows whose records are there again. If the source cannot confirm
//! the plan and nothing newer is known, creates and updates go on, because the plan is durable; deletes do not.

use convoke_core::plan::PlannedSource;
use convoke_core::source::{Coverage, Discover, Discovery, Split, SplitResult};
use convoke_core::state::{PlanRecord, RunRecord, RunState};

use crate::applying::Deletes;
use crate::error::{Error, chain};
use crate::lease::LeaseKeeper;
use crate::{Event, Pipeline};

/// How the source stands to what an interrupted plan was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It is there as it was read.
    Same,
    /// Something newer has taken its place.
    Overtaken { reason: String },
    /// It cannot be seen, and nothing newer is known.
    Unconfirmed { reason: String },
}

impl Pipeline {
    /// Goes on with an interrupted plan, unless the source has overtaken it: then the plan is given up, and there is no
    /// state to return.
    pub(crate) async fn resume(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        keeper: &LeaseKeeper,
    ) -> Result<Option<RunState>, Error> {
        let id = plan.manifest.id;
        let deletes = match self.standing(&plan.manifest.source).await? {
            Standing::Overtaken { reason } => {
                self.abandon(plan, &reason).await?;
                return Ok(None);
            }
            Standing::Unconfirmed { reason } if plan.manifest.counts.deletes > 0 => {
                let text = format!(
                    "{reason}; what plan {id} has left to delete is cancelled until a plan from the source finds it again"
                );
                self.notice(text.clone());
                run.message = Some(text);
                Deletes::Cancelled
            }
            Standing::Same | Standing::Unconfirmed { .. } => Deletes::Sent,
        };
        self.report(Event::Resuming { plan: id });
        Box::pin(self.apply_plan(run, plan, deletes, keeper)).await.map(Some)
    }

    async fn standing(&self, planned: &PlannedSource) -> Result<Standing, Error> {
        // A source that was as it had been was not read, and the plan sends nothing of it.
        let Some(proposed) = &planned.proposed else { return Ok(Standing::Same) };
        let request = Discover { stored: Some(proposed), reread: planned.coverage == Coverage::Snapshot };
        Ok(match self.unless_cancelled(self.sync.source.discover(request)).await? {
            Ok(found) => compare(planned, &found),
            Err(error) => {
                let reason = format!("the source does not show what was read of it: {}", chain(&error));
                Standing::Unconfirmed { reason }
            }
        })
    }
}

/// Holds what a plan was made from against a discovery from the position that it proposes.
fn compare(planned: &PlannedSource, found: &Discovery) -> Standing {
    let is_known = |split: &Split| planned.outcomes.iter().any(|outcome| outcome.split == *split);
    let has_known_name = |split: &Split| planned.outcomes.iter().any(|outcome| outcome.split.name == split.name);
    let mut others = found.splits.iter().filter(|split| !is_known(split));
    let newer = match planned.coverage {
        Coverage::Snapshot => others.next(),
        // One more file changes nothing about those that were read.
        Coverage::Delta => others.find(|split| has_known_name(split)),
    };
    if let Some(newer) = newer {
        let what = if has_known_name(newer) { "was replaced" } else { "has come" };
        return Standing::Overtaken { reason: format!("`{}` {what} since it was made", newer.name) };
    }
    let is_there =
        |split: &Split| found.splits.contains(split) || found.settled.iter().any(|outcome| outcome.split == *split);
    let read = planned.outcomes.iter().filter(|outcome| matches!(outcome.result, SplitResult::Read { .. }));
    match read.map(|outcome| &outcome.split).find(|split| !is_there(split)) {
        Some(Split { name, .. }) => {
            Standing::Unconfirmed { reason: format!("`{name}` is no longer there as it was read") }
        }
        None => Standing::Same,
    }
}

#[cfg(test)]
mod tests {
    use convoke_core::source::SplitOutcome;
    use serde_json::json;

    use super::*;

    fn split(name: &str, version: u32) -> Split {
        Split { name: name.to_owned(), detail: json!(version), bytes: None }
    }

    fn read(split: Split) -> SplitOutcome {
        SplitOutcome { split, result: SplitResult::Read { fingerprint: String::new(), records: 1 } }
    }

    fn standing(coverage: Coverage, plan: &[Split], splits: &[Split], settled: &[Split]) -> Standing {
        let outcomes = |splits: &[Split]| splits.iter().cloned().map(read).collect();
        let planned =
            PlannedSource { coverage, complete: true, proposed: None, outcomes: outcomes(plan), notices: Vec::new() };
        let found = Discovery {
            unchanged: splits.is_empty(),
            splits: splits.to_vec(),
            coverage,
            settled: outcomes(settled),
            notices: Vec::new(),
        };
        compare(&planned, &found)
    }

    fn overtaken(reason: &str) -> Standing {
        Standing::Overtaken { reason: reason.to_owned() }
    }

    #[test]
    fn a_snapshot_stands_until_there_is_another_one() {
        let (one, two) = (split("1.csv", 1), split("2.csv", 1));
        let plan = std::slice::from_ref(&one);
        let of_snapshot = |splits: &[Split], settled: &[Split]| standing(Coverage::Snapshot, plan, splits, settled);
        assert_eq!(of_snapshot(plan, &[]), Standing::Same);
        assert_eq!(of_snapshot(&[], plan), Standing::Same);
        assert_eq!(of_snapshot(&[two], &[]), overtaken("`2.csv` has come since it was made"));
        assert_eq!(of_snapshot(&[split("1.csv", 2)], &[]), overtaken("`1.csv` was replaced since it was made"));
        assert!(matches!(of_snapshot(&[], &[]), Standing::Unconfirmed { reason } if reason.contains("`1.csv`")));
    }

    #[test]
    fn an_addition_stands_until_one_of_its_files_is_replaced() {
        let plan = [split("1.csv", 1), split("2.csv", 1)];
        let of_delta = |splits: &[Split], settled: &[Split]| standing(Coverage::Delta, &plan, splits, settled);
        assert_eq!(of_delta(&[], &plan), Standing::Same);
        assert_eq!(of_delta(&[split("3.csv", 1)], &plan), Standing::Same);
        assert_eq!(of_delta(&[split("2.csv", 2)], &plan[..1]), overtaken("`2.csv` was replaced since it was made"));
        assert!(matches!(of_delta(&[], &plan[..1]), Standing::Unconfirmed { reason } if reason.contains("`2.csv`")));
    }

    #[test]
    fn what_could_not_be_read_need_not_be_there() {
        let broken =
            SplitOutcome { split: split("2.csv", 1), result: SplitResult::Broken { reason: "not closed".to_owned() } };
        let planned = PlannedSource {
            coverage: Coverage::Delta,
            complete: false,
            proposed: None,
            outcomes: vec![read(split("1.csv", 1)), broken],
            notices: Vec::new(),
        };
        let settled = vec![read(split("1.csv", 1))];
        let found =
            Discovery { splits: Vec::new(), coverage: Coverage::Delta, unchanged: true, settled, notices: Vec::new() };
        assert_eq!(compare(&planned, &found), Standing::Same);
    }
}
