//! What a drill does, round by round: the same for the same seed. Pure.

use std::time::Duration;

use convoke_core::boundary::Boundary;
use convoke_fault_proxy::{Fault, FaultScript, Rule};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// What goes wrong in a round, besides that the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Nothing,
    LostAnswers,
    FailedAfterCommit,
    LateCommits,
    LostRequests,
    ShortAnswers,
    RefusedInPart,
    LostPlan,
}

/// How much later a late commit comes; well below what the rehearsal's connection allows for.
const LATE_BY: Duration = Duration::from_millis(200);

impl Trouble {
    const ALL: [Self; 8] = [
        Self::Nothing,
        Self::LostAnswers,
        Self::FailedAfterCommit,
        Self::LateCommits,
        Self::LostRequests,
        Self::ShortAnswers,
        Self::RefusedInPart,
        Self::LostPlan,
    ];

    /// What the table says.
    pub(super) fn describe(self) -> Option<&'static str> {
        Some(match self {
            Self::Nothing => return None,
            Self::LostAnswers => "answers lost",
            Self::FailedAfterCommit => "500 after the commit",
            Self::LateCommits => "commits late",
            Self::LostRequests => "requests lost",
            Self::ShortAnswers => "rows missing from answers",
            Self::RefusedInPart => "refused with a part done",
            Self::LostPlan => "plan lost",
        })
    }

    fn fault(self) -> Option<Fault> {
        Some(match self {
            Self::Nothing | Self::LostPlan => return None,
            Self::LostAnswers => Fault::DropAnswer,
            Self::FailedAfterCommit => Fault::FailAfterCommit { status: 500 },
            Self::LateCommits => Fault::CommitLate { after: LATE_BY },
            Self::LostRequests => Fault::DropRequest,
            Self::ShortAnswers => Fault::LeaveOutRows { every: 3 },
            Self::RefusedInPart => Fault::RefuseInPart { status: 400, mark: None },
        })
    }
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// From 1.
    pub(super) number: u32,
    pub(super) trouble: Trouble,
    /// Requests that pass before the trouble begins, and how many it befalls.
    skipped: u64,
    befallen: u64,
    /// Where the process is killed, if it gets there, and at which passing.
    pub(super) boundary: Boundary,
    pub(super) passing: u32,
    /// The records in the source, ascending, each with the number of the round in which it last changed.
    pub(super) records: Vec<(u32, i64)>,
}

impl Round {
    /// What the proxy does.
    pub(super) fn script(&self) -> FaultScript {
        let Some(fault) = self.trouble.fault() else { return FaultScript::none() };
        let on = |method, path| Rule::on(method, path, fault.clone()).after(self.skipped).times(self.befallen);
        FaultScript::rules(vec![on("POST", "bulk/upsert"), on("DELETE", "bulk/delete")])
    }
}

/// Draws the rounds over so many records. All kinds of trouble come up before one does again, and so do all boundaries.
pub(super) fn rounds(seed: u64, count: u32, records: u32) -> Vec<Round> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut troubles = Deck::new(Trouble::ALL.to_vec());
    let passed = |boundary: &Boundary| passings(*boundary) > 0;
    let mut boundaries = Deck::new(Boundary::ALL.iter().copied().filter(passed).collect());
    let mut source = Source::new(records);
    let draw = |number: u32| {
        let boundary = boundaries.draw(&mut random);
        let passings = if number > 1 { passings(boundary) } else { 1 };
        Round {
            number,
            trouble: troubles.draw(&mut random),
            skipped: random.random_range(0..=1),
            befallen: random.random_range(1..=2),
            boundary,
            passing: random.random_range(1..=passings),
            records: source.next_day(i64::from(number), &mut random),
        }
    };
    (1..=count).map(draw).collect()
}

