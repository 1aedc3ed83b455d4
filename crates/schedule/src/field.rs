//! One field of a cron expression.

use std::collections::BTreeSet;

/// What a field may hold.
#[derive(Debug)]
pub(crate) struct FieldKind {
    pub(crate) name: &'static str,
    least: u32,
    greatest: u32,
    /// Names of the values from `least` on.
    names: &'static [&'static str],
}

pub(crate) static MINUTE: FieldKind = FieldKind { name: "minute", least: 0, greatest: 59, names: &[] };
pub(crate) static HOUR: FieldKind = FieldKind { name: "hour", least: 0, greatest: 23, names: &[] };
pub(crate) static DAY_OF_MONTH: FieldKind = FieldKind { name: "day of month", least: 1, greatest: 31, names: &[] };
pub(crate) static MONTH: FieldKind = FieldKind {
    name: "month",
    least: 1,
    greatest: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// 0 and 7 are Sunday.
pub(crate) static DAY_OF_WEEK: FieldKind =
    FieldKind { name: "day of week", least: 0, greatest: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

/// A field as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) values: BTreeSet<u32>,
    /// Whether it begins with `*`: then it leaves the choice of days to the other field of days.
    pub(crate) is_open: bool,
}

impl FieldKind {
    /// Reads a field; the error says what is wrong with it.
    pub(crate) fn parse(&self, text: &str) -> Result<Field, String> {
        let mut values = BTreeSet::new();
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (item, None),
            };
            let (first, last) = self.range(range, step.is_some())?;
            let step = step.map_or(Ok(1), |step| self.step(step))?;
            values.extend((first..=last).step_by(step));
        }
        Ok(Field { values, is_open: text.starts_with('*') })
    }

    fn range(&self, text: &str, has_step: bool) -> Result<(u32, u32), String> {
        if text == "*" {
            return Ok((self.least, self.greatest));
        }
        let Some((first, last)) = text.split_once('-') else {
            let value = self.value(text)?;
            if has_step {
                return Err(format!("`{text}/…` has no range; write `{text}-{}/…` or `*/…`", self.greatest));
            }
            return Ok((value, value));
        };
        let (first, mut last_value) = (self.value(first)?, self.value(last)?);
        // A week may end with Sunday, which is 0 by its name.
        if last_value == 0 && self.greatest == 7 && first > 0 {
            last_value = 7;
        }
        if first > last_value {
            return Err(format!("`{text}` runs backwards; write two ranges with a comma between them"));
        }
        Ok((first, last_value))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(position) = named {
            return Ok(self.least + position as u32);
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text.parse().ok().filter(|value| is_number && (self.least..=self.greatest).contains(value));
        value.ok_or_else(|| {
            let names =
                if self.names.is_empty() { String::new() } else { format!(" and no name such as {}", self.names[1]) };
            format!("`{text}` is no number from {} to {}{names}", self.least, self.greatest)
        })
    }

    fn step(&self, text: &str) -> Result<usize, String> {
        let step = text.parse().ok().filter(|step| (1..=self.greatest as usize).contains(step));
        step.ok_or_else(|| format!("`/{text}` is no step from 1 to {}", self.greatest))
    }
}
