//! The text of predicates, and what is refused.

use arrow::datatypes::{DataType, Field, Schema};
use serde_json::json;

use super::*;
use crate::parse;

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("country", DataType::Utf8, true),
        Field::new("size", DataType::Int64, true),
        Field::new("active", DataType::Boolean, true),
        Field::new("since", DataType::Date32, true),
        Field::new("odd \" name", DataType::Utf8, true),
        Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
    ])
}

fn compiled(rule: serde_json::Value) -> String {
    let today = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
    datafusion(&parse::yaml(&rule).unwrap(), &schema(), today).unwrap()
}

#[test]
fn conditions_become_predicates() {
    const FOLDED: &str = "translate(\"country\", 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')";
    const DAY_FORM: &str = "'\\A[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]|\\z)'";
    for (rule, expected) in [
        (json!({"column": "country", "in": ["DE", "Fr"]}), format!("({FOLDED} IN ('de', 'fr'))")),
        (json!({"column": "country", "equals": "10"}), "(\"country\" IN ('10'))".to_owned()),
        (
            json!({"column": "country", "not_in": ["DE", 10]}),
            format!(
                "NOT coalesce(({FOLDED} IN ('de') OR TRY_CAST(btrim(\"country\") AS DOUBLE) IN (CAST('1e1' AS DOUBLE))), FALSE)"
            ),
        ),
        (
            json!({"column": "country", "contains": ["a", "b"]}),
            format!("(contains({FOLDED}, 'a') OR contains({FOLDED}, 'b'))"),
        ),
        (
            json!({"column": "country", "not_starts_with": "x"}),
            format!("NOT coalesce((starts_with({FOLDED}, 'x')), FALSE)"),
        ),
        (json!({"column": "country", "not_empty": true}), "NOT (\"country\" IS NULL OR \"country\" = '')".to_owned()),
        (json!({"column": "size", "empty": true}), "(\"size\" IS NULL)".to_owned()),
        (
            json!({"column": "size", "between": [1, 2.5]}),
            "(CAST(\"size\" AS DOUBLE) BETWEEN CAST('1e0' AS DOUBLE) AND CAST('2.5e0' AS DOUBLE))".to_owned(),
        ),
        (json!({"column": "active", "is_false": true}), "(NOT \"active\")".to_owned()),
        (
            json!({"column": "since", "last_days": 7}),
            format!(
                "(regexp_like(CAST(\"since\" AS VARCHAR), {DAY_FORM}) AND \
                 substr(CAST(\"since\" AS VARCHAR), 1, 10) >= '2026-11-13' AND \
                 substr(CAST(\"since\" AS VARCHAR), 1, 10) <= '2026-11-20')"
            ),
        ),
    ] {
        assert_eq!(compiled(rule.clone()), format!("coalesce({expected}, FALSE)"), "{rule}");
    }
}

#[test]
fn groups_are_bracketed() {
    let rule = json!({"any": [
        {"column": "country", "equals": "1"},
        {"all": [{"column": "size", "empty": true}, {"column": "active", "is_true": true}]},
    ]});
    let expected = "coalesce(((\"country\" IN ('1')) OR ((\"size\" IS NULL) AND \"active\")), FALSE)";
    assert_eq!(compiled(rule), expected);
}

#[test]
fn quotes_in_names_values_and_patterns_cannot_break_out() {
    let rule = json!({"column": "odd \" name", "equals": "1' OR '1'='1"});
    let expected = "coalesce((translate(\"odd \"\" name\", 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', \
                    'abcdefghijklmnopqrstuvwxyz') IN ('1'' or ''1''=''1')), FALSE)";
    assert_eq!(compiled(rule), expected);
    let word = compiled(json!({"column": "country", "contains_word": "1' (.*)"}));
    assert!(word.contains(r"(1\'' \(\.\*\))"), "{word}");
}

#[test]
fn rules_that_do_not_fit_are_refused_with_all_problems() {
    let rule = json!({"all": [{"column": "contry", "empty": true}, {"column": "tags", "has_one_of": ["a"]}]});
    let today = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
    let error = datafusion(&parse::yaml(&rule).unwrap(), &schema(), today).unwrap_err();
    assert_eq!(error.problems.len(), 2);
    let shown = error.to_string();
    assert!(shown.contains("did you mean `country`?"), "{shown}");
    assert!(shown.contains("`all.1`"), "{shown}");
}
