//! Whether a plan still stands to its source: the source is looked at again first. What is newer is read to its end, to
//! see that it can be; nothing else is read.
//!
//! The plan of a snapshot stands as long as the source holds what it was made from. Once something newer has taken its
//! place, the rest is given up: it would send old values, and delete rows whose records are there again. If the source
//! cannot confirm the plan and nothing newer is known, the plan goes on, because it is durable; but a mirror deletes no
//! row then.
//!
//! The plan of an addition stands whatever the source holds by now: what it has not sent yet may be nowhere else, and
//! what is newer is read after it.

use std::collections::HashMap;

use convoke_core::plan::PlannedSource;
use convoke_core::source::{Coverage, Discover, Discovery, Split, SplitContent, SplitItem, SplitResult};
use convoke_core::spec::SyncMode;
use convoke_core::state::{PlanRecord, RunRecord, RunState};
use convoke_delivery::courier::tally;
use convoke_engine::broken_parquet;
use futures::StreamExt;

use crate::applying::Deletes;
use crate::error::{Error, chain};
use crate::lease::LeaseKeeper;
use crate::{Event, Pipeline};

/// How the source stands to what a plan was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It holds nothing against the plan.
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
        match self.take_source(plan).await {
            Err(error) if error.is_changed_source() => {
                self.abandon_enriched(run.id, plan, &chain(&error), keeper).await?;
                return Ok(None);
            }
            // It was taken before anything was sent, and nobody else has it.
            Err(error) => self.notice(format!("the claim on the source could not be renewed: {}", chain(&error))),
            Ok(()) => {}
        }
        let deletes = match self.standing(&plan.manifest.source).await? {
            Standing::Overtaken { reason } => {
                self.abandon_enriched(run.id, plan, &reason, keeper).await?;
                return Ok(None);
            }
            Standing::Unconfirmed { reason } => self.unconfirmed_deletes(run, plan, &reason).await?,
            Standing::Same => Deletes::Sent,
        };
        self.report(Event::Resuming { plan: plan.manifest.id });
        Box::pin(self.apply_plan(run, plan, deletes, keeper)).await.map(Some)
    }

    /// What becomes of the deletes of a plan that its source does not confirm. A delete list asked for its own by name;
    /// elsewhere than in a mirror only suppression lists delete, and those have not moved.
    async fn unconfirmed_deletes(
        &self,
        run: &mut RunRecord,
        plan: &PlanRecord,
        reason: &str,
    ) -> Result<Deletes, Error> {
        let id = plan.manifest.id;
        let settled = tally(self.services.state.as_ref(), id).await?.deletes.settled();
        if self.sync.spec.mode != SyncMode::Mirror || settled >= plan.manifest.counts.deletes {
            return Ok(Deletes::Sent);
        }
        let text = format!(
            "{reason}; what plan {id} has left to delete is cancelled until a plan from the source finds it again"
        );
        self.notice(text.clone());
        run.message = Some(text);
        Ok(Deletes::Cancelled)
    }

    /// Holds a plan against its source as it is now.
    pub(crate) async fn standing(&self, planned: &PlannedSource) -> Result<Standing, Error> {
        self.letting_go(self.ask_for_standing(planned)).await
    }

    async fn ask_for_standing(&self, planned: &PlannedSource) -> Result<Standing, Error> {
        // A source that was as it had been was not read, and the plan sends nothing of it.
        let Some(proposed) = &planned.proposed else { return Ok(Standing::Same) };
        if planned.coverage == Coverage::Delta {
            return Ok(Standing::Same);
        }
        if !self.sync.source.confirms_snapshots() {
            let reason = "the source does not tell whether it has changed since".to_owned();
            return Ok(Standing::Unconfirmed { reason });
        }
        let request = Discover { stored: Some(proposed), reread: true };
        self.tell_settling().await;
        let discover = async || Ok(self.sync.source.discover(request).await?);
        let found = match self.ask_source("listing the source", discover).await {
            Ok(found) => found,
            Err(error @ Error::Interrupted) => return Err(error),
            Err(error) => {
                let reason = format!("the source does not show what was read of it: {}", chain(&error));
                return Ok(Standing::Unconfirmed { reason });
            }
        };
        let Some(newer) = newer_than(planned, &found) else { return Ok(confirm(planned, &found)) };
        Ok(match self.why_unreadable(newer).await? {
            Some(why) => {
                Standing::Unconfirmed { reason: format!("`{}` has come since, but is broken: {why}", newer.name) }
            }
            None => Standing::Overtaken { reason: overtaken_by(planned, newer) },
        })
    }

    /// Why a split cannot be read to its end, if so: then it is no newer truth, and what lies before it is no truth
    /// either once a part of the plan is applied.
    async fn why_unreadable(&self, split: &Split) -> Result<Option<String>, Error> {
        let mut items = match self.unless_cancelled(self.sync.source.read(split)).await? {
            Ok(SplitContent::Stream(items)) => items,
            Ok(SplitContent::Parquet(parquet)) => {
                let judged = self.unless_cancelled(broken_parquet(split, parquet)).await?;
                return Ok(judged.unwrap_or_else(|error| Some(chain(&error))));
            }
            Err(error) => return Ok(Some(chain(&error))),
        };
        while let Some(item) = self.unless_cancelled(items.next()).await? {
            match item {
                Ok(SplitItem::Broken { reason }) => return Ok(Some(reason)),
                Ok(_) => {}
                Err(error) => return Ok(Some(chain(&error))),
            }
        }
        Ok(None)
    }
}

