//! Days and times, which PostgreSQL counts from the year 2000.
//!
//! Only what four digits of a year can write is kept: infinities, which PostgreSQL has, and far years have no place in
//! a mapping's SQL or at a destination.

use std::io::Write as _;

use chrono::NaiveDate;

use crate::scalar::{BadForm, Written};

/// 2000-01-01 in days since 1970-01-01.
const EPOCH_DAY: i64 = 10_957;
/// 1970-01-01 in days since the last day of the year 0, as `chrono` counts.
const UNIX_DAY_OF_COMMON_ERA: i32 = 719_163;
/// 0001-01-01 and 9999-12-31 in days since 1970-01-01.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;
const DAY_MICROS: i64 = 86_400_000_000;

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

pub(crate) fn write_date(day: i32, text: &mut Vec<u8>) -> Result<Written, BadForm> {
    let Some(day) = unix_day(day) else { return Ok(Written::Lost) };
    write_day(day, text)?;
    Ok(Written::Kept)
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

/// Appends day and time as ISO 8601 has them, and then the zone.
pub(crate) fn write_timestamp(micros: i64, zone: &str, text: &mut Vec<u8>) -> Result<Written, BadForm> {
    let Some(micros) = unix_micros(micros) else { return Ok(Written::Lost) };
    let day = i32::try_from(micros.div_euclid(DAY_MICROS)).map_err(|_| BadForm)?;
    write_day(day, text)?;
    text.push(b'T');
    write_time(micros.rem_euclid(DAY_MICROS), text)?;
    text.extend_from_slice(zone.as_bytes());
    Ok(Written::Kept)
}

fn write_day(unix_day: i32, text: &mut Vec<u8>) -> Result<(), BadForm> {
    let day = NaiveDate::from_num_days_from_ce_opt(unix_day + UNIX_DAY_OF_COMMON_ERA).ok_or(BadForm)?;
    write!(text, "{}", day.format("%Y-%m-%d")).expect("a vector takes every text");
    Ok(())
}
