//! How the processes on one checkpoint store divide the budget of a credential: pure maths on what is stored.
//!
//! Each process that sends is a *member*. The second is divided by *shares*, as [`super::division`] has it: the shares
//! that members may use never add up to more than the limit, so whatever each of them keeps for itself, all of them keep
//! together, without clocks that agree. A share ends with its time unless it is renewed. One that shrinks, ends or is
//! left is held back for a little over a second, since what was sent under it still counts at the destination. So a
//! newcomer has its share within about two seconds: the others hear of it when they renew, and what they let go of is
//! free a second later; what a process that died held is free within about three. Hour and day are divided by *slices*:
//! requests that are counted as spent before they are sent. What is left of a slice is given back with the next renewal;
//! that of a process which died stays spent.

use std::collections::BTreeMap;
use std::time::Duration;

use convoke_core::Timestamp;
use convoke_core::gate::Window;
use convoke_core::spec::RateLimits;
use serde::{Deserialize, Serialize};

use super::division::{Demand, divide};
use super::window::{Counter, DAY, HOUR, WindowSpent};

/// How long a share is good for. It must not be used longer. Shorter, and one slow answer of the store would end it.
pub(super) const SHARE_TIME: Duration = Duration::from_secs(2);

/// How long requests count for the second after they left, with time for them to arrive.
const LINGER: Duration = Duration::from_millis(1_200);

/// How long to wait before asking again for what another member still has.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How many seconds' worth of requests a slice holds: what may be sent until the share ends.
const SLICE_SECONDS: u64 = 2;

/// Requests in a slice where no limit per second says how many there may be.
const SLICE_WITHOUT_LIMIT: u64 = 100;

/// How long a turn lasts if there are more members than requests in a second.
const TURN: i64 = 10_000;

/// The longest that a destination is stayed away from, whatever it asks: its longest window is a day.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);

/// What a credential has spent and who uses it now, as it stands in the checkpoint store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// With the slices that are not used up.
    pub hour: Option<WindowSpent>,
    pub day: Option<WindowSpent>,
    members: BTreeMap<String, Member>,
    /// The destination asked to stay away until then.
    paused_until: Option<Timestamp>,
}

/// A process that sends. Times are the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// Requests per second.
    share: u32,
    /// None of a member that does not tell: it keeps its share until that ends.
    #[serde(default)]
    demand: Demand,
    /// Requests of the hour and the day that it may still have.
    slice: u64,
    expires_at: Timestamp,
    /// Requests that a share which was greater, or was left, may have in the last second.
    lingering: u32,
    lingers_until: Timestamp,
}

impl Member {
    fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at > now
    }

    /// Requests per second that nobody else may have now.
    fn held_back(&self, now: Timestamp) -> u32 {
        let share = if self.expires_at.after(LINGER) > now { self.share } else { 0 };
        let lingering = if self.lingers_until > now { self.lingering } else { 0 };
        share.max(lingering)
    }

    /// When it will next let go of something by itself.
    fn lets_go_at(&self, now: Timestamp) -> Option<Timestamp> {
        let moments = [self.lingers_until, self.expires_at.after(LINGER)];
        moments.into_iter().filter(|at| *at > now).min()
    }
}

/// What a member says when it renews its share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub member: String,
    /// It sends no more.
    pub leaves: bool,
    pub demand: Demand,
    /// Requests that it sent within the last second.
    pub recent: u32,
    /// Requests left of its slice, and when it was drawn.
    pub unspent: u64,
    pub drawn_at: Timestamp,
    /// What the destination said is left of the hour and the day.
    pub told: Vec<(Window, u64)>,
    /// How much longer the destination asked to stay away.
    pub pause: Duration,
}

impl Claim {
    /// Whether the store needs to hear of it: a member that never drew anything leaves nothing behind.
    pub fn is_of_use(&self) -> bool {
        self.drawn_at != Timestamp::default()
    }
}

/// What a member may send from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The store's time.
    pub at: Timestamp,
    /// Requests per second; `None`: no limit.
    pub share: Option<u32>,
    /// Requests; `None`: neither the hour nor the day has a limit.
    pub slice: Option<u64>,
    /// When there may be more of the second, if the others still hold a part of this share.
    pub more_in: Option<Duration>,
    /// How long share and slice are good for.
    pub lasts: Duration,
    /// How long to wait before asking again, if the share or the slice is empty.
    pub ask_again: Duration,
    /// How long until so much of the hour and the day is free that a run which ended for it goes on with profit.
    pub worth_a_run_in: Duration,
    /// How long until requests of a backfill may leave, as far as hour and day go.
    pub backfill_in: Duration,
    /// How long the destination asked to stay away.
    pub pause: Duration,
}