/// How often a run passes a boundary at least, if it creates, updates and deletes rows.
fn passings(boundary: Boundary) -> u32 {
    match boundary {
        Boundary::BeforePlanFile
        | Boundary::AfterPlanFile
        | Boundary::BeforePlanRow
        | Boundary::AfterPlanRow
        | Boundary::BeforeFold
        | Boundary::AfterFold
        | Boundary::BeforeCheckpoint
        | Boundary::AfterCheckpoint => 1,
        Boundary::BeforeIntent
        | Boundary::AfterIntent
        | Boundary::BeforeSend
        | Boundary::AfterSend
        | Boundary::BeforeAnswer
        | Boundary::AfterAnswer
        | Boundary::BeforeAcknowledge
        | Boundary::AfterAcknowledge => 3,
        // A drill has nothing enriched.
        Boundary::BeforeEnrichment | Boundary::AfterEnrichment => 0,
    }
}

/// Cards that are drawn in random order, and shuffled again once all were.
struct Deck<T> {
    cards: Vec<T>,
    drawn: usize,
}

impl<T: Copy> Deck<T> {
    fn new(cards: Vec<T>) -> Self {
        let drawn = cards.len();
        Self { cards, drawn }
    }

    fn draw(&mut self, random: &mut StdRng) -> T {
        if self.drawn == self.cards.len() {
            self.cards.shuffle(random);
            self.drawn = 0;
        }
        self.drawn += 1;
        self.cards[self.drawn - 1]
    }
}

/// Which records are in the source, and when each last changed.
struct Source {
    records: Vec<(bool, i64)>,
}

impl Source {
    fn new(records: u32) -> Self {
        Self { records: vec![(false, 0); usize::try_from(records).unwrap_or(usize::MAX)] }
    }

    /// Some records go, some change, some come; one stays, because an empty source is another story.
    fn next_day(&mut self, day: i64, random: &mut StdRng) -> Vec<(u32, i64)> {
        for (is_there, changed) in &mut self.records {
            let comes = !*is_there && random.random_bool(0.6);
            let goes = *is_there && random.random_bool(0.15);
            if comes || (*is_there && random.random_bool(0.3)) {
                *changed = day;
            }
            *is_there = comes || (*is_there && !goes);
        }
        if let Some(first) = self.records.first_mut() {
            first.0 = true;
        }
        let numbered = (0..).zip(&self.records);
        numbered.filter(|(_, (is_there, _))| *is_there).map(|(index, (_, changed))| (index, *changed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rounds_and_another_one_others() {
        assert_eq!(rounds(7, 20, 50), rounds(7, 20, 50));
        assert_ne!(rounds(7, 20, 50), rounds(8, 20, 50));
    }

    #[test]
    fn every_boundary_and_every_kind_of_trouble_comes_up_before_one_does_again() {
        let rounds = rounds(1, 16, 1);
        let boundaries: BTreeSet<_> = rounds.iter().map(|round| round.boundary.as_str()).collect();
        assert_eq!(boundaries.len(), Boundary::ALL.iter().filter(|boundary| passings(**boundary) > 0).count());
        let troubles: BTreeSet<_> = rounds[..8].iter().map(|round| round.trouble.describe()).collect();
        assert_eq!(troubles.len(), Trouble::ALL.len());
    }

    #[test]
    fn records_come_change_and_go_and_the_source_is_never_empty() {
        let rounds = rounds(3, 12, 200);
        let days: Vec<BTreeSet<_>> = rounds.iter().map(|round| round.records.iter().copied().collect()).collect();
        for pair in days.windows(2) {
            let ids = |day: &BTreeSet<(u32, i64)>| day.iter().map(|(index, _)| *index).collect::<BTreeSet<_>>();
            let (before, after) = (ids(&pair[0]), ids(&pair[1]));
            assert!(after.difference(&before).next().is_some(), "somebody comes");
            assert!(before.difference(&after).next().is_some(), "somebody goes");
            assert!(pair[1].difference(&pair[0]).any(|(index, _)| before.contains(index)), "somebody changes");
        }
        let single = super::rounds(3, 50, 1);
        assert!(single.iter().all(|round| round.records.len() == 1));
    }
}
