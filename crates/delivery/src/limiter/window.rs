//! What fits into the second, the hour and the day: pure maths, the time is handed in.
//!
//! The second is strict: never more than the limit within any one second. Hour and day are counted as the destination
//! counts them, in fixed windows with a decaying share of the window before. `None` as limit: no such window.

use std::collections::VecDeque;
use std::time::Duration;

use convoke_core::gate::{Feedback, Window};
use convoke_core::spec::RateLimits;
use serde::{Deserialize, Serialize};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 86_400_000;

/// The second as we count it, in milliseconds: requests that leave a second apart may arrive closer together.
const GUARDED_SECOND: u64 = 1_020;

/// The longest that a destination is stayed away from, whatever it asks: its longest window is a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);

/// How long to stay away after a refusal that does not say.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// A point in time on both clocks: the wall's for hours and days, which outlive a process, the other for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub wall: i64,
    pub monotonic: Duration,
}

/// What a credential has spent and may spend.
#[derive(Clone, Debug)]
pub struct Budget {
    per_second: Option<usize>,
    /// When the requests of the last second left, the oldest first.
    recent: VecDeque<Duration>,
    hour: Option<Counter>,
    day: Option<Counter>,
    /// The destination asked to stay away until then.
    blocked_until: Duration,
}

/// The part of a budget that outlives a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    pub hour: Option<WindowSpent>,
    pub day: Option<WindowSpent>,
}

/// What is left of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub window: Window,
    /// Requests.
    pub left: u64,
    /// Requests.
    pub limit: u64,
}

/// What was spent in one window and the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpent {
    /// Number of the window since the Unix epoch.
    pub index: i64,
    pub current: u64,
    pub previous: u64,
}

impl Budget {
    /// A budget that goes on from what was spent before.
    pub fn new(limits: &RateLimits, spent: &Spent) -> Self {
        let counter = |length, limit: Option<u32>, spent: Option<WindowSpent>| {
            limit.map(|limit| Counter { length, limit: u64::from(limit.max(1)), spent: spent.unwrap_or_default() })
        };
        Self {
            per_second: limits.per_second.map(|limit| limit.max(1) as usize),
            recent: VecDeque::new(),
            hour: counter(HOUR, limits.per_hour, spent.hour),
            day: counter(DAY, limits.per_day, spent.day),
            blocked_until: Duration::ZERO,
        }
    }

