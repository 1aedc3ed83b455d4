//! Searching rows: against the naive reading of rules, and against what the filter metadata tells.

use chrono::NaiveDate;
use convoke_core::DataType;
use convoke_rules::{Cell, evaluate, parse, validate};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{Served, cell, errors, row, text};

fn filter(column: &str, operator: &str, values: Value) -> Value {
    json!({"type": "Filter", "columnId": column, "filterOperator": operator, "values": values})
}

fn group(operator: &str, filters: Vec<Value>) -> Value {
    json!({"filter": {"operator": operator, "filters": filters}})
}

async fn hide(served: &Served, audience: &str, column: &str) {
    let body = json!({"data": {"type": "Column", "attributes": {"isHidden": true}}});
    let (status, _) = served.call(Method::PATCH, &format!("/audiences/{audience}/columns/{column}"), Some(body)).await;
    assert_eq!(status, StatusCode::OK);
}

const TYPES: [DataType; 7] = [
    DataType::Text,
    DataType::Text,
    DataType::Integer,
    DataType::Date,
    DataType::Boolean,
    DataType::StringList,
    DataType::NumberList,
];

/// Cells of every type, among them blank ones and such as differ by case or are part of one another.
fn sample(index: usize) -> Vec<Value> {
    let pick = |choices: &[Value], step: usize| choices[(index / step) % choices.len()].clone();
    let texts = [json!("abc"), json!("ABC d"), json!("ab"), json!("Ä%_"), json!("abc-d"), Value::Null, json!("50")];
    vec![
        pick(&texts, 1),
        pick(&texts, 3),
        pick(&[json!(1), json!(-5), json!(50), Value::Null], 1),
        pick(&[json!("2026-01-05"), json!("2025-12-31"), Value::Null, json!("2026-02-01")], 2),
        pick(&[json!(true), json!(false), Value::Null], 1),
        pick(&[json!(["abc", "x"]), json!(["X"]), json!([]), Value::Null], 1),
        pick(&[json!([1, 2]), json!([2.5]), Value::Null], 1),
    ]
}

fn as_cell(value: &Value) -> Cell {
    match value {
        Value::String(text) => Cell::Text(text.clone()),
        Value::Number(number) => Cell::Number(number.as_f64().unwrap()),
        Value::Bool(flag) => Cell::Boolean(*flag),
        Value::Array(items) if items.iter().all(Value::is_string) => Cell::TextList(items.iter().map(text).collect()),
        Value::Array(items) => Cell::NumberList(items.iter().map(|item| item.as_f64().unwrap()).collect()),
        _ => Cell::Null,
    }
}

/// Values to try with an operator on a column of this type.
fn arguments(data_type: DataType, limit: Option<u64>) -> Vec<Value> {
    if limit == Some(0) {
        return vec![json!([])];
    }
    let values = match data_type {
        DataType::Text | DataType::StringList => [json!("abc"), json!("x"), json!("Ä%_")],
        DataType::Date => [json!("2025-12-31"), json!("2026-01-05"), json!("2026-03-01")],
        _ => [json!(1), json!(2.5), json!(50)],
    };
    match limit {
        Some(2) => vec![json!(values[..2]), json!(values[1..])],
        Some(1) => values.iter().map(|value| json!([value])).collect(),
        _ => vec![json!([values[0]]), json!([values[2]]), json!(values)],
    }
}

