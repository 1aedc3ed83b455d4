//! When the requests of the last second may have arrived: pure, the time is handed in.
//!
//! A destination counts requests when they arrive, which is between the moment they are let out and their answer. Most
//! arrive at once. One that was held up on its way, because a machine or a network stalled, takes its place in the second
//! later than planned; if that place were given away a second after it was let out, its successor would come too soon.
//! So a request counts from the moment it was let out, and later by as much as its answer took longer than most do.

use std::collections::VecDeque;
use std::time::Duration;

use convoke_core::gate::Lane;

/// The second as we count it: requests that leave a second apart may arrive closer together.
pub(super) const GUARDED_SECOND: Duration = Duration::from_millis(1_020);

/// How many of the last answers tell how long one usually takes.
const ANSWERS: usize = 64;

/// Fewer answers than this tell nothing.
const FEWEST_ANSWERS: usize = 8;

/// The most that a request counts later. An answer may also take long because there was much to do: where that is
/// usual, a twentieth of the second is the most that this costs on average.
const MOST_LATE: Duration = Duration::from_millis(100);

/// The requests that count for the second. Times are monotonic.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    /// By the time from which they count.
    requests: VecDeque<LetOut>,
    /// How long the last answers took.
    took: VecDeque<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct LetOut {
    counts_from: Duration,
    at: Duration,
    lane: Lane,
    has_ended: bool,
}

impl Arrivals {
    pub(super) fn let_out(&mut self, lane: Lane, now: Duration) {
        self.insert(LetOut { counts_from: now, at: now, lane, has_ended: false });
    }

    /// A request has ended: by an answer, or without. Which one is not told; it is taken for the oldest under way. As
    /// many have arrived by now in any case, and which of them is all the same to whoever counts.
    pub(super) fn ended(&mut self, is_answered: bool, now: Duration) {
        let under_way = self.requests.iter().enumerate().filter(|(_, request)| !request.has_ended);
        let Some((place, _)) = under_way.min_by_key(|(_, request)| request.at) else { return };
        let Some(request) = self.requests.remove(place) else { return };
        let took = now.saturating_sub(request.at);
        if is_answered {
            self.took.push_back(took);
            self.took.drain(..self.took.len().saturating_sub(ANSWERS));
        }
        let late = self.usual().map_or(Duration::ZERO, |usual| took.saturating_sub(usual)).min(MOST_LATE);
        self.insert(LetOut { counts_from: request.at + late, has_ended: true, ..request });
    }

    fn insert(&mut self, request: LetOut) {
        let place = self.requests.partition_point(|other| other.counts_from <= request.counts_from);
        self.requests.insert(place, request);
    }

    /// How long half of the answers take at most.
    fn usual(&self) -> Option<Duration> {
        let mut took: Vec<Duration> = self.took.iter().copied().collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().filter(|_| took.len() >= FEWEST_ANSWERS)
    }

    pub(super) fn forget_old(&mut self, now: Duration) {
        while self.requests.front().is_some_and(|request| request.counts_from + GUARDED_SECOND <= now) {
            self.requests.pop_front();
        }
    }

    /// How long until one more request is within this share of the second.
    pub(super) fn wait(&mut self, share: u32, now: Duration) -> Duration {
        self.forget_old(now);
        let surplus = self.requests.len().checked_sub(share as usize);
        let in_way = surplus.and_then(|surplus| self.requests.get(surplus));
        in_way.map_or(Duration::ZERO, |request| (request.counts_from + GUARDED_SECOND).saturating_sub(now))
    }

    /// Requests of a lane that count.
    pub(super) fn count(&self, lane: Lane) -> u32 {
        let of_lane = self.requests.iter().filter(|request| request.lane == lane);
        u32::try_from(of_lane.count()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One request every 40 ms, ten of them, each answered after 30 ms; then one at a second that takes as long as said.
    fn after_an_answer_of(took: Option<u64>) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for number in 0..10 {
            arrivals.let_out(Lane::Live, millis(40 * number));
            arrivals.ended(true, millis(40 * number + 30));
        }
        arrivals.let_out(Lane::Live, millis(1_000));
        if let Some(took) = took {
            arrivals.ended(true, millis(1_000 + took));
        }
        arrivals
    }

    #[test]
    fn a_request_counts_later_by_what_its_answer_took_longer_than_usual() {
        let counts_until = |took| {
            let now = millis(1_900);
            (now + after_an_answer_of(took).wait(1, now)).as_millis()
        };
        assert_eq!(counts_until(Some(30)), 2_020);
        assert_eq!(counts_until(Some(10)), 2_020, "earlier than it was let out it did not arrive");
        assert_eq!(counts_until(Some(75)), 2_065);
        assert_eq!(counts_until(Some(700)), 2_120, "so long an answer is more likely one with much to do");
        assert_eq!(counts_until(None), 2_020, "what has not ended may have arrived long ago");
    }

    #[test]
    fn a_few_answers_tell_nothing_of_what_is_usual() {
        let mut arrivals = Arrivals::default();
        for took in [1, 1, 1, 90] {
            arrivals.let_out(Lane::Live, millis(0));
            arrivals.ended(true, millis(took));
        }
        assert_eq!(arrivals.wait(1, millis(500)), millis(520));
    }

    #[test]
    fn answers_that_overtake_each_other_are_taken_in_the_order_of_their_requests() {
        let mut arrivals = after_an_answer_of(Some(30));
        arrivals.let_out(Lane::Live, millis(1_000));
        arrivals.let_out(Lane::Backfill, millis(1_010));
        // Whichever of the two it is, by now one has arrived, and by then both.
        arrivals.ended(true, millis(1_035));
        arrivals.ended(true, millis(1_080));
        let now = millis(1_900);
        assert_eq!(arrivals.clone().wait(2, now), millis(1_000 + 5 + 1_020 - 1_900));
        assert_eq!(arrivals.wait(1, now), millis(1_010 + 40 + 1_020 - 1_900));
        assert_eq!((arrivals.count(Lane::Live), arrivals.count(Lane::Backfill)), (2, 1));
    }

    #[test]
    fn a_request_that_never_ends_spoils_the_count_of_a_second_and_no_more() {
        let mut arrivals = after_an_answer_of(None);
        arrivals.forget_old(millis(2_020));
        arrivals.let_out(Lane::Live, millis(2_030));
        arrivals.ended(true, millis(2_060));
        assert_eq!(arrivals.wait(1, millis(2_100)), millis(950));
    }
}
