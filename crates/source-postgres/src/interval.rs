//! PostgreSQL's `interval` as ISO 8601 has durations, which is how PostgreSQL writes it with `IntervalStyle` `iso_8601`.

use std::io::Write as _;

const MICROS: i64 = 1_000_000;

/// Appends an interval: microseconds, days and months, each with a sign of its own.
pub(crate) fn write(field: [u8; 16], text: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h, days @ .., i, j, k, l] = field;
    let micros = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let (days, months) = (i32::from_be_bytes(days), i32::from_be_bytes([i, j, k, l]));
    match (micros, days, months) {
        // Since version 17.
        (i64::MAX, i32::MAX, i32::MAX) => return text.extend_from_slice(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => return text.extend_from_slice(b"-infinity"),
        (0, 0, 0) => return text.extend_from_slice(b"PT0S"),
        _ => text.push(b'P'),
    }
    part(i64::from(months / 12), 'Y', text);
    part(i64::from(months % 12), 'M', text);
    part(i64::from(days), 'D', text);
    if micros == 0 {
        return;
    }
    text.push(b'T');
    let seconds = micros / MICROS;
    part(seconds / 3600, 'H', text);
    part(seconds / 60 % 60, 'M', text);
    write_seconds(seconds % 60, micros % MICROS, text);
}

fn part(number: i64, unit: char, text: &mut Vec<u8>) {
    if number != 0 {
        write!(text, "{number}{unit}").expect("a vector takes every text");
    }
}

fn write_seconds(seconds: i64, fraction: i64, text: &mut Vec<u8>) {
    if seconds == 0 && fraction == 0 {
        return;
    }
    // The sign stands once, also before a zero.
    let sign = if seconds < 0 || fraction < 0 { "-" } else { "" };
    write!(text, "{sign}{}", seconds.abs()).expect("a vector takes every text");
    if fraction != 0 {
        write!(text, ".{:06}", fraction.abs()).expect("a vector takes every text");
        let end = text.iter().rposition(|byte| *byte != b'0').map_or(0, |last| last + 1);
        text.truncate(end);
    }
    text.push(b'S');
}
