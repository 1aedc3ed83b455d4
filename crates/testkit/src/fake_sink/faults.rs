//! What goes wrong, by script or by dice.

use std::collections::VecDeque;
use std::time::Duration;

use convoke_core::sink::{Answer, Capabilities, Refusal};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing goes wrong.
    None,
    /// The request never arrives; the outcome is unknown to the caller.
    LostRequest,
    /// Applied, and the answer gets lost.
    LostAnswer,
    /// The answer gets lost, and the request commits later.
    LateCommit { by: Duration },
    /// Applied, and the answer holds the first half of the rows.
    ShortAnswer,
    /// Applied, and the answer holds the rows in another order.
    Shuffled,
    /// Certainly not applied.
    NotApplied { retry_after: Option<Duration> },
    /// The sink fails without an answer; nothing is applied.
    Unavailable,
    /// The credential may not do this (403). A write of rows is half applied unless refusals are atomic.
    Forbidden,
    /// The gate lets nothing out: the rate budget is used up.
    UsedUp,
    /// A set-up step is refused for what it asks; nothing is made.
    Refused,
    /// A delete is accepted as a job that takes this long.
    SlowJob { by: Duration },
    /// A delete job says that it was not done in full.
    IncompleteJob,
    /// A delete is accepted as a job that takes this long, does the first half of its rows and says so.
    PartJob { by: Duration },
    /// Applied, but for the cells of the first row, which failed.
    FailedCells,
}

/// How much goes wrong.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Share of writes that go wrong, 0 to 1.
    pub writes: f64,
    /// Share of reads that fail, 0 to 1.
    pub reads: f64,
    /// Whether search lags behind commits, up to the declared time.
    pub lagging_search: bool,
    /// Share of refusals that do not say which rows they are about.
    pub blurred_refusals: f64,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self { seed: 0, writes: 0.0, reads: 0.0, lagging_search: false, blurred_refusals: 0.0 }
    }

    /// Everything goes wrong now and then.
    pub fn seeded(seed: u64, writes: f64) -> Self {
        Self { seed, writes, reads: writes / 4.0, lagging_search: true, blurred_refusals: 0.5 }
    }
}

pub(super) struct Dice {
    faults: Faults,
    random: StdRng,
    script: VecDeque<WriteFault>,
}

impl Dice {
    pub(super) fn new(faults: Faults) -> Self {
        let random = StdRng::seed_from_u64(faults.seed);
        Self { faults, random, script: VecDeque::new() }
    }

    pub(super) fn script(&mut self, faults: impl IntoIterator<Item = WriteFault>) {
        self.script.extend(faults);
    }

    pub(super) fn write_fault(&mut self, capabilities: &Capabilities) -> WriteFault {
        if let Some(scripted) = self.script.pop_front() {
            return scripted;
        }
        if !self.random.random_bool(self.faults.writes) {
            return WriteFault::None;
        }
        match self.random.random_range(0..9) {
            0 => WriteFault::LostRequest,
            1 => WriteFault::LostAnswer,
            2 | 3 => WriteFault::LateCommit { by: capabilities.max_commit_delay.mul_f64(self.random.random()) },
            4 => WriteFault::ShortAnswer,
            5 => WriteFault::Shuffled,
            6 => WriteFault::NotApplied { retry_after: None },
            7 => WriteFault::NotApplied { retry_after: Some(Duration::from_secs(self.random.random_range(1..20))) },
            _ => WriteFault::Unavailable,
        }
    }

    pub(super) fn search_lag(&mut self, settle: Duration) -> Duration {
        if !self.faults.lagging_search {
            return Duration::ZERO;
        }
        settle.mul_f64(self.random.random())
    }

    pub(super) fn read_fails(&mut self) -> bool {
        self.random.random_bool(self.faults.reads)
    }

    pub(super) fn next_job_is_cut(&mut self) -> bool {
        self.random.random_bool(self.faults.writes / 2.0)
    }

    /// Takes the places out of some refusals.
    pub(super) fn blur(&mut self, mut refusal: Refusal) -> Answer {
        if self.random.random_bool(self.faults.blurred_refusals) {
            refusal.problems.iter_mut().for_each(|problem| problem.index = None);
        }
        Answer::Refused(refusal)
    }
}

/// An answer that holds the first half of its rows.
pub(super) fn shortened(answer: Answer) -> Answer {
    match answer {
        Answer::Applied(mut rows) => {
            rows.truncate(rows.len() / 2);
            Answer::Applied(rows)
        }
        other => other,
    }
}

/// An answer that holds its rows in another order.
pub(super) fn shuffled(answer: Answer) -> Answer {
    match answer {
        Answer::Applied(mut rows) => {
            rows.reverse();
            Answer::Applied(rows)
        }
        other => other,
    }
}
