//! Look-ups and scans through all their pages.

use convoke_core::sink::{AudienceBinding, KeyLookUp, LookUp, ScannedRow, Sink};
use convoke_core::{RowId, SinkError};
use serde_json::{Value, json};

use crate::fixture::{SEARCH, Service, audience, key, page, row, row_ids};

async fn ids_found(service: &Service, query: LookUp) -> Result<Vec<String>, SinkError> {
    let found = service.sink.look_up(&audience(), &query).await?;
    Ok(found.into_iter().map(|row| row.row_id.as_str().to_owned()).collect())
}

fn filters(service: &Service) -> Vec<Value> {
    let requests = service.http.requests_to("/studio");
    requests.iter().map(|request| request.json()["data"]["attributes"].clone()).collect()
}

#[tokio::test]
async fn rows_are_found_by_whole_key_cells_as_many_at_once_as_the_metadata_allows() {
    let service = Service::start().await;
    service
        .then(200, &page(&[row("a", Some(key(1))), row("a2", Some(key(1))), row("x", Some(key(77)))], 3))
        .then(200, &page(&[], 0));
    let query = LookUp::KeyCells(vec![key(1), key(2), key(3)]);
    assert_eq!(ids_found(&service, query).await.unwrap(), ["a", "a2"], "doubles are told, strangers are not");
    let filter = |values: Value| {
        json!({"filter": {"operator": "AND", "filters":
            [{"type": "Filter", "columnId": "c-key", "filterOperator": "EQUALS", "values": values}]}})
    };
    let text = |number| key(number).to_string();
    assert_eq!(filters(&service), [filter(json!([text(1), text(2)])), filter(json!([text(3)]))]);
    let sent = &service.http.requests_to("/studio")[0];
    assert_eq!(sent.target, format!("{SEARCH}?page%5Bsize%5D=500&columns=c-key&page%5Bnumber%5D=1"));
    assert_eq!(sent.json()["data"]["type"], "RowSearch");
}

#[tokio::test]
async fn rows_are_found_by_the_beginning_of_their_key_cell_whatever_the_attempt() {
    let service = Service::start().await;
    service.then(200, &page(&[row("a", Some(key(1)))], 1));
    assert_eq!(ids_found(&service, LookUp::Keys(vec![key(1).key])).await.unwrap(), ["a"]);
    let filter = &filters(&service)[0]["filter"]["filters"][0];
    assert_eq!(filter["filterOperator"], "STARTS_WITH");
    assert_eq!(filter["values"], json!([key(1).key.to_hex()]));
}

#[tokio::test]
async fn rows_are_found_by_id() {
    let service = Service::start().await;
    service.then(200, &page(&[row("r2", None), row("other", None)], 2));
    assert_eq!(ids_found(&service, LookUp::RowIds(row_ids())).await.unwrap(), ["r2"]);
    assert_eq!(filters(&service), [json!({"ids": ["r1", "r2"]})]);
}

#[tokio::test]
async fn all_pages_of_hits_are_read_even_if_they_are_smaller_than_asked_for() {
    let service = Service::start().await;
    let ids = || LookUp::RowIds(row_ids());
    service.then(200, &page(&[row("r1", None)], 2)).then(200, &page(&[row("r2", None)], 2));
    assert_eq!(ids_found(&service, ids()).await.unwrap(), ["r1", "r2"]);
    // Without a total the links tell, and without links only an empty page does.
    let links = json!({"next": "http://service.example/next"});
    service
        .then(200, &json!({"data": [row("r1", None)], "links": links}))
        .then(200, &json!({"data": [row("r2", None)], "links": {}}));
    assert_eq!(ids_found(&service, ids()).await.unwrap(), ["r1", "r2"]);
    service.then(200, &json!({"data": [row("r1", None)]})).then(200, &json!({"data": []}));
    assert_eq!(ids_found(&service, ids()).await.unwrap(), ["r1"]);
    // An empty page that names another one is not the last.
    service.then(200, &json!({"data": [], "links": links})).then(200, &json!({"data": [row("r2", None)], "links": {}}));
    assert_eq!(ids_found(&service, ids()).await.unwrap(), ["r2"]);
    assert_eq!(service.http.left_over(), 0);
}

