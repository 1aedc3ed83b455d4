//! Five-field cron expressions, and the local times that they name.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use crate::field::{self, Field, FieldKind};

const FIELDS: [&FieldKind; 5] =
    [&field::MINUTE, &field::HOUR, &field::DAY_OF_MONTH, &field::MONTH, &field::DAY_OF_WEEK];

/// Why a text is no cron expression.
#[derive(Debug, thiserror::Error)]
pub enum ExpressionError {
    #[error(
        "`{text}` has {found} fields where a cron expression has five: minute, hour, day of month, month, day of week"
    )]
    Fields { text: String, found: usize },
    #[error(
        "`{text}` is no cron expression of five fields; write the presets `daily`, `weekly` or `manual` without `@`"
    )]
    Macro { text: String },
    #[error("the {field} of `{text}` is wrong: {reason}")]
    Field { text: String, field: &'static str, reason: String },
    #[error("`{text}` names a day that never comes")]
    Never { text: String },
}

/// A parsed expression: one set of times, or two where a day of month or of week is enough.
#[derive(Clone, Debug)]
pub(crate) struct Expression(Vec<cron::Schedule>);

impl Expression {
    pub(crate) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let expression = Self::of_fields(&fields(text)?);
        let start = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN);
        if expression.after(start).next().is_none() {
            return Err(ExpressionError::Never { text: text.to_owned() });
        }
        Ok(expression)
    }

    fn of_fields([minute, hour, day, month, weekday]: &[Field; 5]) -> Self {
        let times = |day: &str, weekday: &str| {
            let (minute, hour, month) = (list(&minute.values), list(&hour.values), list(&month.values));
            let expression = format!("0 {minute} {hour} {day} {month} {weekday}");
            cron::Schedule::from_str(&expression).expect("each field is a list of numbers within its bounds")
        };
        let (days, weekdays) = (list(&day.values), weekday_list(&weekday.values));
        // Unix cron: if both are named, either is enough.
        if day.is_open || weekday.is_open {
            return Self(vec![times(&days, &weekdays)]);
        }
        Self(vec![times(&days, "*"), times("*", &weekdays)])
    }

    /// The local times after `start`, in order.
    pub(crate) fn after(&self, start: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> + '_ {
        // As if they were in UTC, where no day skips or repeats a time.
        let start: DateTime<Utc> = start.and_utc();
        let mut sets: Vec<_> = self.0.iter().map(|times| times.after(&start).peekable()).collect();
        std::iter::from_fn(move || {
            let next = sets.iter_mut().filter_map(|times| times.peek().copied()).min()?;
            for times in &mut sets {
                times.next_if_eq(&next);
            }
            Some(next.naive_utc())
        })
    }
}

fn fields(text: &str) -> Result<[Field; 5], ExpressionError> {
    if text.trim_start().starts_with('@') {
        return Err(ExpressionError::Macro { text: text.to_owned() });
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    let parts: [&str; 5] = parts
        .try_into()
        .map_err(|parts: Vec<_>| ExpressionError::Fields { text: text.to_owned(), found: parts.len() })?;
    let mut fields = Vec::with_capacity(FIELDS.len());
    for (kind, part) in FIELDS.into_iter().zip(parts) {
        let field = kind.parse(part).map_err(|reason| ExpressionError::Field {
            text: text.to_owned(),
            field: kind.name,
            reason,
        })?;
        fields.push(field);
    }
    Ok(fields.try_into().expect("there is one for each part"))
}

fn list(values: &BTreeSet<u32>) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The library counts Sunday as 1.
fn weekday_list(values: &BTreeSet<u32>) -> String {
    let numbers: BTreeSet<u32> = values.iter().map(|day| day % 7 + 1).collect();
    list(&numbers)
}
