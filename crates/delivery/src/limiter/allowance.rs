//! What one process may send of a credential's budget: pure maths, the time is handed in.
//!
//! The second is strict: never more than the share within any one second.

use std::collections::VecDeque;
use std::time::Duration;

use convoke_core::Timestamp;
use convoke_core::gate::{Feedback, Lane, Window};
use convoke_core::spec::RateLimits;

use super::account::{Account, Claim, Grant, LONGEST_PAUSE};
use super::division::Demand;
use super::window::Left;

/// The second as we count it: requests that leave a second apart may arrive closer together.
const GUARDED_SECOND: Duration = Duration::from_millis(1_020);

/// The range of the random pause after a refusal that does not say how long; doubled by each further one in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The greatest range of such a pause.
const GREATEST_PAUSE: Duration = Duration::from_secs(60);

/// The most that is added to a pause that was asked for, so that not everybody comes back at once.
const GREATEST_SPREAD: Duration = Duration::from_secs(30);

/// From which age on a grant is renewed while there is nothing to do but wait: what the others hear of us, and we of
/// them, is not older.
const RENEW_WHEN_IDLE: Duration = Duration::from_millis(700);

/// From which age on a grant is renewed in any case.
const RENEW_ALWAYS: Duration = Duration::from_millis(1_300);

/// How many requests of a backfill may leave at once to make up for sleeps that lasted too long.
const BURST: u32 = 3;

/// What must happen before a request may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The store must be asked.
    Renewal,
    Wait(Duration),
}

/// What a process may send, and what it has sent in the last second. Times are monotonic.
#[derive(Clone, Debug)]
pub struct Allowance {
    configured: RateLimits,
    /// The same, or less where the destination says so.
    limits: RateLimits,
    /// When the requests of the last second left, the oldest first.
    recent: VecDeque<(Duration, Lane)>,
    live: Appetite,
    backfill: Appetite,
    /// When the next request of a backfill would leave if all of them left evenly.
    next_backfill_at: Duration,
    held: Option<Held>,
    /// When the slice was drawn, by the store's clock.
    drawn_at: Timestamp,
    /// What the destination said since the last renewal.
    told: Vec<(Window, u64)>,
    /// The destination asked to stay away until then.
    blocked_until: Duration,
    /// The others do not know of that yet.
    is_block_untold: bool,
    /// Refusals in a row.
    refusals: u32,
}

/// What a lane could use.
#[derive(Clone, Copy, Debug, Default)]
struct Appetite {
    /// Requests per second that it was said to want last.
    wanted: u32,
    /// Whether it had to wait for the second since then.
    is_hungry: bool,
}

impl Appetite {
    /// What to ask for after so many requests in the last second: all there is after a wait, else some more than was
    /// used, and never less than half of what was asked for before.
    fn ask(&mut self, recent: u32, limit: u32) -> u32 {
        let some_more = if recent > 0 { recent + recent / 4 + 1 } else { 0 };
        self.wanted = if self.is_hungry { limit } else { some_more.max(self.wanted / 2).min(limit) };
        self.is_hungry = false;
        self.wanted
    }
}

/// A grant that was not renewed yet.
#[derive(Clone, Copy, Debug)]
struct Held {
    share: Option<u32>,
    left: Option<u64>,
    asked_at: Duration,
    ends_at: Duration,
    ask_again_at: Duration,
    more_at: Option<Duration>,
    /// When a run that ended for a used-up hour or day goes on with profit.
    worth_a_run_at: Duration,
    /// When requests of a backfill may leave.
    backfill_at: Duration,
}

impl Allowance {
    /// Nothing yet: the first request needs a renewal, unless there is no limit at all.
    pub fn new(limits: RateLimits) -> Self {
        Self {
            configured: limits,
            limits,
            recent: VecDeque::new(),
            live: Appetite::default(),
            backfill: Appetite::default(),
            next_backfill_at: Duration::ZERO,
            held: None,
            drawn_at: Timestamp::default(),
            told: Vec::new(),
            blocked_until: Duration::ZERO,
            is_block_untold: false,
            refusals: 0,
        }
    }

    /// What counts: as configured, or as the destination says where that is less.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }

