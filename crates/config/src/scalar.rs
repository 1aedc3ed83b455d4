//! The scalars of the configuration: durations, sizes, shares, limits.

use std::time::Duration;

use convoke_core::spec::Limit;

/// Units of a duration, in milliseconds.
const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of a size, in bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Parses `30s`, `5m`, `2h`, `7d`, `250ms`; `0` needs a unit too.
pub fn duration(text: &str) -> Option<Duration> {
    with_unit(text, DURATION_UNITS).map(Duration::from_millis)
}

/// Parses `512MB` (powers of ten) or `512MiB` (powers of two).
pub(crate) fn size(text: &str) -> Option<u64> {
    with_unit(text, SIZE_UNITS)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Parses a whole number without sign.
pub(crate) fn count(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Parses `true` or `false`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Parses `5%` or `2.5%`, from 0 to 100.
pub(crate) fn percent(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?.trim_end();
    let is_decimal = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_decimal {
        return None;
    }
    number.parse().ok().filter(|share| (0.0..=100.0).contains(share))
}

/// Parses `5%` (of what there is), `100` (records) or `unlimited`.
pub(crate) fn limit(text: &str) -> Option<Limit> {
    if text == "unlimited" {
        return Some(Limit::unlimited());
    }
    match percent(text) {
        Some(share) => Some(Limit::percent(share)),
        None => count(text).map(|records| Limit { percent: None, records: Some(records) }),
    }
}

/// What stands for a delimiter or an encoding that each file tells itself.
pub(crate) const DETECTED: &str = "auto";

/// Parses a field separator: one ASCII character, or the word `tab`.
pub(crate) fn delimiter(text: &str) -> Option<char> {
    if text == "tab" {
        return Some('\t');
    }
    let mut characters = text.chars();
    let (Some(delimiter), None) = (characters.next(), characters.next()) else { return None };
    let separates = delimiter.is_ascii_punctuation() && delimiter != '"' || delimiter == '\t';
    separates.then_some(delimiter)
}

/// Whether `text` can name a sync or a connection: it stands in paths, keys and messages.
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let inner_bounds = !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed) && inner_bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_whole_number() {
        assert_eq!(duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("250 ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "30", "s", "1.5h", "-1s", "5 minutes", "99999999999999999d", "1é"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_tell_powers_of_ten_from_powers_of_two() {
        assert_eq!(size("512MB"), Some(512_000_000));
        assert_eq!(size("1 GiB"), Some(1 << 30));
        for wrong in ["512", "512mb", "1.5GB", "MB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn limits_are_percent_or_records() {
        assert_eq!(limit("5%"), Some(Limit::percent(5.0)));
        assert_eq!(limit("100"), Some(Limit { percent: None, records: Some(100) }));
        assert_eq!(limit("unlimited"), Some(Limit::unlimited()));
        for wrong in ["101%", "-1%", "5.5", "1e2%", "%", "inf%"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn delimiters_cannot_be_confused_with_contents() {
        assert_eq!(delimiter(";"), Some(';'));
        assert_eq!(delimiter("tab"), Some('\t'));
        for wrong in ["", "a", "\"", "\n", "||", "é", " "] {
            assert_eq!(delimiter(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_lower_case_words_joined_by_hyphens() {
        assert!(is_name("booth-scans-2026"));
        for wrong in ["", "Booth", "booth_scans", "-a", "a-", "ä", "a/b", "a.b"] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
