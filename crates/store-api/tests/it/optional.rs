//! What requests may leave out, and where the store draws its own bounds.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{Served, errors, row, text};

fn equals(column: &str, values: &[Value]) -> Value {
    json!({"type": "Filter", "columnId": column, "filterOperator": "EQUALS", "values": values})
}

/// The number of the page that a link leads to.
fn page_of(link: &Value) -> Option<u32> {
    let url = reqwest::Url::parse(link.as_str()?).unwrap();
    let number = url.query_pairs().find(|(key, _)| key == "page[number]").unwrap().1;
    Some(number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_nothing_leaves_a_folder_and_a_column_as_they_were() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("T", "TEXT")]).await;
    let (_, shown) = served.get(&format!("/audiences/{audience}")).await;
    let folder = text(&shown["data"]["attributes"]["folderId"]);
    let paths = [(format!("/folders/{folder}"), "A"), (format!("/audiences/{audience}/columns/{}", columns[0]), "T")];
    for (path, name) in paths {
        for body in [None, Some(json!({})), Some(json!({"data": {}})), Some(json!({"data": {"attributes": {}}}))] {
            let (status, changed) = served.call(Method::PATCH, &path, body.clone()).await;
            assert_eq!(
                (status, &changed["data"]["attributes"]["name"]),
                (StatusCode::OK, &json!(name)),
                "{path} {body:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_every_row_where_it_names_no_filter_and_shows_the_columns_asked_for() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("T", "TEXT"), ("N", "INTEGER")]).await;
    let rows = (0..3).map(|number| row(None, &[(&columns[0], json!("x")), (&columns[1], json!(number))]));
    served.bulk_upsert(&audience, rows.collect()).await;
    let path = format!("/audiences/{audience}/rows/actions/search");
    let bodies = [
        None,
        Some(json!({})),
        Some(json!({"data": {"type": "RowSearch"}})),
        Some(json!({"data": {"type": "RowSearch", "attributes": {"filter": {"operator": "OR"}}}})),
        Some(json!({"data": {"type": "RowSearch", "attributes": {"filter": {"operator": "OR", "filters": []}}}})),
    ];
    for body in bodies {
        let (status, found) = served.call(Method::POST, &path, body.clone()).await;
        assert_eq!((status, &found["meta"]["total"]), (StatusCode::OK, &json!(3)), "{body:?} {found}");
    }
    let (_, found) = served.search(&audience, &format!("?columns={}", columns[1]), json!({})).await;
    let values = found["data"][0]["attributes"]["values"].as_array().unwrap();
    let shown: Vec<&Value> = values.iter().map(|cell| &cell["columnId"]).collect();
    assert_eq!(shown, [&json!(columns[1])]);
    let (status, refused) = served.search(&audience, "?columns=nothing", json!({})).await;
    assert_eq!(errors(status, &refused), [("columns".to_owned(), "PFAPI0006".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_to_pages_that_are_given() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("N", "INTEGER")]).await;
    let rows = (0..150).map(|number| row(None, &[(&columns[0], json!(number))]));
    served.bulk_upsert(&audience, rows.collect()).await;
    for (number, next) in [(1, Some(2)), (99, Some(100)), (100, None)] {
        let query = format!("?page[number]={number}&page[size]=1");
        let (status, found) = served.search(&audience, &query, json!({})).await;
        assert_eq!((status, &found["meta"]["total"]), (StatusCode::OK, &json!(150)));
        let links = &found["links"];
        assert_eq!((page_of(&links["next"]), page_of(&links["last"])), (next, Some(100)), "{links}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_tells_that_it_cannot_be_deleted_while_match_criteria_name_it() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("Email", "EMAIL"), ("T", "TEXT")]).await;
    let path = format!("/audiences/{audience}/actions/match-criteria");
    let (status, matched) = served.call(Method::POST, &path, None).await;
    assert_eq!(status, StatusCode::OK, "{matched}");
    let (_, shown) = served.get(&format!("/audiences/{audience}")).await;
    for column in shown["data"]["attributes"]["columns"].as_array().unwrap() {
        let expected = column["id"] != columns[0];
        assert_eq!(column["attributes"]["isDeletable"], json!(expected), "{column}");
        if !expected {
            let path = format!("/audiences/{audience}/columns/{}", columns[0]);
            assert_eq!(served.call(Method::DELETE, &path, None).await.0, StatusCode::BAD_REQUEST);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_of_an_audience_is_refused_at_its_place() {
    let served = Served::start().await;
    let (audience, _) = served.audience("A", &[("T", "TEXT")]).await;
    for (member, value) in
        [("columns", json!([])), ("recordCount", json!(5)), ("type", json!("COMPANY")), ("a/b", json!(1))]
    {
        let body = json!({"data": {"type": "Audience", "attributes": {"name": "B", member: value}}});
        let (status, refused) = served.call(Method::PATCH, &format!("/audiences/{audience}"), Some(body)).await;
        let pointer = format!("/data/attributes/{}", member.replace('/', "~1"));
        assert_eq!(
            (status, errors(status, &refused)),
            (StatusCode::BAD_REQUEST, vec![(pointer, "PFAPI0001".to_owned())])
        );
    }
    let (_, shown) = served.get(&format!("/audiences/{audience}")).await;
    assert_eq!(shown["data"]["attributes"]["name"], "A", "nothing is written when anything is wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_no_database_holds_are_refused_everywhere() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("T", "TEXT")]).await;
    let folder =
        |name: &str, notes: &str| json!({"data": {"type": "Folder", "attributes": {"name": name, "notes": notes}}});
    let change = json!({"data": {"type": "Audience", "attributes": {"description": "a\u{0}"}}});
    let find = json!({"data": {"type": "RowSearch", "attributes":
        {"filter": {"operator": "AND", "filters": [equals(&columns[0], &[json!("a\u{0}")])]}}}});
    let long = "é".repeat(32_001);
    for (method, path, body, pointer) in [
        (Method::POST, "/folders".to_owned(), folder("a\u{0}b", "n"), "/data/attributes/name"),
        (Method::POST, "/folders".to_owned(), folder("a", "n\u{0}"), "/data/attributes/notes"),
        (Method::POST, "/folders".to_owned(), folder("a", &long), "/data/attributes/notes"),
        (Method::PATCH, format!("/audiences/{audience}"), change, "/data/attributes/description"),
        (
            Method::POST,
            format!("/audiences/{audience}/rows/actions/search"),
            find,
            "/data/attributes/filter/filters/0/values/0",
        ),
    ] {
        let (status, refused) = served.call(method, &path, Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{pointer}");
        assert_eq!(errors(status, &refused), [(pointer.to_owned(), "PFAPI0005".to_owned())]);
    }
}

/// Beyond these a database gives up, which would be an error of the server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_answered_up_to_its_bounds_and_refused_beyond_them() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("T", "TEXT"), ("L", "STRING_LIST")]).await;
    let cells = [(columns[0].as_str(), json!("x")), (columns[1].as_str(), json!(["x"]))];
    served.bulk_upsert(&audience, vec![row(None, &cells)]).await;
    let (_, metadata) = served.get(&format!("/audiences/{audience}/filter-metadata")).await;
    let text_operators = metadata["data"]["attributes"]["filterMetadata"].as_array().unwrap();
    let search = async |operator: &str, filters: Vec<Value>| {
        served.search(&audience, "", json!({"filter": {"operator": operator, "filters": filters}})).await
    };
    for entry in text_operators {
        for told in entry["filterOperators"].as_array().unwrap() {
            let most = usize::try_from(told["valueCountLimit"].as_u64().unwrap_or(500).min(500)).unwrap();
            let filter = |values: Vec<Value>| json!({"type": "Filter", "columnId": entry["columnId"], "filterOperator": told["operator"], "values": values});
            let distinct = |count: usize| (0..count).map(|number| json!(format!("value {number}"))).collect();
            let few = distinct(most.min(2));
            let long = vec![json!("v".repeat(10_000)); most.min(2)];
            for (operator, filters) in
                [("OR", vec![filter(few); 250]), ("AND", vec![filter(distinct(most))]), ("AND", vec![filter(long)])]
            {
                let count = filters.len();
                let (status, found) = search(operator, filters).await;
                assert_eq!(status, StatusCode::OK, "{count} times {told} {found}");
            }
        }
    }
    let (status, found) = search("OR", vec![equals(&columns[0], &vec![json!("y"); 100]); 100]).await;
    assert_eq!((status, &found["meta"]["total"]), (StatusCode::OK, &json!(0)));
    let one = || equals(&columns[0], &[json!("x")]);
    let values = |count: usize| vec![json!("x"); count];
    for (filters, pointer) in [
        (vec![one(); 251], "/filters"),
        (vec![equals(&columns[0], &values(501))], "/filters/0/values"),
        (vec![equals(&columns[0], &values(500)); 21], "/filters"),
        (vec![equals(&columns[0], &[json!("v".repeat(10_001))])], "/filters/0/values/0"),
    ] {
        let (status, refused) = search("AND", filters).await;
        let told = errors(status, &refused);
        assert_eq!(told, [(format!("/data/attributes/filter{pointer}"), "PFAPI0005".to_owned())], "{pointer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_audience_is_meant_to_be_filled_by_is_kept_as_it_was_written() {
    let served = Served::start().await;
    let criteria = json!({"contactSearch": {"jobTitle": "CTO", "managementLevel": ["C-Level"]}, "companySearch": {}});
    let attributes = json!({"name": "A", "type": "CONTACT", "origin": "CUSTOM", "zoomInfoSearchCriteria": criteria});
    let (status, made) =
        served.post("/audiences", json!({"data": {"type": "Audience", "attributes": attributes}})).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(made["data"]["attributes"]["zoomInfoSearchCriteria"], criteria);
    let (_, shown) = served.get(&format!("/audiences/{}", text(&made["data"]["id"]))).await;
    assert_eq!(shown["data"]["attributes"]["zoomInfoSearchCriteria"], criteria);
    let (_, listed) = served.get("/audiences").await;
    assert!(listed["data"][0]["attributes"].get("zoomInfoSearchCriteria").is_none());
}
