//! Our own spelling: `all`, `any`, and conditions with one key per operator.

use convoke_core::rule::{Condition, Literal, Operator, Rule};
use serde_json::{Map, Value};

use super::{Problems, hint, noun};
use crate::RuleProblem;
use crate::operators::{Argument, CONDITION_KEYS, ConditionKey};
use crate::semantics::calendar_day;

/// Deeper rules are refused, so that no recursion over a rule can exhaust the stack.
const MOST_LEVELS: usize = 32;

/// Parses `{all: […]}`, `{any: […]}` or `{column: …, <operator>: …}`, given as JSON.
///
/// Several operators in one condition mean all of them.
///
/// # Errors
///
/// Everything that is wrong, each with its path.
pub fn yaml(value: &Value) -> Result<Rule, Vec<RuleProblem>> {
    let mut problems = Problems::default();
    let rule = rule(value, 1, &mut problems);
    problems.finish(rule)
}

fn rule(value: &Value, level: usize, problems: &mut Problems) -> Option<Rule> {
    if level > MOST_LEVELS {
        problems.push(format!("groups are nested more than {MOST_LEVELS} deep; use `in` or `sql`"));
        return None;
    }
    let Value::Object(members) = value else {
        problems.push(format!("expected `all`, `any` or a condition with `column`, not {}", noun(value)));
        return None;
    };
    let group = ["all", "any"].into_iter().find_map(|key| members.get_key_value(key));
    match group {
        Some((key, parts)) => {
            for other in members.keys().filter(|other| *other != key) {
                problems.within(other.clone(), |problems| {
                    problems.push(format!("`{other}` cannot stand beside `{key}`; put it into the list"));
                });
            }
            let parts = problems.within(key.clone(), |problems| group_parts(parts, level, problems))?;
            Some(if key == "all" { Rule::All(parts) } else { Rule::Any(parts) })
        }
        None => condition(members, problems),
    }
}

fn group_parts(parts: &Value, level: usize, problems: &mut Problems) -> Option<Vec<Rule>> {
    let parts = match parts {
        Value::Array(parts) if !parts.is_empty() => parts,
        Value::Array(_) => {
            problems.push("expected at least one condition");
            return None;
        }
        other => {
            problems.push(format!("expected a list of conditions, not {}", noun(other)));
            return None;
        }
    };
    let mut rules = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        rules.extend(problems.within(index.to_string(), |problems| rule(part, level + 1, problems)));
    }
    Some(rules)
}

fn condition(members: &Map<String, Value>, problems: &mut Problems) -> Option<Rule> {
    let column = match members.get("column") {
        Some(Value::String(column)) if !column.is_empty() => column.clone(),
        Some(_) => {
            problems.within("column", |problems| problems.push("expected the name of a column"));
            return None;
        }
        None if members.len() == 1 && !members.keys().any(|key| key_named(key).is_some()) => {
            let key = members.keys().next()?;
            let hint = hint(key, ["all", "any", "column"].into_iter());
            problems.within(key.clone(), |problems| problems.push(format!("unknown key `{key}`{hint}")));
            return None;
        }
        None => {
            problems.push("a condition needs `column`");
            return None;
        }
    };
    let mut conditions = Vec::new();
    let mut operator_count = 0;
    for (name, argument) in members.iter().filter(|(name, _)| *name != "column") {
        operator_count += 1;
        let parsed = problems.within(name.clone(), |problems| operator(name, argument, problems));
        conditions.extend(
            parsed.map(|(operator, values)| Rule::Condition(Condition { column: column.clone(), operator, values })),
        );
    }
    if operator_count == 0 {
        problems.push("a condition needs an operator, for example `not_empty: true` or `in: [DE, FR]`");
    }
    if conditions.len() == 1 { conditions.pop() } else { Some(Rule::All(conditions)) }
}