    fn is_unlimited(&self) -> bool {
        let RateLimits { per_second, per_hour, per_day } = self.limits;
        per_second.is_none() && per_hour.is_none() && per_day.is_none()
    }

    /// Whether the destination asked for a pause that the others do not know of.
    pub fn has_untold_pause(&self) -> bool {
        self.is_block_untold && !self.is_unlimited()
    }

    /// Notes that a lane could use more than it gets.
    pub fn wants_more(&mut self, lane: Lane) {
        self.appetite(lane).is_hungry = true;
    }

    fn appetite(&mut self, lane: Lane) -> &mut Appetite {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backfill => &mut self.backfill,
        }
    }

    /// Takes one request, or tells what must happen before.
    pub fn take(&mut self, lane: Lane, now: Duration) -> Result<(), Need> {
        if self.has_untold_pause() {
            return Err(Need::Renewal);
        }
        let blocked = self.blocked_until.saturating_sub(now);
        if !blocked.is_zero() {
            return Err(Need::Wait(blocked));
        }
        if self.is_unlimited() {
            return Ok(());
        }
        let Some(held) = self.held else {
            // Whoever is new asks for all there is, or it would have to ask twice.
            self.appetite(lane).is_hungry |= self.appetite(lane).wanted == 0;
            return Err(Need::Renewal);
        };
        if held.share == Some(0) {
            self.wants_more(lane);
        }
        held.check(now)?;
        if lane == Lane::Backfill && held.backfill_at > now {
            return Err(held.or_renewal(held.backfill_at - now, now));
        }
        let spacing = held.share.map_or(Duration::ZERO, |share| GUARDED_SECOND / share.max(1));
        let mut wait = held.share.map_or(Duration::ZERO, |share| self.wait_for_second(share, now));
        if lane == Lane::Backfill {
            wait = wait.max(self.next_backfill_at.saturating_sub(now + spacing * BURST));
        }
        if !wait.is_zero() {
            self.wants_more(lane);
            return Err(held.or_renewal(wait, now));
        }
        self.recent.push_back((now, lane));
        if lane == Lane::Backfill {
            // Evenly, so that a live request that comes finds a slot soon, and not a second that is used up.
            self.next_backfill_at = self.next_backfill_at.max(now) + spacing;
        }
        if let Some(left) = self.held.as_mut().and_then(|held| held.left.as_mut()) {
            *left -= 1;
        }
        Ok(())
    }

    /// How long a run that ends because it would have to wait had better wait before it goes on: while hour and day are
    /// not used up, no longer than for what it waits for.
    pub fn worth_a_run_in(&self, now: Duration) -> Duration {
        let used_up = self.held.filter(|held| held.left == Some(0));
        used_up.map_or(Duration::ZERO, |held| held.worth_a_run_at.saturating_sub(now))
    }

    fn wait_for_second(&mut self, share: u32, now: Duration) -> Duration {
        self.forget_old(now);
        let surplus = self.recent.len().checked_sub(share as usize);
        let first_in_way = surplus.and_then(|surplus| self.recent.get(surplus));
        first_in_way.map_or(Duration::ZERO, |(at, _)| (*at + GUARDED_SECOND).saturating_sub(now))
    }

    fn forget_old(&mut self, now: Duration) {
        while self.recent.front().is_some_and(|(at, _)| *at + GUARDED_SECOND <= now) {
            self.recent.pop_front();
        }
    }

    /// What to tell the store. Until the grant is there, nothing may be sent: how the store takes it is not known.
    pub fn claim(&mut self, member: &str, leaves: bool, now: Duration) -> Claim {
        self.forget_old(now);
        let is_block_untold = std::mem::take(&mut self.is_block_untold);
        let limit = self.limits.per_second.unwrap_or(0);
        let recent = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        let live = self.recent.iter().filter(|(_, lane)| *lane == Lane::Live).count();
        let live = u32::try_from(live).unwrap_or(u32::MAX);
        let demand = Demand { live: self.live.ask(live, limit), backfill: self.backfill.ask(recent - live, limit) };
        Claim {
            member: member.to_owned(),
            leaves,
            demand,
            recent,
            unspent: self.held.take().and_then(|held| held.left).unwrap_or(0),
            drawn_at: self.drawn_at,
            told: std::mem::take(&mut self.told),
            pause: if is_block_untold { self.blocked_until.saturating_sub(now) } else { Duration::ZERO },
        }
    }

    /// Takes back what a claim was to tell, which did not reach the store. Its slice stays spent: it may have.
    pub fn untold(&mut self, claim: Claim) {
        self.is_block_untold |= !claim.pause.is_zero();
        self.told.splice(0..0, claim.told);
    }

    /// Takes the grant that was asked for at `asked_at`, which is no later than the store took it down.
    pub fn accept(&mut self, grant: &Grant, asked_at: Duration, now: Duration) {
        self.drawn_at = grant.at;
        let is_empty = grant.share == Some(0) || grant.slice == Some(0);
        self.held = Some(Held {
            share: grant.share,
            left: grant.slice,
            asked_at,
            ends_at: asked_at + grant.lasts,
            ask_again_at: if is_empty { now + grant.ask_again } else { now },
            more_at: grant.more_in.map(|wait| now + wait),
            worth_a_run_at: now + grant.worth_a_run_in,
            backfill_at: now + grant.backfill_in,
        });
        self.blocked_until = self.blocked_until.max(now + grant.pause);
    }

    /// Takes note of an answer. `jitter` (0 to 1) spreads the end of a pause that was asked for upwards, never down; one
    /// that was not asked for is drawn with it from a range that grows.
    pub fn note(&mut self, feedback: &Feedback, jitter: f64, now: Duration) {
        let jitter = jitter.clamp(0.0, 1.0);
        for (window, told) in &feedback.limits {
            let (limit, configured) = match window {
                Window::Second => (&mut self.limits.per_second, self.configured.per_second),
                Window::Hour => (&mut self.limits.per_hour, self.configured.per_hour),
                Window::Day => (&mut self.limits.per_day, self.configured.per_day),
            };
            // Never more than the operator wants; zero is no limit that anybody could mean.
            *limit = configured.map(|configured| if *told == 0 { configured } else { configured.min(*told) });
        }
        let left = self.held.as_mut().and_then(|held| held.left.as_mut());
        if let Some(left) = left {
            // Refused requests do not consume quota.
            *left += u64::from(feedback.rejected);
            let told = feedback.remaining.iter().filter(|(window, _)| *window != Window::Second);
            *left = told.fold(*left, |left, (_, remaining)| left.min(*remaining));
        }
        if !self.is_unlimited() {
            self.told.extend(feedback.remaining.iter().filter(|(window, _)| *window != Window::Second));
        }
        if feedback.rejected || feedback.retry_after.is_some() {
            let pause = match feedback.retry_after.map(|told| told.min(LONGEST_PAUSE)) {
                Some(told) => told + told.mul_f64(0.1 * jitter).min(GREATEST_SPREAD),
                None => FIRST_PAUSE.saturating_mul(1 << self.refusals.min(16)).min(GREATEST_PAUSE).mul_f64(jitter),
            };
            self.blocked_until = self.blocked_until.max(now + pause.min(LONGEST_PAUSE));
            self.is_block_untold = true;
        }
        match (feedback.rejected, feedback.failed) {
            (true, _) => self.refusals = self.refusals.saturating_add(1),
            (false, true) => {}
            (false, false) => self.refusals = 0,
        }
    }

    /// What is left of the windows that have a limit and outlast a scrape: hour and day. `account` is as it was seen
    /// last; what this process has drawn and not sent is left as well.
    pub fn left(&self, account: &Account, wall: Timestamp) -> Vec<Left> {
        let drawn = self.held.as_ref().and_then(|held| held.left).unwrap_or(0);
        let counters = [Window::Hour, Window::Day].into_iter().zip(account.counters(&self.limits));
        let left = counters.filter_map(|(window, counter)| {
            let mut counter = counter?;
            counter.give_back(drawn, self.drawn_at.0, wall.0);
            Some(Left { window, left: counter.left(wall.0), limit: counter.limit })
        });
        left.collect()
    }
}

