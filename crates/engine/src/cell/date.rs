//! Calendar days.
//!
//! Accepted: `YYYY-MM-DD` and `YYYY/MM/DD`, each alone or followed by `T` or a space and a time of day with an
//! optional zone. The time is cut off, not converted: the day is the one that is written. Other spellings are
//! ambiguous between continents and are refused.

use std::borrow::Cow;

use chrono::NaiveDate;

use super::{CellRefusal, refusal};

const NOT_DAY: CellRefusal = refusal("invalid_date", "it is no day that exists, written YYYY-MM-DD");

/// Characters of `YYYY-MM-DD`.
const DAY_LENGTH: usize = 10;

pub(super) fn day(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    let bytes = text.as_bytes();
    if bytes.len() < DAY_LENGTH || !bytes[..DAY_LENGTH].is_ascii() {
        return Err(NOT_DAY);
    }
    let (head, rest) = text.split_at(DAY_LENGTH);
    let separator = bytes[4];
    if !matches!(separator, b'-' | b'/') || bytes[7] != separator || !is_time(rest) {
        return Err(NOT_DAY);
    }
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let part = &head[range];
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (Some(year), Some(month), Some(day)) = (year, month, day) else { return Err(NOT_DAY) };
    let year = i32::try_from(year).map_err(|_| NOT_DAY)?;
    NaiveDate::from_ymd_opt(year, month, day).ok_or(NOT_DAY)?;
    if separator == b'-' { Ok(Cow::Borrowed(head)) } else { Ok(Cow::Owned(head.replace('/', "-"))) }
}

/// Whether this can stand behind a day: nothing, or a separator and something that looks like a time.
fn is_time(rest: &str) -> bool {
    let Some(time) = rest.strip_prefix(['T', ' ']) else { return rest.is_empty() };
    let starts_with_hour = time.as_bytes().get(..2).is_some_and(|hour| hour.iter().all(u8::is_ascii_digit));
    let allowed =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b',' | b'+' | b'-' | b'Z' | b'z' | b' ');
    let without_zone_name = time.trim_end_matches("UTC").trim_end();
    starts_with_hour && without_zone_name.bytes().all(allowed)
}