fn key_named(name: &str) -> Option<&'static ConditionKey> {
    CONDITION_KEYS.iter().find(|key| key.name == name)
}

fn operator(name: &str, argument: &Value, problems: &mut Problems) -> Option<(Operator, Vec<Literal>)> {
    let Some(key) = key_named(name) else {
        let hint = hint(name, CONDITION_KEYS.iter().map(|key| key.name).chain(["column", "all", "any"]));
        problems.push(format!("unknown operator `{name}`{hint}"));
        return None;
    };
    if key.argument == Argument::Flag {
        return flag(key, argument, problems).map(|operator| (operator, Vec::new()));
    }
    match literals(key.argument, argument) {
        Ok(values) => Some((key.operator, values)),
        Err(message) => {
            problems.push(format!("`{name}` takes {message}"));
            None
        }
    }
}

fn flag(key: &ConditionKey, argument: &Value, problems: &mut Problems) -> Option<Operator> {
    match (argument, key.operator) {
        (Value::Bool(true), operator) => Some(operator),
        (Value::Bool(false), Operator::Empty) => Some(Operator::NotEmpty),
        (Value::Bool(false), Operator::NotEmpty) => Some(Operator::Empty),
        // An empty cell is neither true nor false, so the opposite is for the user to choose.
        _ => {
            problems.push(format!("`{}` takes `true` only", key.name));
            None
        }
    }
}

/// Reads an operator's argument; the error names what it takes.
fn literals(argument: Argument, value: &Value) -> Result<Vec<Literal>, &'static str> {
    let single = |wanted| literal(value).map(|value| vec![value]).ok_or(wanted);
    match argument {
        Argument::Flag => Err("`true`"),
        Argument::Value => single("one text or number; for several use the key that takes a list, such as `in`"),
        Argument::List => list(value, is_any).ok_or("a list of texts or numbers"),
        Argument::ValueOrList => {
            list(value, is_any).or_else(|| literal(value).map(|value| vec![value])).ok_or("a text or a list of texts")
        }
        Argument::Number => single("a number").and_then(|values| all(values, is_number, "a number")),
        Argument::NumberPair => list(value, is_number).filter(|pair| pair.len() == 2).ok_or("a list of two numbers"),
        Argument::Day => single("a day").and_then(|values| all(values, is_day, "a day of the form `YYYY-MM-DD`")),
        Argument::DayPair => {
            list(value, is_day).filter(|pair| pair.len() == 2).ok_or("a list of two days of the form `YYYY-MM-DD`")
        }
        Argument::Days => {
            let wanted = "a whole number of days";
            single(wanted).and_then(|values| all(values, is_day_count, wanted))
        }
    }
}

fn all(values: Vec<Literal>, fits: fn(&Literal) -> bool, wanted: &'static str) -> Result<Vec<Literal>, &'static str> {
    if values.iter().all(fits) { Ok(values) } else { Err(wanted) }
}

fn list(value: &Value, fits: fn(&Literal) -> bool) -> Option<Vec<Literal>> {
    let literals = value.as_array()?.iter().map(literal).collect::<Option<Vec<_>>>()?;
    (!literals.is_empty() && literals.iter().all(fits)).then_some(literals)
}

fn literal(value: &Value) -> Option<Literal> {
    match value {
        Value::String(text) => Some(Literal::Text(text.clone())),
        Value::Number(number) => number.as_f64().map(Literal::Number),
        _ => None,
    }
}

fn is_any(_: &Literal) -> bool {
    true
}

fn is_number(literal: &Literal) -> bool {
    matches!(literal, Literal::Number(number) if number.is_finite())
}

fn is_day(literal: &Literal) -> bool {
    matches!(literal, Literal::Text(text) if calendar_day(text).is_some())
}

fn is_day_count(literal: &Literal) -> bool {
    matches!(literal, Literal::Number(days) if days.fract() == 0.0 && *days >= 0.0)
}

#[cfg(test)]
mod tests;