impl Held {
    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.asked_at)
    }

    /// Whether this grant still lets requests out.
    fn check(&self, now: Duration) -> Result<(), Need> {
        if now >= self.ends_at || self.age(now) >= RENEW_ALWAYS {
            return Err(Need::Renewal);
        }
        let has_nothing = self.share == Some(0) || self.left == Some(0);
        if !has_nothing {
            return Ok(());
        }
        let wait = self.ask_again_at.saturating_sub(now);
        Err(if wait.is_zero() { Need::Renewal } else { Need::Wait(wait) })
    }

    /// A wait, unless the time is better used to renew the grant.
    fn or_renewal(&self, wait: Duration, now: Duration) -> Need {
        let more_in = self.more_at.map(|at| at.saturating_sub(now));
        if self.age(now) >= RENEW_WHEN_IDLE || more_in == Some(Duration::ZERO) {
            return Need::Renewal;
        }
        Need::Wait(more_in.map_or(wait, |more_in| wait.min(more_in)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMIT: RateLimits = RateLimits { per_second: None, per_hour: None, per_day: None };

    fn refused(retry_after: Option<u64>) -> Feedback {
        Feedback { rejected: true, retry_after: retry_after.map(Duration::from_secs), ..Feedback::default() }
    }

    /// How long to wait after this was told to a fresh allowance, one after the other and at once.
    fn pause(told: &[Feedback], jitter: f64) -> f64 {
        let mut allowance = Allowance::new(NO_LIMIT);
        for feedback in told {
            allowance.blocked_until = Duration::ZERO;
            allowance.note(feedback, jitter, Duration::ZERO);
        }
        allowance.blocked_until.as_secs_f64()
    }

    #[test]
    fn a_limit_that_the_destination_tells_counts_where_it_is_lower_than_ours() {
        let ours = RateLimits { per_second: Some(25), per_hour: Some(54_000), per_day: None };
        let mut allowance = Allowance::new(ours);
        let mut told = |limits: &[(Window, u32)]| {
            allowance.note(&Feedback { limits: limits.to_vec(), ..Feedback::default() }, 0.0, Duration::ZERO);
            allowance.limits()
        };
        let lower = told(&[(Window::Second, 5), (Window::Hour, 90_000), (Window::Day, 7)]);
        assert_eq!(lower, RateLimits { per_second: Some(5), ..ours });
        assert_eq!(told(&[]).per_second, Some(5));
        assert_eq!(told(&[(Window::Second, 35), (Window::Hour, 0)]), ours);
    }

    #[test]
    fn a_pause_that_was_asked_for_is_never_shorter_and_spread_by_half_a_minute_at_most() {
        let cases =
            [(30, 0.0, 30.0), (30, 1.0, 33.0), (7_200, 0.5, 7_230.0), (7_200, 0.0, 7_200.0), (200_000, 1.0, 86_400.0)];
        for (asked, jitter, expected) in cases {
            assert!((pause(&[refused(Some(asked))], jitter) - expected).abs() < 1e-6, "{asked} {jitter}");
        }
    }

    #[test]
    fn a_pause_that_was_not_asked_for_is_drawn_from_a_range_that_doubles_with_each_refusal_in_a_row() {
        let ranges = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        for (refusals, range) in (1..).zip(ranges) {
            for jitter in [0.0, 0.25, 1.0] {
                let drawn = pause(&vec![refused(None); refusals], jitter);
                assert!((drawn - range * jitter).abs() < 1e-6, "{drawn} after {refusals} refusals");
            }
        }
    }

    #[test]
    fn an_answer_begins_the_count_of_refusals_anew_and_a_failure_does_not() {
        let failed = Feedback { failed: true, ..Feedback::default() };
        let many = vec![refused(None); 4];
        let after = |feedback: Feedback| pause(&[many.clone(), vec![feedback, refused(None)]].concat(), 1.0);
        assert!((after(Feedback::default()) - 1.0).abs() < 1e-6);
        assert!((after(failed) - 16.0).abs() < 1e-6);
    }

    #[test]
    fn a_lane_asks_for_all_after_a_wait_and_for_less_and_less_while_it_needs_little() {
        let mut appetite = Appetite { wanted: 0, is_hungry: true };
        let asked: Vec<u32> = [20, 12, 4, 4, 0, 0, 0, 0].iter().map(|recent| appetite.ask(*recent, 25)).collect();
        assert_eq!(asked, [25, 16, 8, 6, 3, 1, 0, 0]);
    }
}
