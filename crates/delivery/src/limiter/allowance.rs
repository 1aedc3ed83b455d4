//! What one process may send of a credential's budget: pure maths, the time is handed in.
//!
//! The second is strict: never more than the share within any one second.

use std::collections::VecDeque;
use std::time::Duration;

use convoke_core::Timestamp;
use convoke_core::gate::{Feedback, Window};
use convoke_core::spec::RateLimits;

use super::account::{Account, Claim, Grant, LONGEST_PAUSE};
use super::window::Left;

/// The second as we count it: requests that leave a second apart may arrive closer together.
const GUARDED_SECOND: Duration = Duration::from_millis(1_020);

/// How long to stay away after a refusal that does not say.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// From which age on a grant is renewed while there is nothing to do but wait.
const RENEW_WHEN_IDLE: Duration = Duration::from_secs(1);

/// From which age on a grant is renewed in any case.
const RENEW_ALWAYS: Duration = Duration::from_secs(2);

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
    limits: RateLimits,
    /// When the requests of the last second left, the oldest first.
    recent: VecDeque<Duration>,
    held: Option<Held>,
    /// When the slice was drawn, by the store's clock.
    drawn_at: Timestamp,
    /// What the destination said since the last renewal.
    told: Vec<(Window, u64)>,
    /// The destination asked to stay away until then.
    blocked_until: Duration,
    /// The others do not know of that yet.
    is_block_untold: bool,
}

/// A grant that was not renewed yet.
#[derive(Clone, Copy, Debug)]
struct Held {
    share: Option<u32>,
    left: Option<u64>,
    asked_at: Duration,
    ends_at: Duration,
    ask_again_at: Duration,
}

impl Allowance {
    /// Nothing yet: the first request needs a renewal, unless there is no limit at all.
    pub fn new(limits: RateLimits) -> Self {
        Self {
            limits,
            recent: VecDeque::new(),
            held: None,
            drawn_at: Timestamp::default(),
            told: Vec::new(),
            blocked_until: Duration::ZERO,
            is_block_untold: false,
        }
    }

    fn is_unlimited(&self) -> bool {
        let RateLimits { per_second, per_hour, per_day } = self.limits;
        per_second.is_none() && per_hour.is_none() && per_day.is_none()
    }

    /// Takes one request, or tells what must happen before.
    pub fn take(&mut self, now: Duration) -> Result<(), Need> {
        let blocked = self.blocked_until.saturating_sub(now);
        let is_unlimited = self.is_unlimited();
        if self.is_block_untold && !is_unlimited {
            return Err(Need::Renewal);
        }
        if !blocked.is_zero() {
            return Err(Need::Wait(blocked));
        }
        if is_unlimited {
            return Ok(());
        }
        let Some(held) = self.held else { return Err(Need::Renewal) };
        held.check(now)?;
        let wait = held.share.map_or(Duration::ZERO, |share| self.wait_for_second(share, now));
        if !wait.is_zero() {
            return Err(held.or_renewal(wait, now));
        }
        self.recent.push_back(now);
        if let Some(left) = self.held.as_mut().and_then(|held| held.left.as_mut()) {
            *left -= 1;
        }
        Ok(())
    }

    fn wait_for_second(&mut self, share: u32, now: Duration) -> Duration {
        self.forget_old(now);
        let surplus = self.recent.len().checked_sub(share as usize);
        let first_in_way = surplus.and_then(|surplus| self.recent.get(surplus));
        first_in_way.map_or(Duration::ZERO, |at| (*at + GUARDED_SECOND).saturating_sub(now))
    }

    fn forget_old(&mut self, now: Duration) {
        while self.recent.front().is_some_and(|at| *at + GUARDED_SECOND <= now) {
            self.recent.pop_front();
        }
    }

    /// What to tell the store. Until the grant is there, nothing may be sent: how the store takes it is not known.
    pub fn claim(&mut self, member: &str, leaves: bool, now: Duration) -> Claim {
        self.forget_old(now);
        let is_block_untold = std::mem::take(&mut self.is_block_untold);
        Claim {
            member: member.to_owned(),
            leaves,
            recent: u32::try_from(self.recent.len()).unwrap_or(u32::MAX),
            unspent: self.held.take().and_then(|held| held.left).unwrap_or(0),
            drawn_at: self.drawn_at,
            told: std::mem::take(&mut self.told),
            pause: if is_block_untold { self.blocked_until.saturating_sub(now) } else { Duration::ZERO },
        }
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
        });
        self.blocked_until = self.blocked_until.max(now + grant.pause);
    }

    /// Takes note of an answer. `jitter` (0 to 1) spreads the end of a pause upwards, never down.
    pub fn note(&mut self, feedback: &Feedback, jitter: f64, now: Duration) {
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
            let pause = feedback.retry_after.unwrap_or(PAUSE_AFTER_REFUSAL).min(LONGEST_PAUSE);
            let spread = pause.mul_f64(0.1 * jitter.clamp(0.0, 1.0));
            self.blocked_until = self.blocked_until.max(now + (pause + spread).min(LONGEST_PAUSE));
            self.is_block_untold = true;
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
        if self.age(now) >= RENEW_WHEN_IDLE { Need::Renewal } else { Need::Wait(wait) }
    }
}
