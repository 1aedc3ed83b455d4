//! One canonical text per value, type by type.

use convoke_core::DataType;

use super::canonical_cell;

/// The canonical text, `NULL`, or the code of the refusal.
fn outcome(data_type: DataType, text: &str) -> String {
    match canonical_cell(data_type, text) {
        Ok(Some(cell)) => cell.into_owned(),
        Ok(None) => "NULL".to_owned(),
        Err(refusal) => format!("!{}", refusal.code),
    }
}

#[test]
fn every_type_has_one_canonical_text_per_value() {
    use DataType as T;
    let table: &[(T, &str, &str)] = &[
        (T::Text, " as it is ", " as it is "),
        (T::Text, " \t ", "NULL"),
        (T::Text, "a\0b", "!nul_character"),
        (T::LargeText, "a\0b", "!nul_character"),
        (T::Url, "https://example.com/a\0b", "!nul_character"),
        (T::StringList, r#"["a", "b\u0000c"]"#, "!nul_character"),
        (T::Email, "a\0b@example.com", "!invalid_email"),
        (T::Email, " Ada@Example.com ", "Ada@Example.com"),
        (T::Email, "ada@example", "!invalid_email"),
        (T::Email, "Ada <ada@example.com>", "!invalid_email"),
        (T::Email, "ada@@example.com", "!invalid_email"),
        (T::Phone, "+49 (30) 123-456/7", "+49 (30) 123-456/7"),
        (T::Phone, "30+123456", "!invalid_phone"),
        (T::Phone, "1234", "!invalid_phone"),
        (T::Phone, "call me 12345", "!invalid_phone"),
        (T::Phone, "123456789012345678901", "!invalid_phone"),
        (T::Url, "https://example.com/a?b", "https://example.com/a?b"),
        (T::Url, "ftp://example.com", "!invalid_url"),
        (T::Url, "example.com", "!invalid_url"),
        (T::Integer, "12", "12"),
        (T::Integer, "+012", "12"),
        (T::Integer, "12.0", "12"),
        (T::Integer, "12.5", "!invalid_integer"),
        (T::Integer, "9223372036854775807", "9223372036854775807"),
        (T::Integer, "9223372036854775808", "!invalid_integer"),
        (T::Decimal, "1.500", "1.5"),
        (T::Decimal, "-0.0", "0"),
        (T::Decimal, "1e3", "1000"),
        (T::Decimal, "1,000", "!invalid_number"),
        (T::Decimal, "1_000", "!invalid_number"),
        (T::Decimal, "NaN", "!invalid_number"),
        (T::Percent, "12.50 %", "12.5"),
        (T::Currency, "7.10", "7.1"),
        (T::Date, "2024-02-29", "2024-02-29"),
        (T::Date, "2023-02-29", "!invalid_date"),
        (T::Date, "2024/02/29", "2024-02-29"),
        (T::Date, "2024-02-29T23:59:59.5+02:00", "2024-02-29"),
        (T::Date, "2024-02-29 23:59 UTC", "2024-02-29"),
        (T::Date, "2024-02-29 tomorrow", "!invalid_date"),
        (T::Date, "29.02.2024", "!invalid_date"),
        (T::Boolean, "Yes", "true"),
        (T::Boolean, "F", "false"),
        (T::Checkbox, "maybe", "!invalid_boolean"),
        (T::StringList, "a; b |;c", r#"["a","b","c"]"#),
        (T::StringList, r#"["a", "b;c"]"#, r#"["a","b;c"]"#),
        (T::StringList, "[]", "NULL"),
        (T::StringList, "[[1]]", "!invalid_list"),
        (T::StringList, "[1", "!invalid_list"),
        (T::NumberList, "1.0;2", "[1,2]"),
        (T::NumberList, "[1, \"x\"]", "!invalid_number"),
        (T::EmailList, "a@b.co|c@d.eu", r#"["a@b.co","c@d.eu"]"#),
        (T::EmailList, "a@b.co|c", "!invalid_email"),
        (T::PhoneList, "12345;123", "!invalid_phone"),
        (T::UrlList, "https://a.eu|x", "!invalid_url"),
        (T::Object, r#"{ "a b" : [1.10, "x \" y"] }"#, r#"{"a b":[1.10,"x \" y"]}"#),
        (T::Object, "{", "!invalid_json"),
    ];
    for (data_type, text, expected) in table {
        assert_eq!(outcome(*data_type, text), *expected, "{data_type} {text:?}");
    }
}

#[test]
fn a_canonical_cell_is_its_own_canonical_form() {
    use DataType as T;
    let samples = [
        (T::Decimal, "1.500"),
        (T::Date, "2024/01/02"),
        (T::StringList, "a;b"),
        (T::Object, "[ 1 ]"),
        (T::Boolean, "t"),
    ];
    for (data_type, text) in samples {
        let once = outcome(data_type, text);
        assert_eq!(outcome(data_type, &once), once, "{data_type}");
    }
}

#[test]
fn text_has_fewer_than_two_thousand_characters_and_large_text_any_number() {
    let long = "é".repeat(1_999);
    assert_eq!(outcome(DataType::Text, &long), long);
    let longer = "é".repeat(2_000);
    assert_eq!(outcome(DataType::Text, &longer), "!text_too_long");
    assert_eq!(outcome(DataType::LargeText, &longer), longer);
}

#[test]
fn blank_text_is_null_in_every_type() {
    for data_type in DataType::ALL {
        assert_eq!(outcome(*data_type, "  "), "NULL", "{data_type}");
    }
}
