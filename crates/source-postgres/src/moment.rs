//! Days and times, which PostgreSQL counts from the year 2000.
//!
//! What Arrow, a mapping's SQL and a destination can all hold are the years 1 to 9999. Infinities, which PostgreSQL has,
//! and far years fit into a text only.

use std::io::Write as _;

use crate::scalar::{BadForm, Written};

/// 2000-01-01 in days since 1970-01-01.
const EPOCH_DAY: i64 = 10_957;
/// 1970-01-01 in days since 0000-03-01, from where leap days come last in their years.
const UNIX_DAY_OF_MARCH: i64 = 719_468;
/// 0001-01-01 and 9999-12-31 in days since 1970-01-01.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;
const DAY_MICROS: i64 = 86_400_000_000;

/// Which values of dates and times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of the years 1 to 9999.
    Near,
    /// All.
    Far,
}

/// A day since 1970; none if there is no such day.
pub(crate) fn unix_day(day: i32) -> Option<i32> {
    let day = i64::from(day) + EPOCH_DAY;
    DAYS.contains(&day).then(|| i32::try_from(day).ok())?
}

/// Microseconds since 1970; none if there is no such time.
pub(crate) fn unix_micros(micros: i64) -> Option<i64> {
    let micros = micros.checked_add(EPOCH_DAY * DAY_MICROS)?;
    DAYS.contains(&micros.div_euclid(DAY_MICROS)).then_some(micros)
}

/// Microseconds as PostgreSQL counts them, of a time in microseconds since 1970.
pub(crate) fn postgres_micros(unix_micros: i64) -> i64 {
    unix_micros.saturating_sub(EPOCH_DAY * DAY_MICROS)
}

/// The day of a time, both as PostgreSQL counts them.
pub(crate) fn day_of(micros: i64) -> i64 {
    micros.div_euclid(DAY_MICROS)
}

pub(crate) fn write_date(day: i32, reach: Reach, text: &mut Vec<u8>) -> Written {
    if reach == Reach::Near && unix_day(day).is_none() {
        return Written::Lost;
    }
    match day {
        i32::MAX => text.extend_from_slice(b"infinity"),
        i32::MIN => text.extend_from_slice(b"-infinity"),
        day => {
            let era = write_day(i64::from(day), text);
            text.extend_from_slice(era);
        }
    }
    Written::Kept
}

/// Appends a time of day; the fraction without zeros at its end. PostgreSQL has 24:00:00.
pub(crate) fn write_time(micros: i64, text: &mut Vec<u8>) -> Result<(), BadForm> {
    if !(0..=DAY_MICROS).contains(&micros) {
        return Err(BadForm);
    }
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write!(text, "{hours:02}:{minutes:02}:{seconds:02}").expect("a vector takes every text");
    if fraction > 0 {
        write!(text, ".{fraction:06}").expect("a vector takes every text");
        let end = text.iter().rposition(|byte| *byte != b'0').map_or(0, |last| last + 1);
        text.truncate(end);
    }
    Ok(())
}

/// Appends a `timetz`: a time of day, and its seconds west of Greenwich.
pub(crate) fn write_time_with_zone(field: &[u8], text: &mut Vec<u8>) -> Result<(), BadForm> {
    let (time, west) = field.split_first_chunk().ok_or(BadForm)?;
    write_time(i64::from_be_bytes(*time), text)?;
    let west = i32::from_be_bytes(west.try_into().map_err(|_| BadForm)?);
    let (sign, seconds) = (if west > 0 { '-' } else { '+' }, west.unsigned_abs());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(text, "{sign}{hours:02}:{minutes:02}").expect("a vector takes every text");
    if seconds > 0 {
        write!(text, ":{seconds:02}").expect("a vector takes every text");
    }
    Ok(())
}

/// Appends day and time as ISO 8601 has them, and then the zone.
pub(crate) fn write_timestamp(
    micros: i64,
    (zone, reach): (&str, Reach),
    text: &mut Vec<u8>,
) -> Result<Written, BadForm> {
    if reach == Reach::Near && unix_micros(micros).is_none() {
        return Ok(Written::Lost);
    }
    match micros {
        i64::MAX => text.extend_from_slice(b"infinity"),
        i64::MIN => text.extend_from_slice(b"-infinity"),
        micros => {
            let era = write_day(day_of(micros), text);
            text.push(b'T');
            write_time(micros.rem_euclid(DAY_MICROS), text)?;
            text.extend_from_slice(zone.as_bytes());
            text.extend_from_slice(era);
        }
    }
    Ok(Written::Kept)
}

/// Appends a day, as PostgreSQL counts it, in the Gregorian calendar; gives what stands behind all else of a year before
/// the first.
fn write_day(day: i64, text: &mut Vec<u8>) -> &'static [u8] {
    let (year, month, day) = civil(day + EPOCH_DAY);
    let (year, era): (_, &[u8]) = if year > 0 { (year, b"") } else { (1 - year, b" BC") };
    write!(text, "{year:04}-{month:02}-{day:02}").expect("a vector takes every text");
    era
}

/// Year, month and day of a day since 1970: a year begins in March, and 400 of them have 146,097 days.
fn civil(unix_day: i64) -> (i64, i64, i64) {
    let day = unix_day + UNIX_DAY_OF_MARCH;
    let (cycle, day_of_cycle) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}