impl Account {
    /// Takes what a member gives back and gives it what it may send next.
    pub fn renew(&mut self, limits: &RateLimits, claim: &Claim, now: Timestamp) -> Grant {
        self.members.retain(|_, member| member.is_live(now) || member.held_back(now) > 0);
        self.pause(claim.pause, now);
        let mut counters = self.counters(limits);
        for counter in counters.iter_mut().flatten() {
            counter.give_back(claim.unspent, claim.drawn_at.0, now.0);
        }
        lower(&mut counters, claim, now);
        let limit = if claim.leaves { Some(0) } else { limits.per_second.map(|limit| limit.max(1)) };
        let fair = limit.map(|limit| self.fair_share(limit, claim, now));
        let share = limit.zip(fair).map(|(limit, fair)| fair.min(self.free(limit, claim, now)));
        let more_in = (share < fair).then(|| self.more_in(claim, now));
        let backfill_in = counters.iter_mut().flatten().map(|counter| counter.wait_of_backfill(now.0)).max();
        let (slice, wait) = self.draw(&mut counters, share, claim, now);
        let worth_a_run = |counter: &mut Counter| counter.wait_for(counter.worth_a_run(), now.0);
        let worth_a_run_in = counters.iter_mut().flatten().map(worth_a_run).max().unwrap_or_default();
        let ends_in = counters.iter().flatten().map(|counter| counter.ends_in(now.0)).min();
        [self.hour, self.day] = counters.map(|counter| counter.map(|counter| counter.spent));
        self.note(claim, share, slice, now);
        Grant {
            at: now,
            share,
            slice,
            more_in,
            lasts: ends_in.unwrap_or(SHARE_TIME).min(SHARE_TIME),
            ask_again: more_in.filter(|_| wait <= ASK_AGAIN).unwrap_or(wait),
            worth_a_run_in,
            backfill_in: backfill_in.unwrap_or_default(),
            pause: self.pause_left(now),
        }
    }

    pub(super) fn counters(&self, limits: &RateLimits) -> [Option<Counter>; 2] {
        [Counter::new(HOUR, limits.per_hour, self.hour), Counter::new(DAY, limits.per_day, self.day)]
    }

    /// How long the destination asked to stay away.
    pub(super) fn pause_left(&self, now: Timestamp) -> Duration {
        self.paused_until.map_or(Duration::ZERO, |until| until.since(now).min(LONGEST_PAUSE))
    }

    fn pause(&mut self, pause: Duration, now: Timestamp) {
        if !pause.is_zero() {
            self.paused_until = self.paused_until.max(Some(now.after(pause.min(LONGEST_PAUSE))));
        }
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }

    fn others<'a>(&'a self, claim: &'a Claim) -> impl Iterator<Item = (&'a String, &'a Member)> {
        self.members.iter().filter(|(name, _)| **name != claim.member)
    }

    /// The share of a member once the others have let go of it.
    fn fair_share(&self, limit: u32, claim: &Claim, now: Timestamp) -> u32 {
        let live = self.others(claim).filter(|(_, member)| member.is_live(now));
        let mut members: Vec<(&str, Demand)> = live.map(|(name, member)| (name.as_str(), member.demand)).collect();
        members.push((&claim.member, claim.demand));
        members.sort_unstable_by_key(|(name, _)| *name);
        let count = i64::try_from(members.len()).unwrap_or(i64::MAX);
        if count > i64::from(limit) {
            let turn = now.0.div_euclid(TURN).rem_euclid(count);
            members.rotate_left(usize::try_from(turn).unwrap_or(0));
        }
        let demands: Vec<Demand> = members.iter().map(|(_, demand)| *demand).collect();
        let shares = divide(limit, &demands);
        let place = members.iter().position(|(name, _)| *name == claim.member);
        place.and_then(|place| shares.get(place).copied()).unwrap_or(0)
    }

    /// What the others hold nothing back of.
    fn free(&self, limit: u32, claim: &Claim, now: Timestamp) -> u32 {
        limit.saturating_sub(self.others(claim).map(|(_, member)| member.held_back(now)).sum())
    }

    fn more_in(&self, claim: &Claim, now: Timestamp) -> Duration {
        let at = self.others(claim).filter_map(|(_, member)| member.lets_go_at(now)).min();
        at.map_or(ASK_AGAIN, |at| at.since(now)).min(ASK_AGAIN)
    }

    /// Counts a slice as spent; tells how long to wait if there is nothing to draw from.
    fn draw(
        &self,
        counters: &mut [Option<Counter>; 2],
        share: Option<u32>,
        claim: &Claim,
        now: Timestamp,
    ) -> (Option<u64>, Duration) {
        let Some(room) = counters.iter_mut().flatten().map(|counter| counter.left(now.0)).min() else {
            return (None, ASK_AGAIN);
        };
        let wanted = share.map_or(SLICE_WITHOUT_LIMIT, |share| u64::from(share) * SLICE_SECONDS);
        let wanted = if claim.leaves { 0 } else { wanted };
        let others = || self.others(claim).filter(move |(_, member)| member.is_live(now));
        let slice = wanted.min(room.div_ceil(u64::from(count(others())) + 1));
        counters.iter_mut().flatten().for_each(|counter| counter.spent.current += slice);
        let is_empty = room == 0 && !others().any(|(_, member)| member.slice > 0);
        let wait = counters.iter_mut().flatten().map(|counter| counter.wait(now.0)).max().unwrap_or_default();
        (Some(slice), if is_empty { wait.max(ASK_AGAIN) } else { ASK_AGAIN })
    }

    fn note(&mut self, claim: &Claim, share: Option<u32>, slice: Option<u64>, now: Timestamp) {
        let member = Member {
            share: share.unwrap_or(0),
            demand: if claim.leaves { Demand::default() } else { claim.demand },
            slice: slice.unwrap_or(0),
            expires_at: if claim.leaves { now } else { now.after(SHARE_TIME) },
            lingering: claim.recent,
            lingers_until: now.after(LINGER),
        };
        self.members.insert(claim.member.clone(), member);
    }
}

