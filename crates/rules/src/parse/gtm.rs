//! The row filter of GTM Studio's row search: one flat group.

use convoke_core::rule::{Condition, Literal, Operator, Rule};
use serde_json::{Map, Value};

use super::{Problems, hint, noun};
use crate::RuleProblem;

/// Filters in a group, values of a filter, values in all, and bytes of a value; the vendor publishes none of these. A database
/// bounds how deep a condition may be, and how many values a question may have.
const MOST_FILTERS: usize = 250;
const MOST_VALUES_OF_A_FILTER: usize = 500;
const MOST_VALUES: usize = 10_000;
const LONGEST_VALUE: usize = 10_000;

/// Parses `{operator, filters: [{type, columnId, filterOperator, values}]}`.
///
/// # Errors
///
/// Everything that is wrong, each with a path that is also a JSON pointer into the filter.
pub fn gtm(filter: &Value) -> Result<Rule, Vec<RuleProblem>> {
    let mut problems = Problems::default();
    let rule = group(filter, &mut problems);
    problems.finish(rule)
}

fn group(filter: &Value, problems: &mut Problems) -> Option<Rule> {
    let members = object(filter, &["operator", "filters"], problems)?;
    let conjunction = problems.within("operator", |problems| conjunction(members.get("operator"), problems));
    let conditions = problems.within("filters", |problems| {
        let filters = match members.get("filters") {
            None => return Some(Vec::new()),
            Some(Value::Array(filters)) => filters,
            Some(_) => {
                problems.push("expected a list of filters");
                return None;
            }
        };
        if filters.len() > MOST_FILTERS {
            problems.push(format!("a group has at most {MOST_FILTERS} filters"));
            return None;
        }
        let count = |filter: &Value| filter.get("values").and_then(Value::as_array).map_or(0, Vec::len);
        if filters.iter().map(count).sum::<usize>() > MOST_VALUES {
            problems.push(format!("the filters of a group have at most {MOST_VALUES} values in all"));
            return None;
        }
        let parsed = filters.iter().enumerate().map(|(index, filter)| {
            problems.within(index.to_string(), |problems| condition(filter, problems).map(Rule::Condition))
        });
        // Every filter is looked at, so that all problems are told at once.
        parsed.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()
    });
    let (conjunction, conditions) = (conjunction?, conditions?);
    // Without filters nothing is left out, whichever way they would be joined.
    Some(if conditions.is_empty() { Rule::All(conditions) } else { conjunction(conditions) })
}

fn conjunction(operator: Option<&Value>, problems: &mut Problems) -> Option<fn(Vec<Rule>) -> Rule> {
    match operator.and_then(Value::as_str) {
        Some("AND") => Some(Rule::All),
        Some("OR") => Some(Rule::Any),
        _ => {
            problems.push("expected `AND` or `OR`");
            None
        }
    }
}

fn condition(filter: &Value, problems: &mut Problems) -> Option<Condition> {
    let members = object(filter, &["type", "columnId", "filterOperator", "values"], problems)?;
    if members.get("type").is_some_and(|kind| kind != "Filter") {
        problems.within("type", |problems| problems.push("expected `Filter`"));
    }
    let column = problems.within("columnId", |problems| match members.get("columnId") {
        Some(Value::String(column)) => Some(column.clone()),
        _ => {
            problems.push("expected a column id");
            None
        }
    });
    let operator = problems.within("filterOperator", |problems| operator(members.get("filterOperator"), problems));
    let values = problems.within("values", |problems| values(members.get("values"), problems));
    Some(Condition { column: column?, operator: operator?, values: values? })
}

fn operator(value: Option<&Value>, problems: &mut Problems) -> Option<Operator> {
    let Some(name) = value.and_then(Value::as_str) else {
        problems.push("expected the name of an operator");
        return None;
    };
    let operator = Operator::parse(name);
    if operator.is_none() {
        let hint = hint(name, Operator::ALL.iter().map(|operator| operator.as_str()));
        problems.push(format!("unknown operator `{name}`{hint}"));
    }
    operator
}

fn values(value: Option<&Value>, problems: &mut Problems) -> Option<Vec<Literal>> {
    let items = match value {
        None => return Some(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => {
            problems.push(format!("expected a list of texts or numbers, not {}", noun(other)));
            return None;
        }
    };
    if items.len() > MOST_VALUES_OF_A_FILTER {
        problems.push(format!("a filter has at most {MOST_VALUES_OF_A_FILTER} values"));
        return None;
    }
    let mut literals = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::String(text) if text.len() > LONGEST_VALUE => problems.within(index.to_string(), |problems| {
                problems.push(format!("a value has at most {LONGEST_VALUE} bytes"));
            }),
            Value::String(text) if text.contains('\0') => problems.within(index.to_string(), |problems| {
                problems.push("a text must not contain the character U+0000");
            }),
            Value::String(text) => literals.push(Literal::Text(text.clone())),
            Value::Number(number) => literals.push(Literal::Number(number.as_f64().unwrap_or(f64::NAN))),
            other => problems.within(index.to_string(), |problems| {
                problems.push(format!("expected a text or a number, not {}", noun(other)));
            }),
        }
    }
    Some(literals)
}

fn object<'a>(value: &'a Value, known: &[&str], problems: &mut Problems) -> Option<&'a Map<String, Value>> {
    let Value::Object(members) = value else {
        problems.push(format!("expected an object, not {}", noun(value)));
        return None;
    };
    for key in members.keys().filter(|key| !known.contains(&key.as_str())) {
        let hint = hint(key, known.iter().copied());
        problems.within(key.clone(), |problems| problems.push(format!("unknown member `{key}`{hint}")));
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flat_group_is_read() {
        let filter = json!({"operator": "OR", "filters": [
            {"type": "Filter", "columnId": "c1", "filterOperator": "EQUALS", "values": ["a", "b"]},
            {"type": "Filter", "columnId": "c2", "filterOperator": "GREATER_THAN", "values": [5]},
            {"type": "Filter", "columnId": "c3", "filterOperator": "NOT_EMPTY", "values": []},
        ]});
        let condition =
            |column: &str, operator, values| Rule::Condition(Condition { column: column.into(), operator, values });
        let expected = Rule::Any(vec![
            condition("c1", Operator::Equals, vec![Literal::Text("a".into()), Literal::Text("b".into())]),
            condition("c2", Operator::GreaterThan, vec![Literal::Number(5.0)]),
            condition("c3", Operator::NotEmpty, vec![]),
        ]);
        assert_eq!(gtm(&filter).unwrap(), expected);
    }

    #[test]
    fn all_problems_are_told_with_pointers() {
        let filter = json!({"operator": "XOR", "filters": [
            {"type": "Filter", "columnId": 5, "filterOperator": "EQUAL", "values": "a"},
            {"columnId": "c", "filterOperator": "EQUALS", "values": [true], "value": 1},
            {"operator": "AND", "filters": []},
        ]});
        let problems = gtm(&filter).unwrap_err();
        let paths: Vec<String> = problems.iter().map(|problem| problem.path.join("/")).collect();
        for path in [
            "operator",
            "filters/0/columnId",
            "filters/0/filterOperator",
            "filters/0/values",
            "filters/1/values/0",
            "filters/1/value",
            "filters/2/filters",
        ] {
            assert!(paths.iter().any(|found| found == path), "no problem at {path}: {paths:?}");
        }
        assert!(problems.iter().any(|problem| problem.message.contains("did you mean `EQUALS`?")));
    }
}
