//! Bodies, byte for byte.

use std::sync::Arc;

use arrow::array::ArrayRef;
use convoke_core::hash::KeyHash;
use convoke_core::sink::{AttemptTag, BoundColumn};
use convoke_core::{AudienceKey, ConnectionName, DataType};
use serde_json::{Value, json};

use super::*;

fn audience(columns: &[(&str, DataType)]) -> AudienceBinding {
    let bound = |(name, data_type): &(&str, DataType)| BoundColumn {
        id: format!("id-{name}"),
        name: (*name).to_owned(),
        data_type: *data_type,
    };
    AudienceBinding {
        key: AudienceKey { connection: ConnectionName::new("gtm"), audience_id: "a".to_owned() },
        name: "Booth".to_owned(),
        columns: columns.iter().map(bound).collect(),
        key_column_id: "id-key".to_owned(),
        key_look_up: None,
    }
}

fn batch(columns: &[(&str, &[Option<&str>])]) -> RecordBatch {
    let arrays = columns.iter().map(|(name, cells)| {
        let array: ArrayRef = Arc::new(StringArray::from(cells.to_vec()));
        (*name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(arrays).expect("columns of one length")
}

fn key(byte: u8) -> KeyCell {
    KeyCell { key: KeyHash([byte; 16]), tag: AttemptTag(0x2a) }
}

#[test]
fn creates_are_written_byte_for_byte_as_the_api_declares() {
    let audience = audience(&[("Email", DataType::Email), ("Score", DataType::Integer), ("Vip", DataType::Boolean)]);
    let cells = batch(&[
        ("Email", &[Some("a@b.example"), None]),
        ("Score", &[Some("12"), Some("-3.5e2")]),
        ("Vip", &[Some("true"), None]),
    ]);
    let body = creates(&audience, &cells, &[key(0x0f), key(0xa0)]).expect("a body");
    let expected = concat!(
        r#"{"data":[{"type":"Row","attributes":{"values":[{"columnId":"id-Email","value":"a@b.example"},"#,
        r#"{"columnId":"id-Score","value":12},{"columnId":"id-Vip","value":true},"#,
        r#"{"columnId":"id-key","value":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f.0000002a"}]}},"#,
        r#"{"type":"Row","attributes":{"values":[{"columnId":"id-Email","value":null},"#,
        r#"{"columnId":"id-Score","value":-3.5e2},{"columnId":"id-Vip","value":null},"#,
        r#"{"columnId":"id-key","value":"a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0.0000002a"}]}}]}"#,
    );
    assert_eq!(String::from_utf8(body).expect("UTF-8"), expected);
}

#[test]
fn updates_name_the_row_and_leave_the_key_cell_alone() {
    let audience = audience(&[("Tags", DataType::StringList)]);
    let cells = batch(&[("Tags", &[Some(r#"["a","b"]"#)])]);
    let body = updates(&audience, &cells, &[RowId::new("row-1")]).expect("a body");
    let expected =
        r#"{"data":[{"id":"row-1","type":"Row","attributes":{"values":[{"columnId":"id-Tags","value":["a","b"]}]}}]}"#;
    assert_eq!(String::from_utf8(body).expect("UTF-8"), expected);
}

#[test]
fn deletes_name_their_rows_only() {
    let body = deletes(&[RowId::new("row-1"), RowId::new("row-2")]);
    assert_eq!(body, br#"{"data":[{"id":"row-1","type":"Row"},{"id":"row-2","type":"Row"}]}"#);
}

#[test]
fn every_text_arrives_as_it_was() {
    let mut texts: Vec<String> =
        (0..=0x2ff_u32).filter_map(char::from_u32).map(|letter| format!("x{letter}y")).collect();
    texts
        .extend(["", "\"", "\\", "\\\"\\", "a\u{2028}b", "Zoë 👩‍💻", "line\r\nline\ttab", "</script>"].map(String::from));
    for text in texts {
        let mut written = Vec::new();
        push_text(&mut written, &text);
        let read: String = serde_json::from_slice(&written).expect("a JSON string");
        assert_eq!(read, text);
        assert_eq!(
            Value::from(text).to_string().replace("\\b", "\\u0008").replace("\\f", "\\u000c").as_bytes(),
            written
        );
    }
}

#[test]
fn objects_travel_as_text_and_slices_of_a_batch_are_read_from_their_start() {
    let audience = audience(&[("Raw", DataType::Object)]);
    let cells = batch(&[("Raw", &[Some("first"), Some(r#"{"a":1}"#), Some("last")])]).slice(1, 1);
    let body = updates(&audience, &cells, &[RowId::new("r")]).expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["data"][0]["attributes"]["values"][0]["value"], json!(r#"{"a":1}"#));
}

#[test]
fn a_cell_that_is_not_what_its_column_says_stops_the_request_without_being_repeated() {
    let cases = [
        (DataType::Integer, "12,\"x\":1"),
        (DataType::Integer, ""),
        (DataType::Decimal, "NaN"),
        (DataType::Checkbox, "yes"),
        (DataType::NumberList, "1,2"),
        (DataType::UrlList, "["),
    ];
    for (data_type, text) in cases {
        let audience = audience(&[("Score", data_type)]);
        let error = updates(&audience, &batch(&[("Score", &[Some(text)])]), &[RowId::new("r")]).expect_err("must stop");
        let message = error.to_string();
        assert!(message.contains("`Score`") && message.contains("nothing was sent"), "{message}");
        assert!(text.len() < 3 || !message.contains(text), "{message}");
    }
}

#[test]
fn a_batch_of_another_width_or_length_stops_the_request() {
    let audience = audience(&[("Email", DataType::Email)]);
    let cells = batch(&[("Email", &[Some("a")]), ("More", &[Some("b")])]);
    assert!(updates(&audience, &cells, &[RowId::new("r")]).is_err());
    let cells = batch(&[("Email", &[Some("a")])]);
    assert!(creates(&audience, &cells, &[key(1), key(2)]).is_err());
}