    /// Takes one request out of every window, or tells how long to wait before asking again.
    pub fn take(&mut self, now: Moment) -> Result<(), Duration> {
        let wait = self.wait(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(limit) = self.per_second {
            self.recent.push_back(now.monotonic);
            let surplus = self.recent.len().saturating_sub(limit);
            self.recent.drain(..surplus);
        }
        for counter in self.counters() {
            counter.spent.current += 1;
        }
        Ok(())
    }

    fn wait(&mut self, now: Moment) -> Duration {
        let blocked = self.blocked_until.saturating_sub(now.monotonic);
        let second = self.wait_for_second(now.monotonic);
        let longest = self.counters().map(|counter| counter.wait(now.wall)).max();
        blocked.max(second).max(longest.unwrap_or_default())
    }

    fn wait_for_second(&self, now: Duration) -> Duration {
        let is_full = self.per_second.is_some_and(|limit| self.recent.len() >= limit);
        let Some(oldest) = self.recent.front().filter(|_| is_full) else { return Duration::ZERO };
        (*oldest + Duration::from_millis(GUARDED_SECOND)).saturating_sub(now)
    }

    fn counters(&mut self) -> impl Iterator<Item = &mut Counter> {
        self.hour.iter_mut().chain(self.day.iter_mut())
    }

    /// Takes note of an answer. `jitter` (0 to 1) spreads the end of a pause upwards, never down.
    pub fn note(&mut self, feedback: &Feedback, jitter: f64, now: Moment) {
        if feedback.rejected {
            // Refused requests do not consume quota.
            for counter in self.counters() {
                counter.spent.current = counter.spent.current.saturating_sub(1);
            }
        }
        if feedback.rejected || feedback.retry_after.is_some() {
            let pause = feedback.retry_after.unwrap_or(PAUSE_AFTER_REFUSAL).min(LONGEST_PAUSE);
            let spread = pause.mul_f64(0.1 * jitter.clamp(0.0, 1.0));
            self.blocked_until = self.blocked_until.max(now.monotonic + pause + spread);
        }
        for (window, remaining) in &feedback.remaining {
            let counter = match window {
                // What was left of a second is history by the time it is read.
                Window::Second => None,
                Window::Hour => self.hour.as_mut(),
                Window::Day => self.day.as_mut(),
            };
            if let Some(counter) = counter {
                counter.lower_to(*remaining, now.wall);
            }
        }
    }

    /// What is left of the windows that have a limit and outlast a scrape: hour and day.
    pub fn left(&mut self, now: Moment) -> Vec<Left> {
        let counters = [(Window::Hour, &mut self.hour), (Window::Day, &mut self.day)];
        let left = counters.into_iter().filter_map(|(window, counter)| {
            let counter = counter.as_mut()?;
            Some(Left { window, left: counter.left(now.wall), limit: counter.limit })
        });
        left.collect()
    }

    /// What to store. `ahead` is added to both windows: what may be spent before it is stored again.
    pub fn spent(&self, ahead: u64) -> Spent {
        let ahead_of = |counter: &Counter| WindowSpent { current: counter.spent.current + ahead, ..counter.spent };
        Spent { hour: self.hour.as_ref().map(ahead_of), day: self.day.as_ref().map(ahead_of) }
    }
}

/// A window with a decaying share of the one before.
#[derive(Clone, Debug)]
struct Counter {
    /// Milliseconds.
    length: i64,
    limit: u64,
    spent: WindowSpent,
}

impl Counter {
    /// Moves on to the window that holds this time.
    ///
    /// A wall clock that goes back by a window or less changes nothing. One that was further ahead when the count was
    /// kept was wrong: all of it counts for the window of now, or it would stay for as long as the clock was ahead.
    fn roll(&mut self, wall: i64) {
        let index = wall.div_euclid(self.length);
        let passed = index.saturating_sub(self.spent.index);
        if passed < -1 {
            self.spent = WindowSpent { index, ..self.spent };
        }
        if passed <= 0 {
            return;
        }
        let previous = if passed == 1 { self.spent.current } else { 0 };
        self.spent = WindowSpent { index, current: 0, previous };
    }

    /// How far into its window this time is.
    fn offset(&self, wall: i64) -> i64 {
        (wall - self.spent.index * self.length).clamp(0, self.length)
    }

