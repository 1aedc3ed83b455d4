//! Holds a rule against the columns it is used on.

use std::ops::RangeInclusive;

use convoke_core::rule::{Condition, Literal, Operator, Rule};

use crate::operators::usage;
use crate::semantics::{calendar_day, number_of, number_text};
use crate::{ColumnKind, Columns, OperatorInfo, RuleProblem};

/// The longest reach of `ROLLING_RANGE`: a hundred years, so that no date arithmetic overflows.
const MOST_DAYS: f64 = 36_525.0;

/// Checks a rule against its columns and gives it back with each literal in its column's type.
///
/// # Errors
///
/// Everything that is wrong: unknown columns, operators that do not fit, wrong counts and types of values.
pub fn validate(rule: &Rule, columns: &dyn Columns) -> Result<Rule, Vec<RuleProblem>> {
    let mut validator = Validator { columns, path: Vec::new(), problems: Vec::new() };
    let valid = validator.rule(rule);
    if validator.problems.is_empty() { Ok(valid) } else { Err(validator.problems) }
}

struct Validator<'a> {
    columns: &'a dyn Columns,
    path: Vec<String>,
    problems: Vec<RuleProblem>,
}

impl Validator<'_> {
    fn rule(&mut self, rule: &Rule) -> Rule {
        match rule {
            Rule::All(parts) => Rule::All(self.parts("all", parts)),
            Rule::Any(parts) => Rule::Any(self.parts("any", parts)),
            Rule::Condition(condition) => Rule::Condition(self.condition(condition)),
        }
    }

    fn parts(&mut self, group: &str, parts: &[Rule]) -> Vec<Rule> {
        let depth = self.path.len();
        let mut valid = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            self.path.extend([group.to_owned(), index.to_string()]);
            valid.push(self.rule(part));
            self.path.truncate(depth);
        }
        valid
    }

    /// Gives back the condition with converted values; after a problem the values do not matter any more.
    fn condition(&mut self, condition: &Condition) -> Condition {
        match convert(condition, self.columns) {
            Ok(values) => Condition { values, ..condition.clone() },
            Err(message) => {
                self.problems.push(RuleProblem { path: self.path.clone(), message });
                condition.clone()
            }
        }
    }
}

fn convert(condition: &Condition, columns: &dyn Columns) -> Result<Vec<Literal>, String> {
    let Condition { column, operator, values } = condition;
    let Some(kind) = columns.kind(column) else {
        let hint = columns.nearest(column).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        return Err(format!("there is no column `{column}`{hint}"));
    };
    let Some(info) = usage(kind, *operator) else {
        return Err(format!("`{}` does not fit column `{column}`, which is {}", operator.as_str(), kind.noun()));
    };
    let allowed = value_count(info);
    if !allowed.contains(&values.len()) {
        let wanted = count_phrase(&allowed);
        return Err(format!("`{}` takes {wanted}, not {}", operator.as_str(), values.len()));
    }
    let converted: Vec<Literal> =
        values.iter().map(|value| convert_value(kind, *operator, value)).collect::<Result<_, _>>()?;
    check_order(*operator, &converted)?;
    Ok(converted)
}

fn value_count(info: OperatorInfo) -> RangeInclusive<usize> {
    let most = info.value_count_limit.unwrap_or(usize::MAX);
    match info.operator {
        Operator::InRange | Operator::Within => 2..=2,
        _ if info.multiple => 1..=most,
        _ => most..=most,
    }
}

fn count_phrase(allowed: &RangeInclusive<usize>) -> String {
    match (*allowed.start(), *allowed.end()) {
        (0, 0) => "no value".to_owned(),
        (1, 1) => "one value".to_owned(),
        (1, usize::MAX) => "at least one value".to_owned(),
        (least, most) if least == most => format!("{least} values"),
        (least, most) => format!("{least} to {most} values"),
    }
}

/// What a literal has to be for an operator on a column.
enum Wanted {
    Text,
    Number,
    Day,
    Days,
    TextOrNumber,
}

fn wanted(kind: ColumnKind, operator: Operator) -> Wanted {
    use Operator as O;
    match operator {
        O::RollingRange => Wanted::Days,
        O::IsExactDate | O::Before | O::After | O::Within => Wanted::Day,
        O::GreaterThan | O::LessThan | O::GreaterThanOrEqual | O::LessThanOrEqual | O::InRange => Wanted::Number,
        O::Equals | O::NotEquals if kind == ColumnKind::Untyped => Wanted::TextOrNumber,
        _ if matches!(kind, ColumnKind::Number | ColumnKind::NumberList) => Wanted::Number,
        _ => Wanted::Text,
    }
}

fn convert_value(kind: ColumnKind, operator: Operator, value: &Literal) -> Result<Literal, String> {
    let name = operator.as_str();
    match (wanted(kind, operator), value) {
        (_, Literal::Boolean(_)) => Err(format!("`{name}` takes no true or false; use `IS_TRUE` or `IS_FALSE`")),
        (_, Literal::Number(number)) if !number.is_finite() => Err(format!("`{name}` takes finite numbers only")),
        (Wanted::Text | Wanted::TextOrNumber, Literal::Text(text)) if text.is_empty() => {
            Err(format!("`{name}` takes no empty text; use `EMPTY` or `NOT_EMPTY`"))
        }
        (Wanted::Text, Literal::Number(number)) => Ok(Literal::Text(number_text(*number))),
        (Wanted::Text, Literal::Text(_)) | (Wanted::TextOrNumber, _) => Ok(value.clone()),
        (Wanted::Number, _) => number(value).map(Literal::Number).ok_or_else(|| format!("`{name}` takes numbers")),
        (Wanted::Day, Literal::Text(text)) if calendar_day(text).is_some() => Ok(value.clone()),
        (Wanted::Day, _) => Err(format!("`{name}` takes days of the form `YYYY-MM-DD`")),
        (Wanted::Days, _) => number(value)
            .filter(|days| days.fract() == 0.0 && (0.0..=MOST_DAYS).contains(days))
            .map(Literal::Number)
            .ok_or_else(|| format!("`{name}` takes a whole number of days from 0 to {MOST_DAYS}")),
    }
}

fn number(value: &Literal) -> Option<f64> {
    match value {
        Literal::Number(number) => Some(*number),
        Literal::Text(text) => number_of(text),
        Literal::Boolean(_) => None,
    }
}

fn check_order(operator: Operator, values: &[Literal]) -> Result<(), String> {
    let in_order = match values {
        [Literal::Number(first), Literal::Number(last)] => first <= last,
        [Literal::Text(first), Literal::Text(last)] => first <= last,
        _ => true,
    };
    if in_order || !matches!(operator, Operator::InRange | Operator::Within) {
        return Ok(());
    }
    Err(format!("`{}` takes the smaller end first", operator.as_str()))
}

#[cfg(test)]
mod tests;
