//! The meaning of comparisons that evaluator and compilers share.

use chrono::{Days, NaiveDate};
use convoke_core::rule::{Literal, Operator};

/// What bounds a word besides the ends of the text: white space and ASCII punctuation.
pub(crate) const SEPARATORS: &str = " \t\n\r!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// Texts that mean true, folded.
pub(crate) const TRUE_TEXTS: &[&str] = &["true", "t", "yes", "y", "1"];
/// Texts that mean false, folded.
pub(crate) const FALSE_TEXTS: &[&str] = &["false", "f", "no", "n", "0"];

/// Folds ASCII letters only: SQLite's `lower` can do no more, and all targets must agree.
pub(crate) fn fold(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// The finite number that a text stands for, spaces around it aside.
pub(crate) fn number_of(text: &str) -> Option<f64> {
    text.trim_matches(' ').parse::<f64>().ok().filter(|number| number.is_finite())
}

/// The text a number stands for on a text column: `49`, not `49.0`.
pub(crate) fn number_text(number: f64) -> String {
    format!("{number}")
}

/// The day at the start of a cell: by its form only, as no target can check the calendar cheaply.
pub(crate) fn day_of(text: &str) -> Option<&str> {
    let day = text.get(..10)?;
    let has_form = day.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let ends_well = matches!(text.as_bytes().get(10), None | Some(b'T' | b' '));
    (has_form && ends_well).then_some(day)
}

/// A day as a rule may name it: in form and in the calendar.
pub(crate) fn calendar_day(text: &str) -> Option<NaiveDate> {
    let day = day_of(text).filter(|day| day.len() == text.len())?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
}

/// The first and last day that a date operator admits, both included and both in `YYYY-MM-DD`; `None`: no limit.
pub(crate) struct DayRange {
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
}

/// Resolves a date operator of a validated rule; `None` for any other operator.
pub(crate) fn day_range(operator: Operator, values: &[Literal], today: NaiveDate) -> Option<DayRange> {
    let day = |index: usize| values.get(index).and_then(as_text).and_then(calendar_day);
    let (first, last) = match operator {
        Operator::IsExactDate => (day(0), day(0)),
        Operator::Before => (None, day(0)?.pred_opt()),
        Operator::After => (day(0)?.succ_opt(), None),
        Operator::Within => (day(0), day(1)),
        Operator::RollingRange => {
            let days = values.first().and_then(as_number)?;
            (today.checked_sub_days(Days::new(days as u64)), Some(today))
        }
        _ => return None,
    };
    let in_form = |day: NaiveDate| day.format("%Y-%m-%d").to_string();
    Some(DayRange { first: first.map(in_form), last: last.map(in_form) })
}

/// The operator whose opposite this one is.
pub(crate) fn opposite(operator: Operator) -> Option<Operator> {
    match operator {
        Operator::NotEquals => Some(Operator::Equals),
        Operator::DoesNotContain => Some(Operator::Contains),
        Operator::DoesNotContainWord => Some(Operator::ContainsWord),
        Operator::DoesNotStartWith => Some(Operator::StartsWith),
        Operator::HasNoneOf => Some(Operator::HasOneOf),
        Operator::NotEmpty => Some(Operator::Empty),
        _ => None,
    }
}

pub(crate) fn as_text(literal: &Literal) -> Option<&str> {
    match literal {
        Literal::Text(text) => Some(text),
        Literal::Number(_) | Literal::Boolean(_) => None,
    }
}

pub(crate) fn as_number(literal: &Literal) -> Option<f64> {
    match literal {
        Literal::Number(number) => Some(*number),
        Literal::Text(_) | Literal::Boolean(_) => None,
    }
}

/// The text literals, folded.
pub(crate) fn folded_texts(values: &[Literal]) -> Vec<String> {
    values.iter().filter_map(as_text).map(fold).collect()
}

pub(crate) fn numbers(values: &[Literal]) -> Vec<f64> {
    values.iter().filter_map(as_number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_told_by_its_form() {
        for (text, expected) in [
            ("2026-01-31", Some("2026-01-31")),
            ("2026-01-31T10:00:00Z", Some("2026-01-31")),
            ("2026-01-31 10:00", Some("2026-01-31")),
            ("2026-01-310", None),
            ("2026-1-31", None),
            ("", None),
            ("éééééé", None),
        ] {
            assert_eq!(day_of(text), expected, "{text}");
        }
    }

    #[test]
    fn only_days_of_the_calendar_may_stand_in_a_rule() {
        assert!(calendar_day("2024-02-29").is_some());
        assert!(calendar_day("2026-02-29").is_none());
        assert!(calendar_day("2026-02-01T00:00").is_none());
    }

    #[test]
    fn the_last_days_reach_from_that_many_days_ago_until_today() {
        let today = calendar_day("2026-03-02").unwrap();
        let range = day_range(Operator::RollingRange, &[Literal::Number(2.0)], today).unwrap();
        assert_eq!(range.first.as_deref(), Some("2026-02-28"));
        assert_eq!(range.last.as_deref(), Some("2026-03-02"));
    }

    #[test]
    fn only_finite_numbers_are_numbers() {
        assert_eq!(number_of(" 1.5e3 "), Some(1500.0));
        for text in ["", "inf", "NaN", "1,5", "1e999", "\t1"] {
            assert_eq!(number_of(text), None, "{text}");
        }
    }
}