/// What a discovery from the position that a snapshot's plan proposes has found instead of what the plan was made from.
fn newer_than<'f>(planned: &PlannedSource, found: &'f Discovery) -> Option<&'f Split> {
    let known = ByName::of(planned.outcomes.iter().map(|outcome| &outcome.split));
    found.splits.iter().find(|split| !known.holds(split))
}

/// Splits, looked up by their names: there may be a hundred thousand.
struct ByName<'s>(HashMap<&'s str, Vec<&'s Split>>);

impl<'s> ByName<'s> {
    fn of(splits: impl Iterator<Item = &'s Split>) -> Self {
        let mut named: HashMap<&str, Vec<&Split>> = HashMap::new();
        for split in splits {
            named.entry(&split.name).or_default().push(split);
        }
        Self(named)
    }

    fn holds(&self, split: &Split) -> bool {
        self.0.get(split.name.as_str()).is_some_and(|named| named.contains(&split))
    }
}

fn overtaken_by(planned: &PlannedSource, newer: &Split) -> String {
    let has_known_name = planned.outcomes.iter().any(|outcome| outcome.split.name == newer.name);
    let what = if has_known_name { "was replaced" } else { "has come" };
    format!("`{}` {what} since it was made", newer.name)
}

/// Holds what a plan was made from against a discovery that found nothing newer.
fn confirm(planned: &PlannedSource, found: &Discovery) -> Standing {
    let there = ByName::of(found.splits.iter().chain(found.settled.iter().map(|outcome| &outcome.split)));
    let read = planned.outcomes.iter().filter(|outcome| matches!(outcome.result, SplitResult::Read { .. }));
    match read.map(|outcome| &outcome.split).find(|split| !there.holds(split)) {
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

    fn standing(plan: Vec<SplitOutcome>, splits: &[Split], settled: &[Split]) -> Standing {
        let planned = PlannedSource {
            coverage: Coverage::Snapshot,
            complete: true,
            proposed: None,
            outcomes: plan,
            notices: Vec::new(),
        };
        let found = Discovery {
            unchanged: splits.is_empty(),
            splits: splits.to_vec(),
            coverage: Coverage::Snapshot,
            settled: settled.iter().cloned().map(read).collect(),
            notices: Vec::new(),
        };
        match newer_than(&planned, &found) {
            Some(newer) => Standing::Overtaken { reason: overtaken_by(&planned, newer) },
            None => confirm(&planned, &found),
        }
    }

    fn overtaken(reason: &str) -> Standing {
        Standing::Overtaken { reason: reason.to_owned() }
    }

    #[test]
    fn a_snapshot_stands_until_there_is_another_one() {
        let (one, two) = (split("1.csv", 1), split("2.csv", 1));
        let plan = std::slice::from_ref(&one);
        let found = |splits: &[Split], settled: &[Split]| standing(vec![read(one.clone())], splits, settled);
        assert_eq!(found(plan, &[]), Standing::Same);
        assert_eq!(found(&[], plan), Standing::Same);
        assert_eq!(found(&[two], &[]), overtaken("`2.csv` has come since it was made"));
        assert_eq!(found(&[split("1.csv", 2)], &[]), overtaken("`1.csv` was replaced since it was made"));
        assert!(matches!(found(&[], &[]), Standing::Unconfirmed { reason } if reason.contains("`1.csv`")));
    }

    #[test]
    fn splits_of_one_name_are_told_apart() {
        let both = [split("1.csv", 1), split("1.csv", 2)];
        let plan = || both.iter().cloned().map(read).collect::<Vec<_>>();
        assert_eq!(standing(plan(), &both, &[]), Standing::Same);
        assert!(matches!(standing(plan(), &both[..1], &[]), Standing::Unconfirmed { .. }));
        let newer = standing(plan(), &[split("1.csv", 3)], &[]);
        assert_eq!(newer, overtaken("`1.csv` was replaced since it was made"));
    }

    #[test]
    fn what_could_not_be_read_need_not_be_there() {
        let broken =
            SplitOutcome { split: split("2.csv", 1), result: SplitResult::Broken { reason: "not closed".to_owned() } };
        let one = split("1.csv", 1);
        assert_eq!(standing(vec![read(one.clone()), broken], &[], &[one]), Standing::Same);
    }
}
