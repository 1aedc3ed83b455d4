//! What fits into the hour and the day: pure maths, the time is handed in.
//!
//! Both are counted as the destination counts them, in fixed windows with a decaying share of the window before.

use std::time::Duration;

use convoke_core::gate::Window;
use serde::{Deserialize, Serialize};

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const DAY: i64 = 86_400_000;

/// Enough to survey an audience, and to find a record that is refused among five hundred where each refusal has to be
/// read back.
const WORTH_A_RUN: u64 = 50;

/// A backfill leaves a part of this size, one of so many, to live requests: one that ran through the night would else use
/// up the day before the first sync of the morning.
const KEPT_FOR_LIVE: u64 = 5;

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

/// A window with a decaying share of the one before. Times are milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    /// Milliseconds.
    pub(super) length: i64,
    pub(super) limit: u64,
    pub(super) spent: WindowSpent,
}

impl Counter {
    /// A counter that goes on from what was spent; none if the window has no limit.
    pub(super) fn new(length: i64, limit: Option<u32>, spent: Option<WindowSpent>) -> Option<Self> {
        limit.map(|limit| Self { length, limit: u64::from(limit.max(1)), spent: spent.unwrap_or_default() })
    }

    /// Moves on to the window that holds this time.
    ///
    /// A wall clock that goes back by a window or less changes nothing. One that was further ahead when the count was
    /// kept was wrong: all of it counts for the window of now, or it would stay for as long as the clock was ahead.
    pub(super) fn roll(&mut self, wall: i64) {
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

    /// How long until this window ends, at least a millisecond.
    pub(super) fn ends_in(&self, wall: i64) -> Duration {
        millis((self.length - self.offset(wall)).max(1))
    }

    /// How long until one more request fits.
    pub(super) fn wait(&mut self, wall: i64) -> Duration {
        self.wait_for(1, wall)
    }

    /// How long until so many requests fit, which are no more than the limit.
    pub(super) fn wait_for(&mut self, requests: u64, wall: i64) -> Duration {
        self.roll(wall);
        let offset = self.offset(wall);
        let until_next = self.length - offset;
        let room = self.limit.saturating_sub(requests);
        if let Some(room) = room.checked_sub(self.spent.current) {
            millis(self.offset_with_room(self.spent.previous, room) - offset)
        } else {
            millis(until_next + self.offset_with_room(self.spent.current, room))
        }
    }

    /// How long until a backfill may draw from this window: at once while more is left than it leaves to live requests,
    /// else until it is worth its while.
    pub(super) fn wait_of_backfill(&mut self, wall: i64) -> Duration {
        let kept = self.limit / KEPT_FOR_LIVE;
        if self.left(wall) > kept { Duration::ZERO } else { self.wait_for(kept + self.worth_a_run(), wall) }
    }

    /// How many requests are worth the while of a run that has to wait for them: it begins with some that only tell how
    /// things are, and what it does then must come to something. Not all of a small limit: whoever lets a whole window
    /// pass gets through half as much.
    pub(super) fn worth_a_run(&self) -> u64 {
        WORTH_A_RUN.min(self.limit * 3 / 4).max(1)
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
    pub(super) fn left(&mut self, wall: i64) -> u64 {
        self.roll(wall);
        let left_of_window = i128::from(self.length - self.offset(wall));
        let weighed = i128::from(self.spent.previous) * left_of_window;
        let length = i128::from(self.length);
        // Rounded up: a part of a request that is counted takes the room of a whole one.
        let decayed = u64::try_from((weighed + length - 1) / length).unwrap_or(0);
        self.limit.saturating_sub(self.spent.current.saturating_add(decayed))
    }

    /// Gives requests back that were counted at that time and not sent.
    pub(super) fn give_back(&mut self, requests: u64, counted_at: i64, wall: i64) {
        self.roll(wall);
        match self.spent.index - counted_at.div_euclid(self.length) {
            0 => self.spent.current = self.spent.current.saturating_sub(requests),
            1 => self.spent.previous = self.spent.previous.saturating_sub(requests),
            _ => {}
        }
    }

    /// Believes the destination when it says that less is left than we thought.
    pub(super) fn lower_to(&mut self, remaining: u64, wall: i64) {
        let ours = self.left(wall);
        self.spent.current += ours.saturating_sub(remaining);
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the destination counts at this time, by its own rule: the window, and the fading part of the one before.
    fn counted(sent: &[(i64, u64)], at: i64) -> f64 {
        let index = at.div_euclid(HOUR);
        let within = |window: i64| {
            let of_window = sent.iter().filter(|(sent_at, _)| sent_at.div_euclid(HOUR) == window);
            of_window.map(|(_, requests)| *requests as f64).sum::<f64>()
        };
        let fading = 1.0 - (at - index * HOUR) as f64 / HOUR as f64;
        within(index) + within(index - 1) * fading
    }

    proptest! {
        #[test]
        fn whatever_arrives_whenever_no_count_passes_the_limit_and_waits_are_exact(
            limit in 1_u32..300,
            arrivals in prop::collection::vec((0_u64..40, prop_oneof![0_i64..1_000, 0_i64..600_000, 0_i64..3 * HOUR]), 1..80),
        ) {
            let mut counter = hourly(limit);
            let (mut now, mut sent) = (1_000 * HOUR, Vec::new());
            for (wanted, passed) in arrivals {
                now += passed;
                let left = counter.left(now);
                let taken = wanted.min(left);
                counter.spent.current += taken;
                sent.push((now, taken));
                let total = counted(&sent, now);
                prop_assert!(total <= f64::from(limit) + 1e-6, "{} of {}", total, limit);
                // No request is held back that the destination would have taken.
                prop_assert!(left as f64 + counted(&sent, now) - taken as f64 > f64::from(limit) - 1.0 - 1e-6);
                let wait = i64::try_from(counter.wait(now).as_millis()).unwrap();
                prop_assert!({ counter }.left(now + wait) >= 1, "after {} ms", wait);
                prop_assert!(wait == 0 || { counter }.left(now + wait - 1) == 0, "{} ms is too long", wait);
            }
        }
    }

    fn hourly(limit: u32) -> Counter {
        Counter::new(HOUR, Some(limit), None).unwrap()
    }

    fn spend(counter: &mut Counter, requests: u64, wall: i64) {
        assert!(counter.left(wall) >= requests);
        counter.spent.current += requests;
    }

    #[test]
    fn a_full_hour_decays_into_the_next_one() {
        let mut counter = hourly(100);
        let start = 10 * HOUR;
        spend(&mut counter, 100, start);
        // The next hour begins with 100 counted, and each 36 seconds one of them is counted off.
        assert_eq!(counter.wait(start), Duration::from_millis(HOUR as u64 + 36_000));
        assert_eq!(counter.wait(start + HOUR + 35_999), Duration::from_millis(1));
        assert_eq!(counter.left(start + HOUR + 35_999), 0);
        assert_eq!(counter.left(start + HOUR + 36_000), 1);
        assert_eq!(counter.wait(start + HOUR + 36_000), Duration::ZERO);
    }

    #[test]
    fn the_destination_is_believed_when_it_says_that_less_is_left() {
        let mut counter = hourly(100);
        counter.lower_to(2, 0);
        counter.lower_to(90, 0);
        assert_eq!(counter.left(0), 2);
    }

    #[test]
    fn whoever_waits_for_several_requests_finds_them_and_no_later_than_that() {
        for (limit, spent, wanted) in [(100, 100, 50), (100, 60, 50), (100, 60, 40), (24, 24, 18), (1, 1, 1)] {
            let mut counter = hourly(limit);
            spend(&mut counter, spent, 10 * HOUR + HOUR / 3);
            let now = 10 * HOUR + HOUR / 2;
            let wait = i64::try_from(counter.wait_for(wanted, now).as_millis()).unwrap();
            assert!({ counter }.left(now + wait) >= wanted, "{wanted} of {limit} after {wait} ms");
            assert!(
                wait == 0 || { counter }.left(now + wait - 1) < wanted,
                "{wanted} of {limit}: {wait} ms is too long"
            );
        }
        assert_eq!([1, 24, 54_000].map(|limit| hourly(limit).worth_a_run()), [1, 18, 50]);
    }

    #[test]
    fn what_is_left_counts_the_share_of_the_hour_before() {
        let mut counter = hourly(100);
        spend(&mut counter, 40, 10 * HOUR);
        assert_eq!(counter.left(10 * HOUR), 60);
        assert_eq!(counter.left(11 * HOUR + HOUR / 2), 80);
    }

    #[test]
    fn requests_are_given_back_to_the_hour_that_they_were_counted_in() {
        let mut counter = hourly(100);
        spend(&mut counter, 60, 10 * HOUR);
        counter.give_back(10, 10 * HOUR, 11 * HOUR);
        assert_eq!(counter.spent, WindowSpent { index: 11, current: 0, previous: 50 });
        counter.give_back(10, 9 * HOUR, 11 * HOUR);
        assert_eq!(counter.spent.previous, 50);
    }

    #[test]
    fn a_wall_clock_that_goes_back_opens_no_new_window() {
        for back_to in [5 * HOUR - 1, HOUR] {
            let mut counter = hourly(1);
            spend(&mut counter, 1, 5 * HOUR);
            assert_eq!(counter.left(back_to), 0);
        }
    }

    #[test]
    fn what_was_counted_under_a_clock_far_ahead_ends_as_any_other_count() {
        let mut counter = hourly(1);
        spend(&mut counter, 1, 9_000 * HOUR);
        let wait = counter.wait(HOUR);
        assert!(wait <= Duration::from_secs(2 * 3_600), "{wait:?}");
        assert_eq!(counter.left(3 * HOUR), 1);
    }
}
