//! From local times to moments, over the days on which clocks are changed.

use chrono::{DateTime, Duration, MappedLocalTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use convoke_core::Timestamp;

use crate::{Occurrence, Shift};

/// No gap in local time is longer: Samoa skipped a whole day in 2011.
const LONGEST_GAP_MINUTES: i64 = 24 * 60;

/// A name that is no time zone.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is no time zone of the IANA database; write one such as `Europe/Berlin` or `UTC`")]
pub struct ZoneError {
    name: String,
}

pub(crate) fn parse(name: &str) -> Result<Tz, ZoneError> {
    name.parse().map_err(|_| ZoneError { name: name.to_owned() })
}

/// A local time before every one that is kept after `time`.
pub(crate) fn well_before(zone: Tz, time: Timestamp) -> NaiveDateTime {
    let time = DateTime::<Utc>::from_timestamp_millis(time.0).unwrap_or_default();
    let local = time.with_timezone(&zone).naive_local();
    local.checked_sub_signed(Duration::minutes(LONGEST_GAP_MINUTES)).unwrap_or(local)
}

/// When a local time is kept; none beyond the range of dates.
pub(crate) fn occurrence(zone: Tz, wanted: NaiveDateTime) -> Option<Occurrence> {
    let (moment, shift) = match zone.from_local_datetime(&wanted) {
        MappedLocalTime::Single(moment) => (moment, None),
        MappedLocalTime::Ambiguous(first, second) => (first.min(second), Some(Shift::Repeated)),
        MappedLocalTime::None => (end_of_gap(zone, wanted)?, Some(Shift::Skipped { wanted })),
    };
    Some(Occurrence { at: Timestamp(moment.timestamp_millis()), local: moment.naive_local(), shift })
}

/// The first moment after the gap that a local time lies in. Clocks are changed on the minute.
fn end_of_gap(zone: Tz, wanted: NaiveDateTime) -> Option<DateTime<Tz>> {
    let minutes = (1..=LONGEST_GAP_MINUTES).map(|minutes| wanted.checked_add_signed(Duration::minutes(minutes)));
    minutes.flatten().find_map(|local| zone.from_local_datetime(&local).earliest())
}
