//! Rows in requests and answers: what faults do to them, and what the proxy must know of them.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

/// Whether a path writes rows.
pub(crate) fn is_upsert(path: &str) -> bool {
    without_query(path).ends_with("/upsert")
}

/// Whether a path searches rows.
pub(crate) fn is_search(path: &str) -> bool {
    without_query(path).ends_with("/rows/actions/search")
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// Whether a request's `data` holds a row without an id.
pub(crate) fn creates_rows(body: &[u8]) -> bool {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    let rows = document.as_ref().and_then(|document| document["data"].as_array());
    rows.is_some_and(|rows| rows.iter().any(|row| row["id"].is_null()))
}

/// Ids in the answer to an upsert that its request did not name.
pub(crate) fn created_ids(request: &[u8], answer: &[u8]) -> Vec<String> {
    let named: HashSet<String> = ids(request).into_iter().collect();
    ids(answer).into_iter().filter(|id| !named.contains(id)).collect()
}

fn ids(body: &[u8]) -> Vec<String> {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let rows = document["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect()
}

/// Leaves out each n-th row; false if there was none to leave out.
pub(crate) fn leave_out(rows: &mut Vec<Value>, every: usize) -> bool {
    leave_out_of(rows, every, |_| true) > 0
}

/// Leaves out each n-th of the rows that are concerned; returns how many.
pub(crate) fn leave_out_of(rows: &mut Vec<Value>, every: usize, mut concerns: impl FnMut(&Value) -> bool) -> usize {
    let before = rows.len();
    let mut position = 0;
    rows.retain(|row| {
        if !concerns(row) {
            return true;
        }
        position += 1;
        position % every.max(1) != 0
    });
    before - rows.len()
}

/// Puts rows in another order, if there are two that differ.
pub(crate) fn shuffle(rows: &mut [Value], seed: u64) -> bool {
    if rows.len() < 2 {
        return false;
    }
    let before = rows.to_vec();
    rows.shuffle(&mut StdRng::seed_from_u64(seed));
    if rows == before {
        rows.rotate_left(1);
    }
    rows != before
}

/// Tells of each cell whose text holds the mark that it failed; false if there is none.
pub(crate) fn fail_cells(rows: &mut [Value], mark: &str) -> bool {
    let mut has_failed = false;
    for row in rows {
        let cells = row["attributes"]["values"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        for cell in cells.iter_mut().filter(|cell| cell["value"].as_str().is_some_and(|text| text.contains(mark))) {
            cell["value"] = Value::Null;
            cell["state"] = json!("ERROR");
            cell["errorDetails"] = json!({
                "summary": "The value does not fit its column", "description": "It is not stored", "retryable": false
            });
            has_failed = true;
        }
    }
    has_failed
}

/// Keeps the first half of the rows that do not hold the mark; false if that is no part of them, but all.
pub(crate) fn keep_part(rows: &mut Vec<Value>, mark: Option<&str>) -> bool {
    let before = rows.len();
    if let Some(mark) = mark {
        rows.retain(|row| !row.to_string().contains(mark));
    }
    if before == 1 {
        return rows.is_empty();
    }
    rows.truncate(rows.len().div_ceil(2));
    rows.len() < before
}
