//! The next runs of a schedule, for people to read.

use chrono::{DateTime, NaiveDateTime, Utc};
use convoke_core::Timestamp;

use crate::{Occurrence, Schedule, Shift};

/// One run to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextRun {
    pub at: Timestamp,
    /// The same in the schedule's zone, with the zone's short name: `Sun 2026-03-29 03:00 CEST`.
    pub local: String,
    /// What daylight saving does to it, in words; none on other days.
    pub note: Option<String>,
}

impl Schedule {
    /// The next runs after a time, at most `count`, without jitter.
    pub fn next_runs(&self, after: Timestamp, count: usize) -> Vec<NextRun> {
        self.after(after).take(count).map(|occurrence| self.describe(&occurrence)).collect()
    }

    fn describe(&self, occurrence: &Occurrence) -> NextRun {
        let at = DateTime::<Utc>::from_timestamp_millis(occurrence.at.0).unwrap_or_default();
        let local = at.with_timezone(&self.zone).format("%a %Y-%m-%d %H:%M %Z").to_string();
        NextRun { at: occurrence.at, local, note: occurrence.shift.map(|shift| note(shift, occurrence.local)) }
    }
}

fn note(shift: Shift, local: NaiveDateTime) -> String {
    match shift {
        Shift::Skipped { wanted } if wanted.date() == local.date() => {
            format!("clocks skip {} on this day; it runs at the first moment after the gap", wanted.format("%H:%M"))
        }
        Shift::Skipped { wanted } => {
            format!("clocks skip {}; it runs at the first moment after the gap", wanted.format("%Y-%m-%d %H:%M"))
        }
        Shift::Repeated => "clocks show this time twice on this day; it runs at the first".to_owned(),
    }
}
