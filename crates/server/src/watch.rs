//! When a sync that runs on arrival is to be looked at, and when what has come is to be run: pure decisions.
//!
//! A look is cheap: it reads no records. What it sees goes by a mark: a run is made once for each mark, so what a run leaves
//! where it is starts no other one. A failed run is tried again with growing pauses, for as long as the same lies there.

use std::time::Duration;

use convoke_core::Timestamp;

use crate::agenda::Moment;

/// While files keep coming, a run waits for the last of them, but no longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A look that a watcher asks for waits this long: what comes in a burst is looked at together.
const GATHERING: Duration = Duration::from_millis(500);

/// A failed run is not tried more rarely than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// What a look saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Stands for what there is to be read.
    pub(crate) mark: Option<u64>,
    pub(crate) count: u64,
    pub(crate) settling: Option<Duration>,
}

/// What a turn did about what had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) mark: u64,
    /// Whether the run failed in a way that may pass by itself.
    pub(crate) failed: bool,
}

/// One sync that runs on arrival.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// How often is looked at least.
    scan: Duration,
    /// The next look, by the monotonic clock.
    look_at: Duration,
    /// Since when something is there for which no run was made, by both clocks.
    new_since: Option<(Timestamp, Duration)>,
    /// Whether a run is to be made for it now.
    is_ready: bool,
    tried: Option<Tried>,
    count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    mark: u64,
    failures: u32,
    /// When it is tried again, after a failure.
    again_at: Option<Duration>,
}

impl Watch {
    pub(crate) fn new(scan: Duration) -> Self {
        Self { scan, look_at: Duration::ZERO, new_since: None, is_ready: false, tried: None, count: 0 }
    }

    pub(crate) fn look_at(&self) -> Duration {
        self.look_at
    }

    /// Since when a run is to be made.
    pub(crate) fn wanted_since(&self) -> Option<Timestamp> {
        self.new_since.filter(|_| self.is_ready).map(|(since, _)| since)
    }

    /// How much has come and is not read, as far as was seen.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Something may have come.
    pub(crate) fn wake(&mut self, elapsed: Duration) {
        self.look_at = self.look_at.min(elapsed + GATHERING);
    }

    /// Takes note of what a look saw; none if it saw nothing for an error.
    pub(crate) fn saw(&mut self, sight: Option<Sight>, at: Moment) {
        let Moment { now, elapsed } = at;
        self.look_at = elapsed + self.scan;
        let Some(Sight { mark, count, settling }) = sight else { return };
        self.count = count;
        if let Some(settling) = settling {
            self.look_at = elapsed + settling.clamp(GATHERING, self.scan.max(GATHERING));
        }
        if !mark.is_some_and(|mark| self.is_to_be_tried(mark, elapsed)) {
            (self.new_since, self.is_ready) = (None, false);
            return;
        }
        let (_, since) = *self.new_since.get_or_insert((now, elapsed));
        self.is_ready = settling.is_none() || elapsed.saturating_sub(since) >= PATIENCE;
    }

    fn is_to_be_tried(&self, mark: u64, elapsed: Duration) -> bool {
        let tried = self.tried.filter(|tried| tried.mark == mark);
        tried.is_none_or(|tried| tried.again_at.is_some_and(|again_at| again_at <= elapsed))
    }

    /// Takes note of the end of a turn that had the occasion to run; none if there was nothing any more.
    pub(crate) fn had_its_turn(&mut self, trial: Option<Trial>, elapsed: Duration) {
        (self.new_since, self.is_ready) = (None, false);
        self.look_at = elapsed;
        let Some(Trial { mark, failed }) = trial else { return };
        let before = self.tried.filter(|tried| tried.mark == mark).map_or(0, |tried| tried.failures);
        let failures = if failed { before + 1 } else { 0 };
        let pause = self.scan.saturating_mul(2u32.saturating_pow(failures)).min(LONGEST_PAUSE.max(self.scan));
        self.tried = Some(Tried { mark, failures, again_at: failed.then_some(elapsed + pause) });
    }

    /// Takes note that somebody else has the turn, and sees what is there.
    pub(crate) fn is_elsewhere(&mut self, elapsed: Duration) {
        (self.new_since, self.is_ready) = (None, false);
        self.look_at = elapsed + self.scan;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment { now: Timestamp(seconds.cast_signed() * 1_000), elapsed: Duration::from_secs(seconds) }
    }

    fn sight(mark: u64, settling: Option<u64>) -> Option<Sight> {
        Some(Sight { mark: Some(mark), count: 1, settling: settling.map(Duration::from_secs) })
    }

    #[test]
    fn what_has_settled_is_run_at_once_and_once() {
        let mut watch = Watch::new(SCAN);
        watch.saw(sight(1, None), at(5));
        assert_eq!(watch.wanted_since(), Some(at(5).now));
        watch.had_its_turn(Some(Trial { mark: 1, failed: false }), at(9).elapsed);
        assert_eq!(watch.look_at(), at(9).elapsed, "what came meanwhile is seen at once");
        watch.saw(sight(1, None), at(9));
        assert_eq!(watch.wanted_since(), None, "what a run left starts no other one");
        watch.saw(sight(2, None), at(69));
        assert!(watch.wanted_since().is_some());
    }

    #[test]
    fn while_files_keep_coming_a_run_waits_but_not_for_ever() {
        let mut watch = Watch::new(SCAN);
        let mut runs = 0;
        for second in 0..300 {
            watch.saw(sight(second, Some(5)), at(second));
            if watch.wanted_since().is_some() {
                runs += 1;
                watch.had_its_turn(Some(Trial { mark: second, failed: false }), at(second).elapsed);
            }
        }
        assert_eq!(runs, 4, "one in a minute, and none for each file");
    }

    #[test]
    fn a_failed_run_is_tried_again_with_growing_pauses_until_something_changes() {
        let mut watch = Watch::new(SCAN);
        let mut tries = Vec::new();
        for second in 0..4 * 3_600 {
            watch.saw(sight(1, None), at(second));
            if watch.wanted_since().is_some() {
                tries.push(second);
                watch.had_its_turn(Some(Trial { mark: 1, failed: true }), at(second).elapsed);
            }
        }
        let minutes: Vec<_> = tries.iter().map(|second| second / 60).collect();
        assert_eq!(minutes, [0, 2, 6, 14, 30, 62, 122, 182]);
        watch.saw(sight(2, None), at(4 * 3_600));
        assert!(watch.wanted_since().is_some(), "what is new does not wait for what failed");
    }

    #[test]
    fn a_watcher_only_brings_the_next_look_forward() {
        let mut watch = Watch::new(SCAN);
        watch.saw(None, at(0));
        assert_eq!(watch.look_at(), SCAN);
        watch.wake(at(10).elapsed);
        let woken = watch.look_at();
        assert!(woken > at(10).elapsed && woken < at(11).elapsed);
        watch.wake(at(10).elapsed + Duration::from_millis(400));
        assert_eq!(watch.look_at(), woken, "a burst is looked at once");
    }
}
