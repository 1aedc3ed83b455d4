//! When a sync is due: cron expressions in a time zone.
//!
//! Pure: what is asked gets the time it is asked about. An expression has the five fields of Unix cron, read as Unix
//! reads them. It is a matter of local time: a time that a day skips for daylight saving is kept at the first moment
//! after the gap, and a time that a day has twice is kept once, at its first.

mod expression;
mod field;
mod jitter;
mod next_run;
mod zone;

use std::time::Duration;

use chrono::NaiveDateTime;
use chrono_tz::Tz;
use convoke_core::Timestamp;

use crate::expression::Expression;

pub use crate::expression::ExpressionError;
pub use crate::jitter::Jitter;
pub use crate::next_run::NextRun;
pub use crate::zone::ZoneError;

/// Why there is no such schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

/// The times at which a sync runs.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: Expression,
    zone: Tz,
}

/// One time of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub at: Timestamp,
    /// What clocks on the wall of the schedule's zone show then.
    pub local: NaiveDateTime,
    /// Set where daylight saving meddles.
    pub shift: Option<Shift>,
}

/// What daylight saving does to an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// The day skips this local time; it is kept at the first moment after the gap.
    Skipped { wanted: NaiveDateTime },
    /// The day has this local time twice; it is kept at the first.
    Repeated,
}

/// Among how many times the shortest gap is looked for.
const GAPS: usize = 100;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The latest occurrence whose start has come.
    pub latest: Occurrence,
    /// When its run starts: its time and the jitter.
    pub starts_at: Timestamp,
    /// Occurrences before it whose start has come, too.
    pub earlier: u64,
}

impl Schedule {
    /// A schedule from a five-field cron expression and an IANA time zone, such as `Europe/Berlin`.
    pub fn cron(expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        Ok(Self { expression: Expression::parse(expression)?, zone: zone::parse(zone)? })
    }

    /// Every day at 09:00 UTC.
    pub fn daily() -> Self {
        Self::cron("0 9 * * *", "UTC").expect("it is well formed")
    }

    /// Every Saturday at 18:00 UTC.
    pub fn weekly() -> Self {
        Self::cron("0 18 * * SAT", "UTC").expect("it is well formed")
    }

    /// The occurrences after a time, in order, no two of them at one time.
    pub fn after(&self, time: Timestamp) -> impl Iterator<Item = Occurrence> + '_ {
        let wanted = self.expression.after(zone::well_before(self.zone, time));
        let mut last = time;
        wanted.filter_map(move |wanted| {
            let occurrence = zone::occurrence(self.zone, wanted)?;
            let is_new = occurrence.at > last;
            last = last.max(occurrence.at);
            is_new.then_some(occurrence)
        })
    }

    /// The shortest time between two of its next times on the clocks of its zone, daylight saving left aside; none if
    /// there are no two.
    pub fn shortest_gap(&self, after: Timestamp) -> Option<Duration> {
        let regular = self.after(after).take(GAPS).filter(|occurrence| occurrence.shift.is_none());
        let times: Vec<_> = regular.map(|occurrence| occurrence.local).collect();
        times.windows(2).filter_map(|pair| (pair[1] - pair[0]).to_std().ok()).min()
    }

    /// What has come due of the occurrences after `since`; none if nothing has.
    pub fn due(&self, since: Timestamp, now: Timestamp, jitter: &Jitter) -> Option<Due> {
        let mut due: Option<Due> = None;
        for latest in self.after(since).take_while(|occurrence| occurrence.at <= now) {
            let starts_at = jitter.start_of(latest.at);
            if starts_at <= now {
                due = Some(Due { latest, starts_at, earlier: due.map_or(0, |due| due.earlier + 1) });
            }
        }
        due
    }
}

#[cfg(test)]
mod tests;
