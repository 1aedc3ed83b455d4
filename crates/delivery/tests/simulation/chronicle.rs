//! What happened in a story, line by line: told when it ends badly, and hashed to see that a seed tells it again.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use convoke_core::Clock;
use convoke_testkit::clock::TestClock;

/// Everything that is done to a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    ConnectionRefused,
    LostRequest,
    LostAnswer,
    ErrorAfterCommit,
    AnswerAfterTimeout,
    TruncatedAnswer,
    AnswerOutsideTheContract,
    LateCommit,
    ShuffledAnswer,
    ShortAnswer,
    DuplicatedRequest,
    FailedCells,
    TooManyRequests,
    LongOverload,
    ExpiredToken,
    UsedUpQuota,
    TooLarge,
    PoisonRow,
    VagueRefusal,
    MisleadingRefusal,
    HalfCommittedRefusal,
    SlowJob,
    PartlyDoneJob,
    LostJob,
    FailedRead,
    LaggingSearch,
    Crash,
    LostLease,
    LostPlan,
    MovedSource,
    PersonRemovesARow,
    PersonAddsARow,
}

impl Fault {
    pub(crate) const ALL: [Self; 32] = [
        Self::ConnectionRefused,
        Self::LostRequest,
        Self::LostAnswer,
        Self::ErrorAfterCommit,
        Self::AnswerAfterTimeout,
        Self::TruncatedAnswer,
        Self::AnswerOutsideTheContract,
        Self::LateCommit,
        Self::ShuffledAnswer,
        Self::ShortAnswer,
        Self::DuplicatedRequest,
        Self::FailedCells,
        Self::TooManyRequests,
        Self::LongOverload,
        Self::ExpiredToken,
        Self::UsedUpQuota,
        Self::TooLarge,
        Self::PoisonRow,
        Self::VagueRefusal,
        Self::MisleadingRefusal,
        Self::HalfCommittedRefusal,
        Self::SlowJob,
        Self::PartlyDoneJob,
        Self::LostJob,
        Self::FailedRead,
        Self::LaggingSearch,
        Self::Crash,
        Self::LostLease,
        Self::LostPlan,
        Self::MovedSource,
        Self::PersonRemovesARow,
        Self::PersonAddsARow,
    ];
}

pub(crate) type Counts = BTreeMap<Fault, u64>;

/// The lines of one story so far, and its faults.
pub(crate) struct Chronicle {
    clock: Arc<TestClock>,
    kept: Mutex<(Vec<String>, Counts)>,
}

impl Chronicle {
    pub(crate) fn new(clock: Arc<TestClock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    pub(crate) fn tell(&self, line: impl AsRef<str>) {
        let at = self.clock.elapsed().as_millis();
        self.kept().0.push(format!("{at:>12} {}", line.as_ref()));
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.tell(format!("! {fault:?}"));
        *self.kept().1.entry(fault).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.kept().1.clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.kept().0.clone()
    }

    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.kept().0.hash(&mut hasher);
        hasher.finish()
    }

    fn kept(&self) -> MutexGuard<'_, (Vec<String>, Counts)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
