//! Literals in their columns' types, and what does not fit.

use convoke_core::DataType;

use super::*;

fn columns() -> Vec<(String, DataType)> {
    DataType::ALL.iter().map(|data_type| (data_type.as_str().to_owned(), *data_type)).collect()
}

fn condition(column: &str, operator: Operator, values: &[Literal]) -> Rule {
    Rule::Condition(Condition { column: column.into(), operator, values: values.to_vec() })
}

fn text(text: &str) -> Literal {
    Literal::Text(text.into())
}

fn problem(rule: &Rule) -> String {
    validate(rule, &columns()).unwrap_err()[0].message.clone()
}

#[test]
fn literals_come_back_in_the_type_of_their_column() {
    for (column, operator, given, expected) in [
        ("TEXT", Operator::Equals, Literal::Number(49.0), text("49")),
        ("DECIMAL", Operator::Equals, text("4.5"), Literal::Number(4.5)),
        ("NUMBER_LIST", Operator::HasOneOf, text("7"), Literal::Number(7.0)),
        ("STRING_LIST", Operator::HasAllOf, Literal::Number(7.0), text("7")),
        ("DATE", Operator::RollingRange, text("30"), Literal::Number(30.0)),
    ] {
        let valid = validate(&condition(column, operator, &[given]), &columns()).unwrap();
        assert_eq!(valid, condition(column, operator, &[expected]), "{column}");
    }
}

#[test]
fn operators_that_do_not_fit_the_column_are_refused() {
    for (column, operator, values) in [
        ("INTEGER", Operator::Contains, vec![text("1")]),
        ("TEXT", Operator::GreaterThan, vec![Literal::Number(1.0)]),
        ("BOOLEAN", Operator::Equals, vec![text("true")]),
        ("PICKLIST", Operator::HasAllOf, vec![text("a")]),
        ("OBJECT", Operator::Empty, vec![]),
        ("ZI_CONTACT_ID", Operator::StartsWith, vec![text("1")]),
    ] {
        let message = problem(&condition(column, operator, &values));
        assert!(message.contains("does not fit column"), "{column}: {message}");
    }
}

#[test]
fn wrong_counts_and_types_of_values_are_refused() {
    for (column, operator, values, expected) in [
        ("TEXT", Operator::Equals, vec![], "takes 1 to 100 values, not 0"),
        ("TEXT", Operator::Equals, vec![text("a"); 101], "takes 1 to 100 values, not 101"),
        ("TEXT", Operator::Empty, vec![text("a")], "takes no value, not 1"),
        ("TEXT", Operator::Equals, vec![text("")], "use `EMPTY`"),
        ("TEXT", Operator::Equals, vec![Literal::Boolean(true)], "use `IS_TRUE`"),
        ("INTEGER", Operator::InRange, vec![Literal::Number(1.0)], "takes 2 values, not 1"),
        ("INTEGER", Operator::InRange, vec![Literal::Number(2.0), Literal::Number(1.0)], "smaller end first"),
        ("INTEGER", Operator::Equals, vec![text("many")], "takes numbers"),
        ("INTEGER", Operator::Equals, vec![Literal::Number(f64::NAN)], "finite"),
        ("DATE", Operator::Before, vec![text("2026-02-30")], "YYYY-MM-DD"),
        ("DATE", Operator::Within, vec![text("2026-02-02"), text("2026-02-01")], "smaller end first"),
        ("DATE", Operator::RollingRange, vec![Literal::Number(1.5)], "whole number of days"),
        ("DATE", Operator::RollingRange, vec![Literal::Number(-1.0)], "whole number of days"),
    ] {
        let message = problem(&condition(column, operator, &values));
        assert!(message.contains(expected), "{column} {operator:?}: {message}");
    }
}

#[test]
fn all_problems_are_told_at_once_with_their_place() {
    let rule = Rule::All(vec![
        condition("TEXTT", Operator::NotEmpty, &[]),
        Rule::Any(vec![condition("DATE", Operator::IsTrue, &[])]),
    ]);
    let problems = validate(&rule, &columns()).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0].path, ["all", "0"]);
    assert!(problems[0].message.contains("did you mean `TEXT`?"), "{}", problems[0].message);
    assert_eq!(problems[1].path, ["all", "1", "any", "0"]);
}

#[test]
fn columns_without_a_type_take_more_values_than_a_search_of_the_service() {
    let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        "country",
        arrow::datatypes::DataType::Utf8,
        true,
    )]);
    let values = vec![text("DE"); 1_000];
    assert!(validate(&condition("country", Operator::Equals, &values), &schema).is_ok());
    let on_list = validate(&condition("country", Operator::HasOneOf, &values), &schema);
    assert!(on_list.is_err());
}
