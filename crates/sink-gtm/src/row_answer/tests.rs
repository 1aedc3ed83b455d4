//! Which rows of a request an answer confirms, however it is put together.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use convoke_core::hash::KeyHash;
use convoke_core::sink::{AttemptTag, BoundColumn};
use convoke_core::{AudienceKey, ConnectionName, DataType};
use serde_json::{Value, json};

use super::*;

fn audience() -> AudienceBinding {
    AudienceBinding {
        key: AudienceKey { connection: ConnectionName::new("gtm"), audience_id: "a".to_owned() },
        name: "Booth".to_owned(),
        columns: vec![BoundColumn { id: "c-mail".to_owned(), name: "Email".to_owned(), data_type: DataType::Email }],
        key_column_id: "c-key".to_owned(),
        key_look_up: None,
    }
}

fn cells() -> RecordBatch {
    let mails: ArrayRef = Arc::new(StringArray::from(vec!["ann@x.example", "bob@x.example", "cyd@x.example"]));
    RecordBatch::try_from_iter([("Email", mails)]).expect("one column")
}

fn key(number: u8) -> KeyCell {
    KeyCell { key: KeyHash([number; 16]), tag: AttemptTag(7) }
}

fn keys() -> [KeyCell; 3] {
    [key(0), key(1), key(2)]
}

fn row(id: &str, key_cell: Option<KeyCell>) -> Value {
    let mut values = vec![json!({"columnId": "c-mail", "value": "x", "state": "RESULT"})];
    if let Some(key_cell) = key_cell {
        values.push(json!({"columnId": "c-key", "value": key_cell.to_string(), "state": "RESULT"}));
    }
    json!({"id": id, "type": "Row", "attributes": {"values": values}})
}

fn created_rows(rows: &[Value]) -> Vec<(usize, String)> {
    let (audience, cells) = (audience(), cells());
    let body = json!({ "data": rows }).to_string();
    let applied = created(&Sent { audience: &audience, cells: &cells }, &keys(), body.as_bytes()).expect("a list");
    applied.into_iter().map(|row| (row.index, row.row_id.as_str().to_owned())).collect()
}

fn updated_rows(rows: &[Value]) -> Vec<AppliedRow> {
    let (audience, cells) = (audience(), cells());
    let body = json!({ "data": rows }).to_string();
    let ids = ["r0", "r1", "r2"].map(RowId::new);
    updated(&Sent { audience: &audience, cells: &cells }, &ids, body.as_bytes()).expect("a list")
}

fn pairs(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
    expected.iter().map(|(index, id)| (*index, (*id).to_owned())).collect()
}

#[test]
fn created_rows_are_known_by_their_key_cell_whatever_their_order() {
    let answer = [row("c", Some(key(2))), row("a", Some(key(0))), row("b", Some(key(1)))];
    assert_eq!(created_rows(&answer), pairs(&[(0, "a"), (1, "b"), (2, "c")]));
}

#[test]
fn a_short_answer_leaves_the_rows_it_lacks_out() {
    assert_eq!(created_rows(&[row("c", Some(key(2)))]), pairs(&[(2, "c")]));
    assert_eq!(created_rows(&[]), []);
}

#[test]
fn created_rows_without_a_key_cell_are_left_out_whatever_their_place() {
    let ids_only = |id: &str| json!({"id": id, "type": "Row"});
    assert_eq!(created_rows(&[ids_only("a"), ids_only("b"), ids_only("c")]), []);
    assert_eq!(created_rows(&[row("a", None), row("b", None), row("c", None)]), []);
    let one_without = [row("a", Some(key(0))), row("b", None), row("c", Some(key(2)))];
    assert_eq!(created_rows(&one_without), pairs(&[(0, "a"), (2, "c")]));
    let with_stranger = [row("a", Some(key(0))), row("b", Some(key(1))), row("z", Some(key(99)))];
    assert_eq!(created_rows(&with_stranger), pairs(&[(0, "a"), (1, "b")]));
}

#[test]
fn doubled_keys_and_doubled_ids_are_left_out() {
    let doubled_key = [row("a", Some(key(0))), row("b", Some(key(1))), row("b2", Some(key(1)))];
    assert_eq!(created_rows(&doubled_key), pairs(&[(0, "a")]));
    let doubled_id = [row("a", Some(key(0))), row("a", Some(key(1))), row("c", Some(key(2)))];
    assert_eq!(created_rows(&doubled_id), pairs(&[(2, "c")]));
    let without_id = [json!({"type": "Row"}), row("b", Some(key(1))), row("c", Some(key(2)))];
    assert_eq!(created_rows(&without_id), pairs(&[(1, "b"), (2, "c")]));
}

#[test]
fn updated_rows_are_known_by_their_id_and_strangers_are_left_out() {
    let answer = [row("r2", None), row("stranger", None), row("r0", None), row("r1", None), row("r1", None)];
    let found: Vec<_> = updated_rows(&answer).into_iter().map(|row| row.index).collect();
    assert_eq!(found, [0, 2]);
}

#[test]
fn failed_cells_are_named_with_a_summary_that_repeats_no_value() {
    let failed = |summary: &str| {
        json!({"id": "r1", "type": "Row", "extra": 1, "attributes": {"values": [
            {"columnId": "c-mail", "value": null, "state": "ERROR",
             "errorDetails": {"summary": summary, "description": "bob@x.example", "retryable": false}},
            {"columnId": "enriched-by-the-vendor", "value": null, "state": "ERROR"},
            {"columnId": "c-other", "value": 7, "state": "A_NEW_STATE"},
        ]}})
    };
    let shown = updated_rows(&[failed("The address cannot be reached")]);
    assert_eq!(
        shown[0].failed_cells,
        [FailedCell { column: "Email".into(), summary: "The address cannot be reached".into() }]
    );
    let hidden = updated_rows(&[failed("No such mailbox: bob@x.example")]);
    assert_eq!(hidden[0].failed_cells, [FailedCell { column: "Email".into(), summary: NO_SUMMARY.into() }]);
}

#[test]
fn what_is_not_a_list_of_rows_confirms_nothing() {
    let (audience, cells) = (audience(), cells());
    for body in ["", "{}", "[]", r#"{"data":{"id":"job"}}"#, r#"{"data":[{"id":"a"}"#, "<html>"] {
        assert!(created(&Sent { audience: &audience, cells: &cells }, &keys(), body.as_bytes()).is_none(), "{body}");
    }
}
