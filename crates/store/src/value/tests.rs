//! Which values each data type takes.

use convoke_core::DataType;

use super::{Accepted, check};
use crate::error::ProblemKind;

#[test]
fn values_that_fit_their_data_type_are_accepted() {
    let cases = [
        (DataType::Text, r#""Zoë \"Z\" Müller""#),
        (DataType::LargeText, r#""line one\nline two""#),
        (DataType::Email, r#""ada@example.com""#),
        (DataType::Phone, r#""+49 30 1234 ext. 5""#),
        (DataType::Url, r#""example.com/path""#),
        (DataType::Url, r#""https://example.com""#),
        (DataType::Integer, "-42"),
        (DataType::Decimal, "1.5e3"),
        (DataType::Percent, "0.25"),
        (DataType::Currency, "1999.99"),
        (DataType::Boolean, "true"),
        (DataType::Checkbox, "false"),
        (DataType::Date, r#""2024-02-29""#),
        (DataType::StringList, r#"["a", "b"]"#),
        (DataType::NumberList, "[1, 2.5]"),
        (DataType::EmailList, r#"["ada@example.com"]"#),
        (DataType::PhoneList, r#"["+4930123456"]"#),
        (DataType::UrlList, r#"["example.com"]"#),
        (DataType::Object, r#""{\"a\": [1]}""#),
    ];
    for (data_type, json) in cases {
        assert_eq!(check(data_type, json), Ok(Accepted::Value), "{data_type} {json}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused_by_kind() {
    let cases = [
        (DataType::Text, "5", ProblemKind::Shape),
        (DataType::Text, r#"["a"]"#, ProblemKind::Shape),
        (DataType::Text, r#""a\u0000b""#, ProblemKind::Value),
        (DataType::Text, r#""\ud800""#, ProblemKind::Shape),
        (DataType::Email, r#""ada at example""#, ProblemKind::Value),
        (DataType::Phone, r#""none""#, ProblemKind::Value),
        (DataType::Url, r#""two words.com""#, ProblemKind::Value),
        (DataType::Integer, "1.5", ProblemKind::Value),
        (DataType::Integer, r#""1""#, ProblemKind::Shape),
        (DataType::Decimal, "1e999", ProblemKind::Value),
        (DataType::Boolean, r#""true""#, ProblemKind::Shape),
        (DataType::Date, r#""2023-02-29""#, ProblemKind::Value),
        (DataType::Date, r#""2024-02-29T00:00:00Z""#, ProblemKind::Value),
        (DataType::StringList, r#"["a", 1]"#, ProblemKind::Shape),
        (DataType::NumberList, r#"["1"]"#, ProblemKind::Shape),
        (DataType::EmailList, r#"["ada@example.com", "no"]"#, ProblemKind::Value),
        (DataType::Object, r#"{"a": 1}"#, ProblemKind::Shape),
        (DataType::Object, r#""plain""#, ProblemKind::Value),
    ];
    for (data_type, json, kind) in cases {
        let refusal = check(data_type, json).expect_err(json);
        assert_eq!(refusal.0, kind, "{data_type} {json}");
    }
}

#[test]
fn null_empty_text_and_empty_lists_are_blank() {
    for data_type in DataType::ALL {
        assert_eq!(check(*data_type, "null"), Ok(Accepted::Blank), "{data_type}");
    }
    assert_eq!(check(DataType::Text, r#""""#), Ok(Accepted::Blank));
    assert_eq!(check(DataType::Email, r#""""#), Ok(Accepted::Blank));
    assert_eq!(check(DataType::StringList, "[]"), Ok(Accepted::Blank));
    assert_eq!(check(DataType::NumberList, "[ ]"), Ok(Accepted::Blank));
}

#[test]
fn text_has_fewer_than_two_thousand_characters_whatever_its_bytes() {
    let text = |count: usize| format!("\"{}\"", "ü".repeat(count));
    assert_eq!(check(DataType::Text, &text(1999)), Ok(Accepted::Value));
    assert_eq!(check(DataType::Text, &text(2000)).map_err(|refusal| refusal.0), Err(ProblemKind::Value));
    assert_eq!(check(DataType::LargeText, &text(2000)), Ok(Accepted::Value));
}