#[tokio::test]
async fn an_incomplete_or_unreadable_answer_is_an_error_and_not_an_absence() {
    let service = Service::start().await;
    service.then(200, &page(&[], 1));
    let error = ids_found(&service, LookUp::RowIds(row_ids())).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("more rows than it gave"), "{error}");
    service.then(200, &json!({"data": [{"type": "Row"}]}));
    assert!(ids_found(&service, LookUp::RowIds(row_ids())).await.unwrap_err().is_transient());
    service.then(200, &json!({"rows": []}));
    assert!(ids_found(&service, LookUp::RowIds(row_ids())).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_list_whose_total_changes_between_its_pages_is_an_error() {
    let service = Service::start().await;
    service.then(200, &page(&[row("r1", None)], 3)).then(200, &page(&[row("r2", None)], 2));
    let error = ids_found(&service, LookUp::RowIds(row_ids())).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("another number of rows"), "{error}");
}

#[tokio::test]
async fn a_hit_that_does_not_show_its_key_cell_is_an_error_and_not_an_absence() {
    let service = Service::start().await;
    let without_cells = json!({"id": "a", "type": "Row"});
    let edited = json!({"id": "a", "type": "Row", "attributes": {"values": [
        {"columnId": "c-key", "value": "typed by a person", "state": "RESULT"}]}});
    let by_cell = || LookUp::KeyCells(vec![key(1)]);
    let by_key = || LookUp::Keys(vec![key(1).key]);
    for (hit, query) in [
        (&without_cells, by_cell()),
        (&row("a", None), by_cell()),
        (&edited, by_cell()),
        (&without_cells, by_key()),
        (&row("a", None), by_key()),
    ] {
        service.then(200, &page(std::slice::from_ref(hit), 1));
        assert!(ids_found(&service, query).await.unwrap_err().is_transient(), "{hit}");
    }
    service.then(200, &page(&[edited], 1));
    assert!(ids_found(&service, by_key()).await.unwrap().is_empty(), "what a person edited is not ours any more");
}

#[tokio::test]
async fn a_key_column_that_cannot_be_searched_is_not_searched() {
    let service = Service::start().await;
    let blind = AudienceBinding { key_look_up: None, ..audience() };
    let by_whole = KeyLookUp { values_per_request: 10, by_prefix: false };
    let whole_only = AudienceBinding { key_look_up: Some(by_whole), ..audience() };
    let cases = [(&blind, LookUp::KeyCells(vec![key(1)])), (&whole_only, LookUp::Keys(vec![key(1).key]))];
    for (audience, query) in cases {
        let error = service.sink.look_up(audience, &query).await.unwrap_err();
        assert!(matches!(error, SinkError::Protocol { .. }), "{error}");
    }
    assert!(service.http.requests().is_empty());
}

async fn scan_all(service: &Service) -> Result<Vec<ScannedRow>, SinkError> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let page = service.sink.scan(&audience(), cursor.as_deref()).await?;
        rows.extend(page.rows);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(rows),
        }
    }
}

