//! Whether the daemon lives, and whether it can do its work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use convoke_core::Clock;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// The loop moves every few seconds. One that has not for this long hangs, and only a restart helps.
pub(crate) const HEARTBEAT_LIMIT: Duration = Duration::from_secs(60);

/// A store that was asked and has not answered for this long is down.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What the loop tells about itself, and what follows from it.
pub(crate) struct Status {
    clock: Arc<dyn Clock>,
    drain: CancellationToken,
    seen: Mutex<Seen>,
}

struct Seen {
    /// When the loop moved last.
    beat_at: Duration,
    store: Store,
}

#[derive(Clone, Copy)]
enum Store {
    Unasked,
    /// When it answered last.
    Answers(Duration),
    Fails,
}

/// A part of the daemon that is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NotReady {
    pub(crate) part: &'static str,
    pub(crate) reason: String,
}

/// How the store changed in the loop's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreChange {
    Same,
    WentDown,
    CameBack,
}

impl Status {
    pub(crate) fn new(clock: Arc<dyn Clock>, drain: CancellationToken) -> Self {
        let seen = Mutex::new(Seen { beat_at: clock.elapsed(), store: Store::Unasked });
        Self { clock, drain, seen }
    }

    /// The loop moves.
    pub(crate) fn beat(&self) {
        self.seen().beat_at = self.clock.elapsed();
    }

    /// The store answered, or failed to.
    pub(crate) fn note_store(&self, answered: bool) -> StoreChange {
        let mut seen = self.seen();
        let was_down = matches!(seen.store, Store::Fails);
        seen.store = if answered { Store::Answers(self.clock.elapsed()) } else { Store::Fails };
        match (was_down, answered) {
            (false, false) => StoreChange::WentDown,
            (true, true) => StoreChange::CameBack,
            _ => StoreChange::Same,
        }
    }

    /// For how long the loop has not moved, if that is too long.
    pub(crate) fn standstill(&self) -> Option<Duration> {
        let still = self.clock.elapsed().saturating_sub(self.seen().beat_at);
        (still > HEARTBEAT_LIMIT).then_some(still)
    }

    /// What keeps the daemon from its work; empty: nothing.
    pub(crate) fn not_ready(&self) -> Vec<NotReady> {
        let mut parts = Vec::new();
        let mut push = |part, reason: &str| parts.push(NotReady { part, reason: reason.to_owned() });
        if self.drain.is_cancelled() {
            push("drain", "no new runs are begun; those that are under way come to their end");
        }
        if self.standstill().is_some() {
            push("loop", "the scheduler does not move");
        }
        match self.seen().store {
            Store::Answers(at) if self.clock.elapsed().saturating_sub(at) <= ANSWER_LIMIT => {}
            Store::Unasked => push("store", "the checkpoint store has not answered yet"),
            Store::Answers(_) => push("store", "the checkpoint store does not answer"),
            Store::Fails => push("store", "the checkpoint store fails; the log says how"),
        }
        parts
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
