//! Spares a destination that fails: pure, the time is handed in.
//!
//! After [`FAILURES_TO_OPEN`] failures in a row nothing leaves for a random while, then one request at a time, the
//! *probe*: if it fails, the next pause is drawn from twice the range; an answer lets everything through again. A
//! destination that has failed for [`LONGEST_OUTAGE`] is called down: whoever would have to wait is told so instead. So
//! a run neither hammers at it nor waits for ever: its tries are bounded, and it ends with an error that says why.

use std::time::Duration;

/// More than the requests that are in flight by default: one broken connection is no outage.
const FAILURES_TO_OPEN: u32 = 5;

/// The range of the first pause.
const FIRST_RANGE: Duration = Duration::from_secs(1);

/// The greatest range of a pause: so an outage that ends is noticed within half a minute.
const GREATEST_RANGE: Duration = Duration::from_secs(30);

/// What a run waits for at most while nothing works: it holds a slot and its audience meanwhile.
const LONGEST_OUTAGE: Duration = Duration::from_secs(300);

/// A probe that has told nothing for so long may have been dropped on its way, and another goes.
const PROBE_TIME: Duration = Duration::from_secs(60);

/// The longest time to be told to wait.
pub(super) const LONGEST_PAUSE: Duration =
    if PROBE_TIME.as_secs() > GREATEST_RANGE.as_secs() { PROBE_TIME } else { GREATEST_RANGE };

/// Whether a request may leave. Times are monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// One request may leave, to find out.
    Probe,
    /// Nothing may leave for so long, or until a probe has answered.
    Wait(Duration),
    /// The same, and it has failed since then.
    Down {
        since: Duration,
    },
}

/// How a destination has answered lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    failures: u32,
    failing_since: Duration,
    /// Nothing leaves until then.
    closed_until: Duration,
    probing_since: Option<Duration>,
}

impl Breaker {
    pub(super) fn health(&self, now: Duration) -> Health {
        if self.failures < FAILURES_TO_OPEN {
            return Health::Good;
        }
        let until = self.probing_since.map_or(self.closed_until, |since| since + PROBE_TIME);
        let wait = until.saturating_sub(now);
        if wait.is_zero() {
            Health::Probe
        } else if now.saturating_sub(self.failing_since) >= LONGEST_OUTAGE {
            Health::Down { since: self.failing_since }
        } else {
            Health::Wait(wait)
        }
    }

    /// A request leaves.
    pub(super) fn admitted(&mut self, now: Duration) {
        if self.failures >= FAILURES_TO_OPEN {
            self.probing_since = Some(now);
        }
    }

    /// Takes note of how a request ended. `jitter` (0 to 1) draws the pause from its range.
    pub(super) fn note(&mut self, failed: bool, jitter: f64, now: Duration) {
        if !failed {
            *self = Self::default();
            return;
        }
        if self.failures == 0 {
            self.failing_since = now;
        }
        // What was under way before the first pause tells nothing that is not known already.
        if self.failures >= FAILURES_TO_OPEN && self.probing_since.is_none() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.probing_since = None;
        if let Some(pauses) = self.failures.checked_sub(FAILURES_TO_OPEN) {
            let range = FIRST_RANGE.saturating_mul(1 << pauses.min(16)).min(GREATEST_RANGE);
            self.closed_until = now + range.mul_f64(jitter.clamp(0.0, 1.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A breaker after so many failures at these seconds.
    fn failed(times: impl IntoIterator<Item = u64>) -> Breaker {
        let mut breaker = Breaker::default();
        for at in times {
            breaker.admitted(seconds(at));
            breaker.note(true, 1.0, seconds(at));
        }
        breaker
    }

    #[test]
    fn a_few_failures_are_no_outage_and_one_answer_forgets_them() {
        let mut breaker = failed([0, 0, 0, 0]);
        assert_eq!(breaker.health(seconds(0)), Health::Good);
        breaker.note(false, 1.0, seconds(0));
        breaker.note(true, 1.0, seconds(0));
        assert_eq!(breaker.health(seconds(0)), Health::Good);
    }

    #[test]
    fn pauses_grow_and_one_probe_at_a_time_goes_between_them() {
        let mut breaker = failed([0, 0, 0, 0, 0]);
        let mut now = seconds(0);
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.health(now), Health::Wait(seconds(pause)));
            now += seconds(pause);
            assert_eq!(breaker.health(now), Health::Probe);
            breaker.admitted(now);
            assert!(matches!(breaker.health(now), Health::Wait(_)), "a second probe beside the first");
            breaker.note(true, 1.0, now);
        }
        breaker.admitted(now);
        breaker.note(false, 1.0, now);
        assert_eq!(breaker.health(now), Health::Good);
    }

    #[test]
    fn failures_of_what_was_under_way_do_not_make_the_pause_longer() {
        let mut breaker = failed([0, 0, 0, 0, 0]);
        for _ in 0..20 {
            breaker.note(true, 1.0, seconds(0));
        }
        assert_eq!(breaker.health(seconds(0)), Health::Wait(seconds(1)));
    }

    #[test]
    fn a_destination_that_stays_down_is_told_to_be_and_is_probed_all_the_same() {
        let breaker = failed([10, 10, 10, 10, 310]);
        assert_eq!(breaker.health(seconds(310)), Health::Down { since: seconds(10) });
        assert_eq!(breaker.health(seconds(311)), Health::Probe);
    }

    #[test]
    fn a_probe_that_never_answers_is_followed_by_another() {
        let mut breaker = failed([0, 0, 0, 0, 0]);
        breaker.admitted(seconds(1));
        assert_eq!(breaker.health(seconds(60)), Health::Wait(seconds(1)));
        assert_eq!(breaker.health(seconds(61)), Health::Probe);
    }

    proptest! {
        #[test]
        fn an_open_breaker_never_lets_two_out_and_never_keeps_all_in_for_ever(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0.0..1.0_f64, 0_u64..40_000), 1..200),
        ) {
            let (mut breaker, mut now, mut under_way) = (Breaker::default(), seconds(0), 0_u32);
            let mut last_sent = now;
            for (sends, failed, jitter, passed) in steps {
                now += Duration::from_millis(passed);
                let health = breaker.health(now);
                if now >= last_sent + PROBE_TIME {
                    under_way = 0;
                }
                if sends && matches!(health, Health::Good | Health::Probe) {
                    prop_assert!(health == Health::Good || under_way == 0, "a probe beside {}", under_way);
                    breaker.admitted(now);
                    (under_way, last_sent) = (under_way + 1, now);
                } else if under_way > 0 {
                    breaker.note(failed, jitter, now);
                    // Whatever else was under way is answered before the pause ends.
                    under_way = if breaker.health(now) == Health::Good { under_way - 1 } else { 0 };
                }
                let soon = breaker.health(now + PROBE_TIME);
                prop_assert!(matches!(soon, Health::Good | Health::Probe), "{:?}", soon);
            }
        }
    }
}