    /// How long until one more request fits.
    fn wait(&mut self, wall: i64) -> Duration {
        self.roll(wall);
        let offset = self.offset(wall);
        let until_next = self.length - offset;
        let millis = if self.spent.current < self.limit {
            let room = self.limit - 1 - self.spent.current;
            self.offset_with_room(self.spent.previous, room) - offset
        } else {
            until_next + self.offset_with_room(self.spent.current, self.limit - 1)
        };
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// The first offset at which what is left of the window before leaves this much room.
    fn offset_with_room(&self, previous: u64, room: u64) -> i64 {
        if previous <= room {
            return 0;
        }
        let counted_off = i128::from(room) * i128::from(self.length) / i128::from(previous);
        self.length - i64::try_from(counted_off).unwrap_or(0)
    }

    /// How many requests still fit.
    fn left(&mut self, wall: i64) -> u64 {
        self.roll(wall);
        let left_of_window = i128::from(self.length - self.offset(wall));
        let decayed = i128::from(self.spent.previous) * left_of_window / i128::from(self.length);
        let used = self.spent.current + u64::try_from(decayed).unwrap_or(0);
        self.limit.saturating_sub(used)
    }

    /// Believes the destination when it says that less is left than we thought.
    fn lower_to(&mut self, remaining: u64, wall: i64) {
        let ours = self.left(wall);
        self.spent.current += ours.saturating_sub(remaining);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Moment {
        Moment { wall: millis, monotonic: Duration::from_millis(millis.unsigned_abs()) }
    }

    fn hourly(limit: u32) -> RateLimits {
        RateLimits { per_second: None, per_hour: Some(limit), per_day: None }
    }

    #[test]
    fn a_full_hour_decays_into_the_next_one() {
        let mut budget = Budget::new(&hourly(100), &Spent::default());
        let start = 10 * HOUR;
        for _ in 0..100 {
            budget.take(at(start)).unwrap();
        }
        // The next hour begins with 100 counted, and each 36 seconds one of them is counted off.
        let wait = budget.take(at(start)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(HOUR as u64 + 36_000));
        assert_eq!(budget.take(at(start + HOUR + 35_999)), Err(Duration::from_millis(1)));
        assert_eq!(budget.take(at(start + HOUR + 36_000)), Ok(()));
        assert!(budget.take(at(start + HOUR + 36_000)).is_err());
    }

    #[test]
    fn the_destination_is_believed_when_it_says_that_less_is_left() {
        let mut budget = Budget::new(&hourly(100), &Spent::default());
        let told = |remaining| Feedback { remaining: vec![(Window::Hour, remaining)], ..Feedback::default() };
        budget.note(&told(2), 0.0, at(0));
        budget.note(&told(90), 0.0, at(0));
        assert_eq!(budget.take(at(1)), Ok(()));
        assert_eq!(budget.take(at(2)), Ok(()));
        assert!(budget.take(at(3)).is_err());
    }

    #[test]
    fn what_is_left_counts_the_share_of_the_hour_before() {
        let limits = RateLimits { per_day: Some(1_000), ..hourly(100) };
        let mut budget = Budget::new(&limits, &Spent::default());
        for _ in 0..40 {
            budget.take(at(10 * HOUR)).unwrap();
        }
        let left = |budget: &mut Budget, wall| -> Vec<_> {
            budget.left(at(wall)).into_iter().map(|left| (left.window, left.left, left.limit)).collect()
        };
        assert_eq!(left(&mut budget, 10 * HOUR), [(Window::Hour, 60, 100), (Window::Day, 960, 1_000)]);
        assert_eq!(left(&mut budget, 11 * HOUR + HOUR / 2)[0], (Window::Hour, 80, 100));
        assert!(
            Budget::new(&RateLimits { per_second: Some(1), ..hourly(1) }, &Spent::default()).left(at(0)).len() == 1
        );
    }

    #[test]
    fn a_refusal_gives_its_request_back_and_pauses_no_shorter_than_asked() {
        let mut budget = Budget::new(&hourly(2), &Spent::default());
        budget.take(at(0)).unwrap();
        let refusal = Feedback { rejected: true, retry_after: Some(Duration::from_secs(10)), ..Feedback::default() };
        budget.note(&refusal, 0.5, at(0));
        assert_eq!(budget.take(at(0)), Err(Duration::from_millis(10_500)));
        assert_eq!(budget.take(at(10_500)), Ok(()));
        assert_eq!(budget.take(at(10_500)), Ok(()));
        assert!(budget.take(at(10_500)).is_err());
    }

    #[test]
    fn a_wall_clock_that_goes_back_opens_no_new_window() {
        for back_to in [5 * HOUR - 1, HOUR] {
            let mut budget = Budget::new(&hourly(1), &Spent::default());
            budget.take(at(5 * HOUR)).unwrap();
            assert!(budget.take(Moment { wall: back_to, monotonic: Duration::from_secs(1) }).is_err());
        }
    }

    #[test]
    fn what_was_counted_under_a_clock_far_ahead_ends_as_any_other_count() {
        let mut budget = Budget::new(&hourly(1), &Spent::default());
        budget.take(at(9_000 * HOUR)).unwrap();
        let wait = budget.take(at(HOUR)).unwrap_err();
        assert!(wait <= Duration::from_secs(2 * 3_600), "{wait:?}");
        assert_eq!(budget.take(at(3 * HOUR)), Ok(()));
    }

    #[test]
    fn a_pause_beyond_all_measure_is_cut_to_the_longest_window() {
        let mut budget = Budget::new(&hourly(2), &Spent::default());
        let refusal = Feedback { rejected: true, retry_after: Some(Duration::MAX), ..Feedback::default() };
        budget.note(&refusal, 0.0, at(0));
        assert_eq!(budget.take(at(0)), Err(LONGEST_PAUSE));
    }
}