/// The clock of the tests stands on 2026-01-05.
fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, 5).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operator_the_metadata_tells_finds_what_the_naive_reading_finds() {
    let served = Served::start().await;
    let named: Vec<(String, &str)> =
        TYPES.iter().enumerate().map(|(index, data_type)| (format!("c{index}"), data_type.as_str())).collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(name, data_type)| (name.as_str(), *data_type)).collect();
    let (audience, columns) = served.audience("A", &named).await;
    let samples: Vec<Vec<Value>> = (0..84).map(sample).collect();
    let rows = samples.iter().map(|cells| {
        let cells: Vec<(&str, Value)> = columns.iter().map(String::as_str).zip(cells.iter().cloned()).collect();
        row(None, &cells)
    });
    assert_eq!(served.bulk_upsert(&audience, rows.collect()).await.0, StatusCode::OK);
    // One of the two TEXT columns is searched by the index, which is filled from the rows that are there.
    hide(&served, &audience, &columns[1]).await;

    let (_, metadata) = served.get(&format!("/audiences/{audience}/filter-metadata")).await;
    assert_eq!(metadata["data"]["type"], "AudienceFilterMetadata");
    let entries = metadata["data"]["attributes"]["filterMetadata"].as_array().unwrap();
    assert_eq!(entries.len(), TYPES.len());
    let kinds: Vec<(String, DataType)> = columns.iter().cloned().zip(TYPES).collect();
    let mut tried = 0;
    for (index, entry) in entries.iter().enumerate() {
        for operator in entry["filterOperators"].as_array().unwrap() {
            let name = operator["operator"].as_str().unwrap();
            let limit = operator["valueCountLimit"].as_u64();
            let rolling = name == "ROLLING_RANGE";
            let arguments = if rolling { vec![json!([5])] } else { arguments(TYPES[index], limit) };
            for values in arguments {
                let attributes = group("AND", vec![filter(&columns[index], name, values.clone())]);
                let (status, found) = served.search(&audience, "?page[size]=500", attributes.clone()).await;
                assert_eq!(status, StatusCode::OK, "{name} {values} {found}");
                let rule = validate(&parse::gtm(&attributes["filter"]).unwrap(), &kinds).unwrap();
                let expected: Vec<usize> = (0..samples.len())
                    .filter(|&place| {
                        let value = |id: &str| {
                            as_cell(&samples[place][columns.iter().position(|column| column == id).unwrap()])
                        };
                        evaluate(&rule, &value, today())
                    })
                    .collect();
                let found: Vec<&Value> =
                    found["data"].as_array().unwrap().iter().map(|row| cell(row, &columns[index])).collect();
                let blank = |value: &Value| if *value == json!([]) { Value::Null } else { value.clone() };
                let wanted: Vec<Value> = expected.iter().map(|&place| blank(&samples[place][index])).collect();
                assert_eq!(found, wanted.iter().collect::<Vec<_>>(), "{name} {values}");
                tried += 1;
            }
        }
    }
    assert!(tried > 60, "only {tried} searches");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_the_metadata_does_not_tell_is_refused() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("B", "BOOLEAN"), ("O", "OBJECT"), ("T", "TEXT")]).await;
    let (_, metadata) = served.get(&format!("/audiences/{audience}/filter-metadata")).await;
    let object = &metadata["data"]["attributes"]["filterMetadata"][1];
    assert_eq!((&object["isFilterable"], &object["filterOperators"]), (&json!(false), &json!([])));
    let cases = [
        (filter(&columns[0], "EQUALS", json!(["true"])), "/data/attributes/filter/filters/0"),
        (filter(&columns[1], "EMPTY", json!([])), "/data/attributes/filter/filters/0"),
        (filter("none", "EQUALS", json!(["x"])), "/data/attributes/filter/filters/0"),
        (filter(&columns[2], "SOUNDS_LIKE", json!(["x"])), "/data/attributes/filter/filters/0"),
        (filter(&columns[2], "EQUALS", json!([])), "/data/attributes/filter/filters/0"),
        (filter(&columns[2], "EQUALS", json!(vec!["x"; 101])), "/data/attributes/filter/filters/0"),
    ];
    for (condition, pointer) in cases {
        let (status, document) = served.search(&audience, "", group("AND", vec![condition.clone()])).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{condition}");
        assert!(errors(status, &document)[0].0.starts_with(pointer), "{document}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_follows_updates_deletes_and_hiding() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("convoke_key", "TEXT"), ("T", "TEXT")]).await;
    let key = columns[0].as_str();
    hide(&served, &audience, key).await;
    let rows = (0..300).map(|n| row(None, &[(key, json!(format!("{:02X}.{n:08x}", n % 150)))])).collect();
    let (_, created) = served.bulk_upsert(&audience, rows).await;
    let find = |operator: &'static str, values: Value| {
        let attributes = group("AND", vec![filter(key, operator, values)]);
        let (served, audience) = (&served, &audience);
        async move {
            let (status, found) = served.search(audience, "", attributes).await;
            assert_eq!(status, StatusCode::OK);
            found["data"].as_array().unwrap().iter().map(|row| text(&row["id"])).collect::<Vec<_>>()
        }
    };
    let id = |n: usize| text(&created["data"][n]["id"]);
    assert_eq!(find("EQUALS", json!(["01.00000001", "02.00000002"])).await, [id(1), id(2)]);
    assert_eq!(find("STARTS_WITH", json!(["0a."])).await, [id(10), id(160)]);

    served.bulk_upsert(&audience, vec![row(Some(&id(1)), &[(key, json!("moved"))])]).await;
    let body = json!({"data": [{"type": "Row", "id": id(2)}]});
    served.call(Method::DELETE, &format!("/audiences/{audience}/rows/actions/bulk/delete"), Some(body)).await;
    assert_eq!(find("EQUALS", json!(["01.00000001", "02.00000002", "MOVED"])).await, [id(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_by_ids_sorted_and_paged_with_stable_ties() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("N", "INTEGER"), ("L", "STRING_LIST")]).await;
    let numbers = [json!(2), Value::Null, json!(1), json!(2), json!(1)];
    let rows = numbers.iter().map(|number| row(None, &[(&columns[0], number.clone())])).collect();
    let (_, created) = served.bulk_upsert(&audience, rows).await;
    let ids: Vec<String> = created["data"].as_array().unwrap().iter().map(|row| text(&row["id"])).collect();
    let order = |query: String, attributes: Value| {
        let (served, audience, ids) = (&served, &audience, &ids);
        async move {
            let (status, found) = served.search(audience, &query, attributes).await;
            assert_eq!(status, StatusCode::OK, "{found}");
            let place = |row: &Value| ids.iter().position(|id| *id == text(&row["id"])).unwrap();
            found["data"].as_array().unwrap().iter().map(place).collect::<Vec<_>>()
        }
    };
    assert_eq!(order(format!("?sort={}", columns[0]), json!({})).await, [2, 4, 0, 3, 1]);
    assert_eq!(order(format!("?sort=-{}", columns[0]), json!({})).await, [0, 3, 2, 4, 1]);
    assert_eq!(order(format!("?sort={}&page[size]=2&page[number]=2", columns[0]), json!({})).await, [0, 3]);
    assert_eq!(order("?page[size]=2&page[number]=3".to_owned(), json!({})).await, [4]);
    assert_eq!(order(String::new(), json!({"ids": [ids[3], ids[0], audience]})).await, [0, 3]);
    assert_eq!(order(String::new(), json!({"ids": []})).await, Vec::<usize>::new());
    for query in [format!("?sort={}", columns[1]), "?sort=none".to_owned(), "?page[size]=501".to_owned()] {
        assert_eq!(served.search(&audience, &query, json!({})).await.0, StatusCode::BAD_REQUEST);
    }
    let (status, document) = served.search(&audience, "", json!({"ids": ["x"]})).await;
    assert_eq!(errors(status, &document)[0].0, "/data/attributes/ids/0");
}
