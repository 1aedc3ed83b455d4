//! What a model is started with: the world, what may go wrong in it and how often, and the bug planted in the driver.

use std::collections::BTreeMap;

use crate::destination::{Content, Key, SETTLE};

/// How often something may still happen on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Answers that are lost, short, or ask to come later.
    pub(crate) faults: u8,
    /// Ends of the process; what it had sent may still reach the destination for the time-out of a request.
    pub(crate) crashes: u8,
    /// Crashes that lose the plan's files as well.
    pub(crate) lost_plans: u8,
    /// Requests that outlive the bound within which they should have committed.
    pub(crate) stragglers: u8,
    /// Rows of ours that a person deletes, rows that a person edits, and rows that a person adds.
    pub(crate) person: u8,
    /// New versions of the source, seen by a new plan.
    pub(crate) source_moves: u8,
    /// Requests without an answer that the network delivers twice.
    pub(crate) duplicates: u8,
    /// Orders to stop.
    pub(crate) cancels: u8,
    /// Runs that end while they settle, because the rate budget lets out a part of their look-ups.
    pub(crate) shortages: u8,
    /// Rows whose cells the destination could not take, as its answer says.
    pub(crate) failed_cells: u8,
}

/// What refusals say about the rows that they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pointing {
    Nowhere,
    Right,
    Wrong,
}

/// A bug planted between the machine and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    SendBeforeJournal,
    RetryOnUnknown,
    SingleLookUp,
    SingleLookUpWhenShort,
    RestForgottenWhenShort,
    NoSweep,
    FoldAtTheEnd,
    BisectWithoutReadBack,
    NoWaitForTheTimeout,
    NoQuiet,
    NoQuietAfterTheSweep,
    SweepWithoutJournal,
    SweepByKeyAlone,
    JobTakenForDone,
    JobNotAwaited,
    AskForEver,
    BlindResend,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What the source holds.
    pub(crate) source: BTreeMap<Key, Content>,
    /// What the source holds once it has moved; empty: the same keys, with new contents.
    pub(crate) moved: BTreeMap<Key, Content>,
    /// What the audience and the ledger hold at first.
    pub(crate) before: BTreeMap<Key, Content>,
    pub(crate) rows_per_batch: usize,
    /// Keys that the destination refuses.
    pub(crate) poison: Vec<Key>,
    pub(crate) pointing: Pointing,
    pub(crate) atomic_refusals: bool,
    /// Whether deletes are accepted as jobs.
    pub(crate) deletes_by_job: bool,
    /// Whether rows can be found by their key cells. If not, creates are blind, by consent.
    pub(crate) key_look_up: bool,
    /// Ticks that search really lags for; the machine assumes [`SETTLE`].
    pub(crate) lag: u8,
    /// Whether each request is held against what stands and what is in flight. Not where requests outlive their bound:
    /// there the sweep has to make up for it.
    pub(crate) watches_sends: bool,
    pub(crate) budget: Budget,
    pub(crate) mutant: Option<Mutant>,
}

impl Scenario {
    /// Two keys to create in one batch; nothing goes wrong.
    pub(crate) fn creates(name: &'static str) -> Self {
        Self {
            name,
            source: BTreeMap::from([(1, 1), (2, 1)]),
            moved: BTreeMap::new(),
            before: BTreeMap::new(),
            rows_per_batch: 2,
            poison: Vec::new(),
            pointing: Pointing::Nowhere,
            atomic_refusals: true,
            deletes_by_job: false,
            key_look_up: true,
            lag: SETTLE,
            watches_sends: true,
            budget: Budget::default(),
            mutant: None,
        }
    }

    /// One row to update, and one to delete.
    pub(crate) fn changes(name: &'static str) -> Self {
        Self { source: BTreeMap::from([(1, 2)]), before: BTreeMap::from([(1, 1), (2, 1)]), ..Self::creates(name) }
    }

    pub(crate) fn with(self, mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }

    pub(crate) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