/// Believes what the destination told, unless a window has ended since.
fn lower(counters: &mut [Option<Counter>; 2], claim: &Claim, now: Timestamp) {
    for (window, remaining) in &claim.told {
        let [hour, day] = &mut *counters;
        let counter = match window {
            // What was left of a second is history by the time it is read.
            Window::Second => None,
            Window::Hour => hour.as_mut(),
            Window::Day => day.as_mut(),
        };
        let of_now =
            |counter: &&mut Counter| claim.drawn_at.0.div_euclid(counter.length) == now.0.div_euclid(counter.length);
        if let Some(counter) = counter.filter(of_now) {
            counter.lower_to(*remaining, now.0);
        }
    }
}

fn count<T>(members: impl Iterator<Item = T>) -> u32 {
    u32::try_from(members.count()).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: RateLimits = RateLimits { per_second: Some(5), per_hour: Some(200), per_day: Some(300) };
    const START: i64 = 1_000 * DAY;

    /// A member that sends all it may: the worst that the others have to reckon with.
    #[derive(Clone, Copy, Default)]
    struct Greedy {
        share: u32,
        slice: u64,
        drawn_at: i64,
        expires_at: i64,
        /// The greatest share that may have been used, and until when it counts for the second.
        used: u32,
        used_until: i64,
    }

    impl Greedy {
        fn in_last_second(&self, now: i64) -> u32 {
            let ended = if now < self.expires_at + 1_020 { self.share } else { 0 };
            ended.max(if now < self.used_until { self.used } else { 0 })
        }
    }

    proptest! {
        #[test]
        fn members_never_exceed_any_window_together(
            steps in prop::collection::vec(
                (0_usize..7, 0_i64..2_500, any::<bool>(), 0_u64..20, (0_u32..7, 0_u32..7)),
                1..200,
            ),
        ) {
            let mut account = Account::default();
            let mut members = [Greedy::default(); 7];
            let (mut now, mut sent) = (START, Vec::new());
            for (name, passed, leaves, sends, (live, backfill)) in steps {
                now += passed;
                let member = &mut members[name];
                let recent = member.in_last_second(now);
                let is_held = now < member.expires_at;
                let sends = if is_held { sends.min(member.slice) } else { 0 };
                sent.extend((0..sends).map(|_| now));
                let unspent = if is_held { member.slice - sends } else { 0 };
                let drawn_at = Timestamp(member.drawn_at);
                let demand = Demand { live, backfill };
                let member_name = name.to_string();
                let claim =
                    Claim { member: member_name, leaves, demand, recent, unspent, drawn_at, ..Claim::default() };
                let grant = account.renew(&LIMITS, &claim, Timestamp(now));
                *member = Greedy {
                    share: grant.share.unwrap(),
                    slice: grant.slice.unwrap(),
                    drawn_at: now,
                    expires_at: if leaves { now } else { now + i64::try_from(grant.lasts.as_millis()).unwrap() },
                    used: recent,
                    used_until: now + 1_020,
                };
                let together: u32 = members.iter().map(|member| member.in_last_second(now)).sum();
                prop_assert!(together <= 5, "{} in one second", together);
                let hour = sent.iter().filter(|at| **at >= now.div_euclid(HOUR) * HOUR).count();
                prop_assert!(hour <= 200 && sent.len() <= 300, "{} in one hour, {} in one day", hour, sent.len());
            }
        }
    }

    #[test]
    fn what_an_earlier_version_stored_is_read() {
        let stored = serde_json::json!({ "hour": { "index": 3, "current": 2, "previous": 1 }, "day": null });
        let account: Account = serde_json::from_value(stored).unwrap();
        assert_eq!(account.hour, Some(WindowSpent { index: 3, current: 2, previous: 1 }));
    }
}
