//! Writing, reading and deleting rows; durability.

use convoke_store_api::ServeSettings;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{Served, cell, errors, row, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_echoed_whole_in_the_order_of_the_request() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("N", "INTEGER"), ("Tags", "STRING_LIST"), ("T", "TEXT")]).await;
    let rows = (0..500).map(|n| row(None, &[(&columns[0], json!(n)), (&columns[1], json!(["x", "ü"]))])).collect();
    let (status, created) = served.bulk_upsert(&audience, rows).await;
    assert_eq!(status, StatusCode::OK);
    let data = created["data"].as_array().unwrap();
    let numbers: Vec<i64> = data.iter().map(|row| cell(row, &columns[0]).as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<i64>>());
    assert_eq!(
        data[7]["attributes"]["values"],
        json!([
            {"columnId": columns[0], "value": 7, "state": "RESULT"},
            {"columnId": columns[1], "value": ["x", "ü"], "state": "RESULT"},
            {"columnId": columns[2], "value": null, "state": "BLANK"},
        ])
    );
    let path = format!("/audiences/{audience}/rows/{}", text(&data[7]["id"]));
    assert_eq!(served.get(&path).await.1["data"], data[7]);
    let (_, part) = served.get(&format!("{path}?columns={},{}", columns[2], columns[0])).await;
    assert_eq!(part["data"]["attributes"]["values"].as_array().unwrap().len(), 2);
    assert_eq!(served.get(&format!("{path}?columns=none")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(served.record_count(&audience).await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_keeps_omitted_cells_and_null_clears() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("A", "TEXT"), ("B", "TEXT"), ("C", "TEXT")]).await;
    let cells = [(columns[0].as_str(), json!("a")), (&columns[1], json!("b")), (&columns[2], json!("c"))];
    let (_, created) = served.bulk_upsert(&audience, vec![row(None, &cells)]).await;
    let id = text(&created["data"][0]["id"]);
    let update = [(columns[1].as_str(), Value::Null), (&columns[2], json!("d"))];
    let path = format!("/audiences/{audience}/rows/actions/upsert");
    let (status, updated) = served.post(&path, json!({"data": [row(Some(&id), &update), row(None, &[])]})).await;
    assert_eq!(status, StatusCode::OK);
    let first = &updated["data"][0];
    assert_eq!(first["id"], id);
    let values: Vec<&Value> = columns.iter().map(|column| cell(first, column)).collect();
    assert_eq!(values, [&json!("a"), &Value::Null, &json!("d")]);
    assert_eq!(served.record_count(&audience).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_problems_writes_nothing_and_names_each_of_them() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("Email", "EMAIL"), ("T", "TEXT")]).await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    let rows = vec![
        row(None, &[(&columns[0], json!("fine@example.com"))]),
        row(None, &[(&columns[1], json!("fine")), (&columns[0], json!("no address"))]),
        row(None, &[("no-column", json!("x")), (&columns[1], json!("x".repeat(2000)))]),
        row(Some(unknown), &[(&columns[1], json!(5))]),
        json!({"type": "Row", "attributes": {"values": [{"columnId": columns[1]}]}}),
    ];
    let (status, document) = served.bulk_upsert(&audience, rows).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let expected = [
        ("/data/1/attributes/values/1/value", "PFAPI0005"),
        ("/data/2/attributes/values/0/columnId", "PFAPI0005"),
        ("/data/2/attributes/values/1/value", "PFAPI0005"),
        ("/data/3/id", "PFAPI0005"),
        ("/data/3/attributes/values/0/value", "PFAPI0008"),
        ("/data/4/attributes/values/0/value", "PFAPI0002"),
    ];
    assert_eq!(errors(status, &document), expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));
    assert!(!document.to_string().contains("no address"), "a value stands in the answer");
    assert_eq!(served.record_count(&audience).await, 0);
    assert_eq!(served.search(&audience, "", json!({})).await.1["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_bounded_and_not_empty() {
    let served = Served::start().await;
    let (audience, _) = served.audience("A", &[("T", "TEXT")]).await;
    let rows = |count: usize| json!({"data": vec![row(None, &[]); count]});
    for (path, allowed) in [("upsert", 50), ("bulk/upsert", 500)] {
        let path = format!("/audiences/{audience}/rows/actions/{path}");
        for (count, status) in [(0, 400), (allowed, 200), (allowed + 1, 400)] {
            assert_eq!(served.post(&path, rows(count)).await.0.as_u16(), status, "{path} {count}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_gone_when_their_job_succeeded_and_deleting_them_again_succeeds() {
    let served = Served::start().await;
    let (audience, _) = served.audience("A", &[("T", "TEXT")]).await;
    let (_, created) = served.bulk_upsert(&audience, vec![row(None, &[]); 3]).await;
    let ids: Vec<String> = created["data"].as_array().unwrap().iter().map(|row| text(&row["id"])).collect();
    let path = format!("/audiences/{audience}/rows/actions/bulk/delete");
    let body = json!({"data": [{"type": "Row", "id": ids[0]}, {"type": "Row", "id": ids[2]}]});
    for _ in 0..2 {
        let (status, accepted) = served.call(Method::DELETE, &path, Some(body.clone())).await;
        assert_eq!((status, &accepted["data"]["type"]), (StatusCode::ACCEPTED, &json!("RowAsyncJob")));
        let (_, job) = served.get(&format!("/audiences/{audience}/jobs/{}", text(&accepted["data"]["id"]))).await;
        assert_eq!(job["data"]["type"], "JobStatus");
        assert_eq!(job["data"]["attributes"], json!({"status": "SUCCEEDED", "percentProgress": 100}));
    }
    assert_eq!(served.record_count(&audience).await, 1);
    assert_eq!(served.get(&format!("/audiences/{audience}/rows/{}", ids[0])).await.0, StatusCode::NOT_FOUND);
    assert_eq!(served.get(&format!("/audiences/{audience}/rows/{}", ids[1])).await.0, StatusCode::OK);
    let (status, document) =
        served.call(Method::DELETE, &path, Some(json!({"data": [{"type": "Row", "id": "x"}]}))).await;
    assert_eq!(errors(status, &document)[0].0, "/data/0/id");
    assert_eq!(served.get(&format!("/audiences/{audience}/jobs/{}", ids[0])).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let served = Served::on(&path, ServeSettings::default()).await;
    let (audience, columns) = served.audience("A", &[("T", "TEXT")]).await;
    let (_, created) = served.bulk_upsert(&audience, vec![row(None, &[(&columns[0], json!("kept"))])]).await;
    let token = served.token.clone();
    served.stop().await;

    let mut served = Served::on(&path, ServeSettings::default()).await;
    served.token = token;
    assert_eq!(served.search(&audience, "", json!({})).await.1["data"], created["data"]);
    assert_eq!(served.record_count(&audience).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_two_processes_do_not_lose_one_anothers_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = Served::on(&path, ServeSettings::default()).await;
    let second = Served::on(&path, ServeSettings::default()).await;
    let (audience, columns) = first.audience("A", &[("N", "INTEGER")]).await;
    let batches = (0..20).map(|batch| {
        let served = if batch % 2 == 0 { &first } else { &second };
        let rows = (0..50).map(|n| row(None, &[(&columns[0], json!(batch * 50 + n))])).collect();
        served.bulk_upsert(&audience, rows)
    });
    for (status, document) in join_all(batches).await {
        assert_eq!(status, StatusCode::OK, "{document}");
    }
    let mut numbers = Vec::new();
    for page in 1..=2 {
        let (_, found) = second.search(&audience, &format!("?page[size]=500&page[number]={page}"), json!({})).await;
        numbers.extend(found["data"].as_array().unwrap().iter().map(|row| cell(row, &columns[0]).as_i64().unwrap()));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<i64>>());
    assert_eq!(first.record_count(&audience).await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_applies_all_of_its_rows_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let served = Served::on(&path, ServeSettings::default()).await;
    let (audience, columns) = served.audience("A", &[("T", "TEXT")]).await;
    for patience_ms in 0..12 {
        let rows = vec![row(None, &[(&columns[0], json!("x"))]); 500];
        let request = served
            .request(Method::POST, &format!("/audiences/{audience}/rows/actions/bulk/upsert"))
            .header("content-type", "application/json")
            .body(json!({"data": rows}).to_string())
            .timeout(std::time::Duration::from_millis(patience_ms * 4));
        let _ = request.send().await;
    }
    // Stopping waits for what still runs.
    served.stop().await;

    let served = Served::on(&path, ServeSettings::default()).await;
    let count = served.record_count(&audience).await;
    assert_eq!(count % 500, 0);
    let filled = json!({"type": "Filter", "columnId": columns[0], "filterOperator": "EQUALS", "values": ["x"]});
    let search = json!({"filter": {"operator": "AND", "filters": [filled]}});
    let (_, found) = served.search(&audience, "?page[size]=1", search).await;
    assert_eq!(found["meta"]["total"], count);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let _served = Served::on(&path, ServeSettings::default()).await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

/// How many of the audience's match cells are in each of these states: blank, without a result.
async fn match_states(served: &Served, audience: &str, column: &str) -> (usize, usize) {
    let (_, page) = served.search(audience, "", json!({})).await;
    let of_row = |row: &Value| {
        let cells = row["attributes"]["values"].as_array().unwrap().clone();
        text(&cells.into_iter().find(|cell| cell["columnId"] == column).unwrap()["state"])
    };
    let states: Vec<String> = page["data"].as_array().unwrap().iter().map(of_row).collect();
    let count = |state: &str| states.iter().filter(|found| *found == state).count();
    (count("BLANK"), count("NO_RESULT"))
}

fn enrichment(attributes: &Value) -> Value {
    json!({"data": {"type": "AudienceEnrichment", "attributes": attributes}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_enriched_ends_without_a_result_and_nothing_else_changes() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("Email", "EMAIL")]).await;
    let path = format!("/audiences/{audience}/actions/enrich");
    let all = enrichment(&json!({"scope": "AUDIENCE"}));
    let rows = (0..3).map(|n| row(None, &[(&columns[0], json!(format!("p{n}@example.com")))])).collect();
    let (_, created) = served.bulk_upsert(&audience, rows).await;
    let ids: Vec<String> = created["data"].as_array().unwrap().iter().map(|row| text(&row["id"])).collect();
    assert_eq!(served.post(&path, all.clone()).await.0, StatusCode::NO_CONTENT, "there is no match column");

    let criteria = json!({"data": {"type": "UpsertMatchCriteria", "attributes": {
        "matchCriteria": [{"columnId": columns[0], "mappedTo": "CONTACT_EMAIL"}]}}});
    let (_, matched) = served.post(&format!("/audiences/{audience}/actions/match-criteria"), criteria).await;
    let column = text(&matched["data"]["id"]);
    assert_eq!(match_states(&served, &audience, &column).await, (3, 0));
    let one = enrichment(&json!({"scope": "ROW", "rows": [ids[1]], "columns": [column]}));
    let (status, started) = served.post(&path, one).await;
    assert_eq!((status, &started["data"]["type"]), (StatusCode::ACCEPTED, &json!("EnrichJob")));
    let (_, job) = served.get(&format!("/audiences/{audience}/jobs/{}", text(&started["data"]["id"]))).await;
    assert_eq!(job["data"]["attributes"]["status"], "SUCCEEDED");
    assert_eq!(match_states(&served, &audience, &column).await, (2, 1));
    let (_, shown) = served.get(&format!("/audiences/{audience}/rows/{}", ids[1])).await;
    assert_eq!(cell(&shown["data"], &columns[0]), &json!("p1@example.com"));

    assert_eq!(served.post(&path, all.clone()).await.0, StatusCode::ACCEPTED);
    assert_eq!(match_states(&served, &audience, &column).await, (0, 3));
    let delete = json!({"data": [{"type": "Row", "id": ids[0]}]});
    let bulk_delete = format!("/audiences/{audience}/rows/actions/bulk/delete");
    served.call(Method::DELETE, &bulk_delete, Some(delete)).await;
    assert_eq!(match_states(&served, &audience, &column).await, (0, 2));
    let gone = enrichment(&json!({"scope": "ROW", "rows": [ids[0]]}));
    assert_eq!(served.post(&path, gone).await.0, StatusCode::NO_CONTENT);
    let own = enrichment(&json!({"scope": "AUDIENCE", "columns": [columns[0]]}));
    assert_eq!(served.post(&path, own).await.0, StatusCode::NO_CONTENT, "a column of clients is not enriched");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrichment_that_names_nothing_that_is_there_is_refused_at_its_place() {
    let served = Served::start().await;
    let (audience, _) = served.audience("A", &[("Email", "EMAIL")]).await;
    let cases = [
        (json!({}), "/data/attributes/scope"),
        (json!({"scope": "ALL"}), "/data/attributes/scope"),
        (json!({"scope": "ROW"}), "/data/attributes/rows"),
        (json!({"scope": "ROW", "rows": []}), "/data/attributes/rows"),
        (json!({"scope": "ROW", "rows": ["x"]}), "/data/attributes/rows/0"),
        (json!({"scope": "AUDIENCE", "columns": ["x"]}), "/data/attributes/columns/0"),
    ];
    for (attributes, pointer) in cases {
        let path = format!("/audiences/{audience}/actions/enrich");
        let (status, document) = served.post(&path, enrichment(&attributes)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{attributes}");
        assert_eq!(errors(status, &document)[0].0, pointer, "{attributes}");
    }
}