#[tokio::test]
async fn a_scan_reads_the_bound_cells_of_all_rows() {
    let service = Service::start().await;
    let full = json!({"id": "r1", "attributes": {"values": [
        {"columnId": "c-name", "value": ["a", {"b": 1.50}], "state": "RESULT"},
        {"columnId": "c-mail", "value": "é\"x", "state": "RESULT"},
        {"columnId": "c-key", "value": key(5).to_string(), "state": "RESULT"}]}});
    let blank = json!({"id": "r2", "attributes": {"values": [
        {"columnId": "c-name", "value": 1.50, "state": "RESULT"},
        {"columnId": "c-mail", "value": "", "state": "BLANK"},
        {"columnId": "c-key", "value": "typed by a person", "state": "RESULT"}]}});
    service.then(200, &page(&[full], 2)).then(200, &page(&[blank], 2));
    let rows = scan_all(&service).await.unwrap();
    assert_eq!(rows[0].cells, [Some(r#"["a",{"b":1.5}]"#.to_owned()), Some("é\"x".to_owned())]);
    assert_eq!(rows[0].key_cell, Some(key(5)));
    assert_eq!(rows[1].cells, [Some("1.5".to_owned()), None]);
    assert_eq!((rows[1].key_cell, &rows[1].row_id), (None, &RowId::new("r2")));
    let targets: Vec<_> = service.http.requests_to("/studio").into_iter().map(|request| request.target).collect();
    let target = |number| format!("{SEARCH}?page%5Bsize%5D=500&columns=c-name,c-mail,c-key&page%5Bnumber%5D={number}");
    assert_eq!(targets, [target(1), target(2)]);
}

#[tokio::test]
async fn a_scan_of_an_audience_that_changes_meanwhile_is_an_error() {
    let changes = [
        // One row more, one less, and a list that moved by one place.
        [page(&[row("r1", None)], 3), page(&[row("r2", None)], 4)],
        [page(&[row("r1", None)], 3), page(&[row("r2", None)], 2)],
        [page(&[row("r1", None), row("r2", None)], 4), page(&[row("r2", None), row("r3", None)], 4)],
    ];
    for [first, second] in changes {
        let service = Service::start().await;
        service.then(200, &first).then(200, &second);
        let error = scan_all(&service).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("another number of rows"), "{error}");
    }
}

#[tokio::test]
async fn an_audience_beyond_page_100_is_read_in_slices_of_the_key() {
    let service = Service::start().await;
    service.then(200, &page(&[row("r0", None)], 50_001));
    service.then(200, &page(&[row("unkeyed", None)], 1)).then(200, &page(&[], 0));
    // The slice `0` is too long itself and is cut once more.
    service.then(200, &page(&[row("r1", Some(key(1)))], 50_001));
    service.then(200, &page(&[row("r1", Some(key(1)))], 1));
    (0..30).for_each(|_| {
        service.then(200, &page(&[], 0));
    });
    let error = scan_all(&service).await.unwrap_err();
    assert!(error.to_string().contains("more rows than it gave"), "50,001 were announced, two were given: {error}");
    let searches = filters(&service);
    assert_eq!(searches[0], json!({}));
    assert_eq!(searches[1]["filter"]["filters"][0]["filterOperator"], "EMPTY");
    assert_eq!(searches[2]["filter"]["filters"].as_array().unwrap().len(), 17);
    let prefixes: Vec<_> =
        searches[3..].iter().map(|search| search["filter"]["filters"][0]["values"][0].as_str().unwrap()).collect();
    let hex = "0123456789abcdef";
    let expected: Vec<String> = std::iter::once("0".to_owned())
        .chain(hex.chars().map(|digit| format!("0{digit}")))
        .chain(hex.chars().skip(1).map(String::from))
        .collect();
    assert_eq!(prefixes, expected);
}

/// What the filter metadata tells of the e-mail column.
fn metadata(operators: &[&str]) -> Value {
    let operators: Vec<_> =
        operators.iter().map(|name| json!({"operator": name, "isMultipleSupported": false})).collect();
    json!({"data": {"id": "aud", "type": "AudienceFilterMetadata", "attributes": {"filterMetadata": [
        {"columnId": "c-name", "isFilterable": false, "filterOperators": []},
        {"columnId": "c-mail", "isFilterable": true, "filterOperators": operators}]}}})
}

#[tokio::test]
async fn rows_without_a_key_cell_beyond_page_100_are_read_in_slices_of_a_mapped_column() {
    let service = Service::start().await;
    let too_long = page(&[row("r0", None)], 50_001);
    let (one, none) = (page(&[row("r1", None)], 1), page(&[], 0));
    service.then(200, &too_long).then(200, &too_long);
    service.then(200, &metadata(&["EMPTY", "NOT_EMPTY", "STARTS_WITH", "DOES_NOT_START_WITH"]));
    // No cell, then what begins otherwise, then `0`, which is too long and is cut once more.
    service.then(200, &none).then(200, &one).then(200, &too_long).then(200, &none);
    // Two characters, the other ones, rows whose key cell is not ours, and the sixteen digits of those that are.
    (0..39 + 38 + 1 + 16).for_each(|_| {
        service.then(200, &none);
    });
    let error = scan_all(&service).await.unwrap_err();
    assert!(error.to_string().contains("more rows than it gave"), "50,001 were announced, one was given: {error}");
    assert_eq!(service.http.left_over(), 0);
    let searches: Vec<Value> = service
        .http
        .requests_to("/studio")
        .iter()
        .filter(|request| !request.target.contains("filter-metadata"))
        .map(|request| request.json()["data"]["attributes"]["filter"]["filters"].clone())
        .collect();
    let told = |search: &Value| {
        let filters = search.as_array().unwrap().iter();
        let told: Vec<_> = filters
            .map(|filter| {
                let text = |name: &str| filter[name].as_str().unwrap();
                format!("{} {} {}", text("columnId"), text("filterOperator"), filter["values"])
            })
            .collect();
        (told[..told.len().min(2)].to_vec(), told.len())
    };
    let unkeyed = "c-key EMPTY []".to_owned();
    let with = |second: &str| vec![unkeyed.clone(), second.to_owned()];
    assert_eq!(told(&searches[2]), (with("c-mail EMPTY []"), 2));
    assert_eq!(told(&searches[3]), (with("c-mail NOT_EMPTY []"), 2 + 39));
    assert_eq!(told(&searches[4]), (with(r#"c-mail STARTS_WITH ["0"]"#), 2));
    assert_eq!(told(&searches[5]), (with(r#"c-mail STARTS_WITH ["0"]"#), 2 + 39));
    assert_eq!(told(&searches[6]), (with(r#"c-mail STARTS_WITH ["00"]"#), 2));
    assert_eq!(told(&searches[6 + 39]), (with(r#"c-mail STARTS_WITH ["1"]"#), 2));
}

#[tokio::test]
async fn an_audience_that_cannot_be_parted_is_an_error_that_names_the_limit() {
    let service = Service::start().await;
    let blind = AudienceBinding { key_look_up: None, ..audience() };
    // Whoever gives pages beyond the hundredth gives them all.
    let full = |first: usize| {
        let rows: Vec<_> = (first..first + 500).map(|number| row(&format!("r{number}"), None)).collect();
        page(&rows, 50_001)
    };
    service.then(200, &full(0)).then(200, &metadata(&["EMPTY", "STARTS_WITH"]));
    (1..100).for_each(|number| {
        service.then(200, &full(number * 500));
    });
    service.then(400, &json!({"errors": [{"id": "1", "code": "PFAPI0002", "status": "400", "title": "Bad Request"}]}));
    let mut cursor = None;
    let error = loop {
        match service.sink.scan(&blind, cursor.as_deref()).await {
            Ok(page) => cursor = Some(page.next.expect("a row is left")),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SinkError::Protocol { .. }), "{error}");
    for words in ["50000 rows", "searched by its beginning", "PFAPI0002"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_cursor_from_elsewhere_is_refused() {
    let service = Service::start().await;
    let error = service.sink.scan(&audience(), Some("page 2")).await.unwrap_err();
    assert!(matches!(error, SinkError::Protocol { .. }));
}
