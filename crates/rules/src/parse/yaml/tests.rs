//! What our spelling of rules means, and how mistakes are refused.

use serde_json::json;

use super::*;

fn one(column: &str, operator: Operator, values: &[Literal]) -> Rule {
    Rule::Condition(Condition { column: column.into(), operator, values: values.to_vec() })
}

fn text(text: &str) -> Literal {
    Literal::Text(text.into())
}

fn number(number: f64) -> Literal {
    Literal::Number(number)
}

#[test]
fn groups_and_conditions_are_read() {
    let value = json!({"all": [
        {"column": "country", "in": ["DE", "FR"]},
        {"any": [{"column": "email", "not_empty": true}, {"column": "phone", "empty": false}]},
    ]});
    let expected = Rule::All(vec![
        one("country", Operator::Equals, &[text("DE"), text("FR")]),
        Rule::Any(vec![one("email", Operator::NotEmpty, &[]), one("phone", Operator::NotEmpty, &[])]),
    ]);
    assert_eq!(yaml(&value).unwrap(), expected);
}

#[test]
fn several_operators_in_one_condition_mean_all_of_them() {
    let value = json!({"column": "employees", "at_least": 10, "less_than": 500});
    let expected = Rule::All(vec![
        one("employees", Operator::GreaterThanOrEqual, &[number(10.0)]),
        one("employees", Operator::LessThan, &[number(500.0)]),
    ]);
    assert_eq!(yaml(&value).unwrap(), expected);
}

#[test]
fn every_key_of_the_table_is_read_with_an_argument_of_its_kind() {
    for key in CONDITION_KEYS {
        let argument = match key.argument {
            Argument::Flag => json!(true),
            Argument::Value | Argument::ValueOrList => json!("a"),
            Argument::List => json!(["a", 1]),
            Argument::Number => json!(1.5),
            Argument::NumberPair => json!([1, 2]),
            Argument::Day => json!("2026-01-01"),
            Argument::DayPair => json!(["2026-01-01", "2026-01-31"]),
            Argument::Days => json!(30),
        };
        let parsed = yaml(&json!({"column": "c", key.name: argument})).unwrap();
        let Rule::Condition(condition) = parsed else { panic!("{} is not one condition", key.name) };
        assert_eq!(condition.operator, key.operator);
        assert_eq!(condition.values.is_empty(), key.argument == Argument::Flag, "{}", key.name);
    }
}

#[test]
fn every_operator_has_a_key() {
    for operator in Operator::ALL {
        assert!(CONDITION_KEYS.iter().any(|key| key.operator == *operator), "{operator:?}");
    }
}

#[test]
fn mistakes_are_refused_with_place_and_remedy() {
    for (value, path, expected) in [
        (json!({"column": "c", "equal": "a"}), "equal", "did you mean `equals`?"),
        (json!({"al": []}), "al", "did you mean `all`?"),
        (json!({"in": ["a"]}), "", "needs `column`"),
        (json!({"column": "c"}), "", "needs an operator"),
        (json!({"column": 5, "empty": true}), "column", "name of a column"),
        (json!({"column": "c", "equals": ["a"]}), "equals", "such as `in`"),
        (json!({"column": "c", "in": []}), "in", "a list of texts or numbers"),
        (json!({"column": "c", "in": [null]}), "in", "a list of texts or numbers"),
        (json!({"column": "c", "at_least": "ten"}), "at_least", "takes a number"),
        (json!({"column": "c", "between": [1]}), "between", "two numbers"),
        (json!({"column": "c", "on": "2026-02-30"}), "on", "YYYY-MM-DD"),
        (json!({"column": "c", "last_days": 1.5}), "last_days", "whole number"),
        (json!({"column": "c", "is_true": false}), "is_true", "takes `true` only"),
        (json!({"all": []}), "all", "at least one"),
        (json!({"all": [5]}), "all.0", "not a number"),
        (json!({"all": [{"column": "c", "empty": true}], "any": []}), "any", "beside `all`"),
    ] {
        let problems = yaml(&value).unwrap_err();
        assert_eq!(problems[0].path.join("."), path, "{value}");
        assert!(problems[0].message.contains(expected), "{value}: {}", problems[0].message);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let value = json!({"any": [{"column": "c", "equal": 1}, {"column": "c", "between": 1}]});
    assert_eq!(yaml(&value).unwrap_err().len(), 2);
}

#[test]
fn rules_nested_too_deeply_are_refused() {
    let mut value = json!({"column": "c", "empty": true});
    for _ in 0..40 {
        value = json!({"all": [value]});
    }
    let problems = yaml(&value).unwrap_err();
    assert!(problems[0].message.contains("nested more than 32 deep"));
}
