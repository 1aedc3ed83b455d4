//! Folders, audiences, columns and match criteria.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{Served, column, errors, row, text};

fn folder(name: &str) -> Value {
    json!({"data": {"type": "Folder", "attributes": {"name": name}}})
}

fn assert_meta(resource: &Value) {
    for member in ["createdAt", "createdById", "createdByName", "updatedAt", "updatedById", "updatedByName"] {
        assert!(!resource["meta"][member].is_null(), "{member} of {resource}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_created_read_changed_listed_and_deleted_with_its_audiences() {
    let served = Served::start().await;
    let (status, created) = served.post("/folders", folder("Events")).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_meta(&created["data"]);
    let id = text(&created["data"]["id"]);
    let audience = json!({"data": {"type": "Audience", "attributes":
        {"name": "Booth", "type": "CONTACT", "origin": "CUSTOM", "folderId": id}}});
    let (_, audience) = served.post("/audiences", audience).await;
    assert_eq!(audience["data"]["attributes"]["folderName"], "Events");
    let audience = text(&audience["data"]["id"]);

    let change =
        json!({"data": {"type": "Folder", "attributes": {"starred": true, "notes": "n", "description": null}}});
    let (status, changed) = served.call(Method::PATCH, &format!("/folders/{id}"), Some(change)).await;
    assert_eq!((status, &changed["data"]["attributes"]["starred"]), (StatusCode::OK, &json!(true)));
    let (_, read) = served.get(&format!("/folders/{id}")).await;
    assert_eq!(read["data"]["attributes"]["audiences"], json!([audience]));

    let (status, _) = served.call(Method::DELETE, &format!("/folders/{id}"), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for path in [format!("/folders/{id}"), format!("/audiences/{audience}")] {
        assert_eq!(served.get(&path).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_with_links_that_can_be_followed() {
    let served = Served::start().await;
    for name in ["b", "a", "c"] {
        served.post("/folders", folder(name)).await;
    }
    let (_, first) = served.get("/folders?sort=name&page%5Bsize%5D=2").await;
    assert_eq!(first["meta"], json!({"page": {"size": 2, "number": 1}, "total": 3}));
    assert!(first["links"].get("prev").is_none());
    let next: Value = served
        .http
        .get(first["links"]["next"].as_str().unwrap())
        .bearer_auth(&served.token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(next["data"][0]["attributes"]["name"], "c");
    assert!(next["links"].get("next").is_none() && next["links"]["prev"].is_string());
    let (status, beyond) = served.get("/folders?page[number]=9&page[size]=2").await;
    assert_eq!((status, &beyond["data"]), (StatusCode::OK, &json!([])));
    assert!(beyond["links"].get("next").is_none());
    for query in ["page[number]=0", "page[size]=101", "page[size]=x", "sort=colour"] {
        let (status, document) = served.get(&format!("/folders?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(errors(status, &document)[0], (query.split('=').next().unwrap().to_owned(), "PFAPI0006".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_beyond_the_hundredth_is_given() {
    let served = Served::start().await;
    let (status, _) = served.get("/folders?page[number]=100").await;
    assert_eq!(status, StatusCode::OK);
    let (status, document) = served.get("/folders?page[number]=101").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(errors(status, &document)[0], ("page[number]".to_owned(), "PFAPI0002".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_without_a_folder_gets_one_of_its_name() {
    let served = Served::start().await;
    let (id, columns) = served.audience("Booth Scans", &[("Email", "EMAIL"), ("Company", "TEXT")]).await;
    let (status, document) = served.get(&format!("/audiences/{id}")).await;
    let attributes = &document["data"]["attributes"];
    assert_eq!(status, StatusCode::OK);
    assert_meta(&document["data"]);
    assert_eq!((&attributes["folderName"], &attributes["recordCount"]), (&json!("Booth Scans"), &json!(0)));
    let email = &attributes["columns"][0];
    assert_eq!((&email["id"], &email["attributes"]["dataType"]), (&json!(columns[0]), &json!("EMAIL")));
    for member in ["isDeletable", "isEditable", "isExportable", "isFilterable", "isSortable"] {
        assert_eq!(email["attributes"][member], true);
    }
    let (_, found) = served.get("/audiences?filter[searchText]=booth&filter[type]=CONTACT").await;
    assert_eq!(found["meta"]["total"], 1);
    assert!(found["data"][0]["attributes"].get("columns").is_none());
    assert_eq!(served.get("/audiences?filter[type]=COMPANY").await.1["meta"]["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_is_wrong_in_part_is_not_created_at_all() {
    let served = Served::start().await;
    let match_column = json!({"type": "Column", "attributes":
        {"name": "M", "dataType": "ZI_CONTACT_ID", "columnType": "ZOOMINFO_MATCH"}});
    let attributes = json!({"name": "A", "type": "CONTACT", "origin": "CUSTOM",
        "columns": [column("ok", "TEXT"), column("", "TEXT"), column("x", "PICKLIST"), match_column]});
    let body = json!({"data": {"type": "Audience", "attributes": attributes}});
    let (status, document) = served.post("/audiences", body).await;
    let mut pointers: Vec<String> = errors(status, &document).into_iter().map(|(pointer, _)| pointer).collect();
    pointers.sort();
    let columns = "/data/attributes/columns";
    assert_eq!(
        pointers,
        [
            format!("{columns}/1/attributes/name"),
            format!("{columns}/2/attributes/dataType"),
            format!("{columns}/3/attributes/columnType"),
        ]
    );
    assert_eq!(served.get("/audiences").await.1["meta"]["total"], 0);
    assert_eq!(served.get("/folders").await.1["meta"]["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_hidden_renamed_and_deleted_with_their_cells() {
    let served = Served::start().await;
    let (audience, columns) = served.audience("A", &[("Email", "EMAIL"), ("Note", "TEXT")]).await;
    served
        .bulk_upsert(&audience, vec![row(None, &[(&columns[0], json!("a@example.com")), (&columns[1], json!("n"))])])
        .await;
    let path = format!("/audiences/{audience}/columns");
    let (status, created) =
        served.post(&format!("{path}/actions/bulk/create"), json!({"data": [column("K", "TEXT")]})).await;
    assert_eq!(status, StatusCode::CREATED);
    let key = text(&created["data"][0]["id"]);
    let change = |attributes: Value| Some(json!({"data": {"type": "Column", "attributes": attributes}}));
    let (_, changed) =
        served.call(Method::PATCH, &format!("{path}/{key}"), change(json!({"isHidden": true, "name": "key"}))).await;
    assert_eq!(
        (&changed["data"]["attributes"]["isHidden"], &changed["data"]["attributes"]["name"]),
        (&json!(true), &json!("key"))
    );
    let (status, document) =
        served.call(Method::PATCH, &format!("{path}/{key}"), change(json!({"dataType": "DATE"}))).await;
    assert_eq!(errors(status, &document), [("/data/attributes/dataType".to_owned(), "PFAPI0001".to_owned())]);

    assert_eq!(served.call(Method::DELETE, &format!("{path}/{}", columns[1]), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(served.call(Method::DELETE, &format!("{path}/{}", columns[1]), None).await.0, StatusCode::NOT_FOUND);
    let (_, found) = served.search(&audience, "", json!({})).await;
    assert_eq!(
        found["data"][0]["attributes"]["values"],
        json!([
            {"columnId": columns[0], "value": "a@example.com", "state": "RESULT"},
            {"columnId": key, "value": null, "state": "BLANK"},
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn match_criteria_are_set_replaced_and_found_by_name_and_type() {
    let served = Served::start().await;
    let columns = [("E-Mail", "EMAIL"), ("First Name", "TEXT"), ("Colour", "TEXT")];
    let (audience, ids) = served.audience("A", &columns).await;
    let path = format!("/audiences/{audience}/actions/match-criteria");
    let (status, found) = served.call(Method::POST, &path, None).await;
    assert_eq!(status, StatusCode::OK);
    let match_column = text(&found["data"]["id"]);
    assert_eq!(found["data"]["attributes"]["columnType"], "ZOOMINFO_MATCH");
    assert_eq!(
        found["data"]["attributes"]["matchCriteria"],
        json!([
            {"columnId": ids[0], "mappedTo": "CONTACT_EMAIL"},
            {"columnId": ids[1], "mappedTo": "CONTACT_FIRST_NAME"},
        ])
    );

    let given = |field: &str| {
        json!({"data": {"type": "UpsertMatchCriteria", "attributes":
        {"matchCriteria": [{"columnId": ids[0], "mappedTo": field}]}}})
    };
    let (_, replaced) = served.post(&path, given("CONTACT_HASHED_EMAILS")).await;
    assert_eq!(replaced["data"]["id"], match_column);
    assert_eq!(replaced["data"]["attributes"]["matchCriteria"].as_array().unwrap().len(), 1);
    let (status, document) = served.post(&path, given("COMPANY_TICKER")).await;
    assert_eq!(errors(status, &document)[0].0, "/data/attributes/matchCriteria/0/mappedTo");
    let used = served.call(Method::DELETE, &format!("/audiences/{audience}/columns/{}", ids[0]), None).await;
    assert_eq!(used.0, StatusCode::BAD_REQUEST);
    let (status, document) = served.bulk_upsert(&audience, vec![row(None, &[(&match_column, json!("1"))])]).await;
    assert_eq!(errors(status, &document)[0].1, "PFAPI0001");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_client_does_not_exist_for_another() {
    let mut served = Served::start().await;
    let (audience, _) = served.audience("A", &[("T", "TEXT")]).await;
    let other = served.store.add_client("other").await.unwrap();
    served.token = served.new_token(&other.client_id, &other.secret).await;
    assert_eq!(served.get(&format!("/audiences/{audience}")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(served.search(&audience, "", json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(served.get("/audiences").await.1["meta"]["total"], 0);
    assert_eq!(served.get("/folders").await.1["meta"]["total"], 0);
}
