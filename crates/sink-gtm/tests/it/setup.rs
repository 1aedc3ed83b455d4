//! Surveys, and the steps that make what rows need.

use convoke_core::sink::{
    AudienceSetup, AudienceTarget, KeyLookUp, NewColumn, Provision, ProvisionAnswer, RemoteAudience, RemoteColumn,
    RemoteFolder,
};
use convoke_core::spec::{AudienceKind, AudienceSpec};
use convoke_core::{ConnectionName, DataType, SinkError};
use convoke_sink_gtm::{Error, GtmSink};
use convoke_testkit::scripted_http::{HttpAnswer, Reply};
use serde_json::{Value, json};

use crate::fixture::{CountingGate, HandClock, SECRET, Service, settings};

fn target(id: Option<&str>) -> AudienceTarget {
    AudienceTarget {
        spec: AudienceSpec {
            connection: ConnectionName::new("gtm"),
            name: "Booth & Söhne".to_owned(),
            id: id.map(str::to_owned),
            kind: AudienceKind::Contact,
            folder: Some("Events".to_owned()),
            description: None,
            match_criteria: Vec::new(),
            match_columns: Vec::new(),
        },
        columns: vec![("Email".to_owned(), DataType::Email)],
    }
}

fn folder(id: &str, name: &str) -> Value {
    json!({"id": id, "type": "Folder", "attributes": {"name": name, "starred": false, "audiences": []}})
}

fn audience(id: &str, name: &str) -> Value {
    json!({"id": id, "type": "Audience", "attributes":
        {"name": name, "type": "CONTACT", "origin": "A_NEW_ORIGIN", "recordCount": 12, "folderId": "f1", "folderName": "Events"}})
}

fn audience_with_columns(id: &str) -> Value {
    let mut audience = audience(id, "Booth & Söhne");
    audience["attributes"]["columns"] = json!([
        {"id": "c1", "type": "Column", "attributes": {"name": "Email", "dataType": "EMAIL", "columnType": "CUSTOM", "isHidden": false}},
        {"id": "c2", "type": "Column", "attributes": {"name": "convoke_key", "dataType": "TEXT", "columnType": "CUSTOM", "isHidden": true}},
        {"id": "c3", "type": "Column", "attributes": {"name": "ZoomInfo Contact", "dataType": "ZI_CONTACT_ID",
            "columnType": "ZOOMINFO_MATCH", "matchCriteria": [{"columnId": "c1", "mappedTo": "CONTACT_EMAIL"}]}},
        {"id": "c4", "type": "Column", "attributes": {"name": "Guess", "columnType": "A_NEW_TYPE", "prompt": "…"}},
    ]);
    json!({ "data": audience })
}

fn filter_metadata() -> Value {
    let operators = json!([
        {"operator": "EQUALS", "isMultipleSupported": true, "valueCountLimit": 100, "minCharLimit": 1},
        {"operator": "STARTS_WITH", "isMultipleSupported": true, "valueCountLimit": 100},
        {"operator": "A_NEW_ONE", "isMultipleSupported": false},
    ]);
    json!({"data": {"id": "a1", "type": "AudienceFilterMetadata", "attributes": {"filterMetadata": [
        {"columnId": "c1", "isFilterable": false, "filterOperators": []},
        {"columnId": "c2", "isFilterable": true, "filterOperators": operators},
    ]}}})
}

fn list(data: &[Value], total: usize) -> Value {
    json!({"data": data, "meta": {"page": {"size": 100, "number": 1}, "total": total}})
}

#[tokio::test]
async fn a_survey_by_name_reads_all_pages_and_compares_names_exactly() {
    let service = Service::start().await;
    service
        .then(200, &list(&[folder("f0", "events"), folder("f1", "Events")], 3))
        .then(200, &list(&[folder("f2", "Events")], 3))
        .then(200, &list(&[audience("a0", "Booth & Söhne 2"), audience("a1", "Booth & Söhne")], 2))
        .then(200, &audience_with_columns("a1"))
        .then(200, &filter_metadata());
    let survey = service.sink.survey(&target(None), None).await.unwrap();
    let folder = |id: &str| RemoteFolder { id: id.to_owned(), name: "Events".to_owned() };
    assert_eq!(survey.folders, [folder("f1"), folder("f2")]);
    let expected = RemoteAudience {
        id: "a1".to_owned(),
        name: "Booth & Söhne".to_owned(),
        kind: "CONTACT".to_owned(),
        folder_id: Some("f1".to_owned()),
        record_count: Some(12),
    };
    assert_eq!(survey.audiences, [expected]);
    assert_eq!(survey.columns.len(), 4);
    let matched = RemoteColumn {
        id: "c3".to_owned(),
        name: "ZoomInfo Contact".to_owned(),
        data_type: "ZI_CONTACT_ID".to_owned(),
        column_type: "ZOOMINFO_MATCH".to_owned(),
        hidden: false,
        match_criteria: vec![("c1".to_owned(), "CONTACT_EMAIL".to_owned())],
    };
    assert_eq!(survey.columns[2], matched);
    assert!(survey.columns[1].hidden);
    assert_eq!(survey.key_look_up, Some(KeyLookUp { values_per_request: 100, by_prefix: true }));
    let targets: Vec<_> = service.http.requests_to("/studio").into_iter().map(|request| request.target).collect();
    let expected = [
        "/studio/folders?filter%5BsearchText%5D=Events&sort=createdAt&page%5Bsize%5D=100&page%5Bnumber%5D=1",
        "/studio/folders?filter%5BsearchText%5D=Events&sort=createdAt&page%5Bsize%5D=100&page%5Bnumber%5D=2",
        "/studio/audiences?filter%5BsearchText%5D=Booth+%26+S%C3%B6hne&sort=createdAt&page%5Bsize%5D=100&page%5Bnumber%5D=1",
        "/studio/audiences/a1",
        "/studio/audiences/a1/filter-metadata",
    ];
    assert_eq!(targets, expected);
}

#[tokio::test]
async fn two_audiences_of_one_name_are_both_told_and_neither_is_looked_into() {
    let service = Service::start().await;
    let twins = [audience("a1", "Booth & Söhne"), audience("a2", "Booth & Söhne")];
    service.then(200, &list(&[], 0)).then(200, &list(&twins, 2));
    let survey = service.sink.survey(&target(None), None).await.unwrap();
    assert_eq!(survey.audiences.len(), 2);
    assert!(survey.columns.is_empty() && survey.folders.is_empty());
    assert_eq!(service.http.left_over(), 0);
}

#[tokio::test]
async fn a_survey_by_id_asks_for_that_audience_and_nothing_else() {
    for (given, known) in [(Some("a1"), None), (None, Some("a1"))] {
        let service = Service::start().await;
        service.then(200, &audience_with_columns("a1")).then(200, &filter_metadata());
        let survey = service.sink.survey(&target(given), known).await.unwrap();
        assert_eq!(survey.audiences[0].id, "a1");
        assert_eq!(service.http.requests_to("/studio/audiences").len(), 2);
        assert!(service.http.requests_to("/studio/folders").is_empty());
    }
    let service = Service::start().await;
    service.http.then(HttpAnswer::new(404, "").into());
    let error = service.sink.survey(&target(Some("gone")), None).await.unwrap_err();
    assert!(
        matches!(error, SinkError::NotFound { .. }) && error.to_string().contains("/studio/audiences/gone"),
        "{error}"
    );
}

#[tokio::test]
async fn a_survey_that_lacks_something_is_an_error_and_not_an_absence() {
    let service = Service::start().await;
    service.then(200, &list(&[folder("f0", "events")], 3)).then(200, &list(&[], 3));
    let error = service.sink.survey(&target(None), None).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("more rows than it gave"), "{error}");
    service.then(200, &json!({"data": audience("a1", "Booth & Söhne")}));
    let error = service.sink.survey(&target(Some("a1")), None).await.unwrap_err();
    assert!(error.is_transient(), "an audience without a list of columns: {error}");
}

#[tokio::test]
async fn an_unreadable_survey_may_be_repeated() {
    for reply in [HttpAnswer::new(200, "<html>").into(), Reply::DropRead, HttpAnswer::new(503, "").into()] {
        let service = Service::start().await;
        service.http.then(reply);
        let error = service.sink.survey(&target(Some("a1")), None).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
}

fn column(name: &str, data_type: DataType, is_match: bool) -> NewColumn {
    NewColumn { name: name.to_owned(), data_type, is_match }
}

/// Each step with the request that makes it, by the request schemas of the OpenAPI document: `FolderCreate`,
/// `CustomAudienceAttributes`, `Column`, `UpdateColumn`, `UpsertMatchCriteriaAttributes`.
fn steps() -> Vec<(Provision, &'static str, &'static str, Value)> {
    let audience_id = || "a1".to_owned();
    vec![
        (
            Provision::Folder { name: "Events".to_owned() },
            "POST",
            "/studio/folders",
            json!({"data": {"type": "Folder", "attributes": {"name": "Events"}}}),
        ),
        (
            Provision::Audience {
                name: "Booth".to_owned(),
                kind: "CONTACT".to_owned(),
                folder_id: "f1".to_owned(),
                description: Some("Filled by Convoke".to_owned()),
                columns: vec![column("Email", DataType::Email, false), column("convoke_key", DataType::Text, false)],
            },
            "POST",
            "/studio/audiences",
            json!({"data": {"type": "Audience", "attributes": {"name": "Booth", "type": "CONTACT", "origin": "CUSTOM",
                "folderId": "f1", "description": "Filled by Convoke", "columns": [
                {"type": "Column", "attributes": {"name": "Email", "dataType": "EMAIL", "columnType": "CUSTOM"}},
                {"type": "Column", "attributes": {"name": "convoke_key", "dataType": "TEXT", "columnType": "CUSTOM"}}]}}}),
        ),
        (
            Provision::Columns {
                audience_id: audience_id(),
                columns: vec![column("Score", DataType::Decimal, false), column("ZI", DataType::ZiContactId, true)],
            },
            "POST",
            "/studio/audiences/a1/columns/actions/bulk/create",
            json!({"data": [
                {"type": "Column", "attributes": {"name": "Score", "dataType": "DECIMAL", "columnType": "CUSTOM"}},
                {"type": "Column", "attributes": {"name": "ZI", "dataType": "ZI_CONTACT_ID", "columnType": "ZOOMINFO_MATCH"}}]}),
        ),
        (
            Provision::HideColumn { audience_id: audience_id(), column_id: "c/2".to_owned() },
            "PATCH",
            "/studio/audiences/a1/columns/c%2F2",
            json!({"data": {"type": "Column", "attributes": {"isHidden": true}}}),
        ),
        (
            Provision::MatchCriteria {
                audience_id: audience_id(),
                criteria: vec![("c1".to_owned(), "CONTACT_EMAIL".to_owned())],
            },
            "POST",
            "/studio/audiences/a1/actions/match-criteria",
            json!({"data": {"type": "UpsertMatchCriteria", "attributes": {"matchCriteria":
                [{"columnId": "c1", "mappedTo": "CONTACT_EMAIL"}]}}}),
        ),
    ]
}

#[tokio::test]
async fn each_step_is_one_request_as_the_api_declares_it() {
    for (step, method, path, body) in steps() {
        let service = Service::start().await;
        service.then(201, &json!({"data": {}}));
        assert_eq!(service.sink.provision(&step).await.unwrap(), ProvisionAnswer::Applied { id: None });
        let sent = &service.http.requests_to("/studio")[0];
        assert_eq!((sent.method.as_str(), sent.target.as_str(), sent.json()), (method, path, body));
    }
}

#[tokio::test]
async fn folders_and_audiences_are_told_with_the_id_they_were_made_under() {
    for (step, _, _, _) in steps() {
        let service = Service::start().await;
        service.then(201, &json!({"data": {"id": "made", "type": "Thing", "attributes": {}}}));
        let has_id = matches!(step, Provision::Folder { .. } | Provision::Audience { .. });
        let id = has_id.then(|| "made".to_owned());
        assert_eq!(service.sink.provision(&step).await.unwrap(), ProvisionAnswer::Applied { id });
    }
}

#[tokio::test]
async fn the_outcome_of_a_step_is_told_by_certainty() {
    let step = Provision::Folder { name: "Events".to_owned() };
    let service = Service::start().await;
    service.http.then(HttpAnswer::new(429, "").header("Retry-After", "3").into());
    let answer = service.sink.provision(&step).await.unwrap();
    assert!(matches!(answer, ProvisionAnswer::NotApplied { retry_after: Some(wait), .. } if wait.as_secs() == 3));
    for reply in [Reply::DropRead, HttpAnswer::new(500, "").into()] {
        service.http.then(reply);
        assert!(matches!(service.sink.provision(&step).await.unwrap(), ProvisionAnswer::Unknown { .. }));
    }
    service.then(400, &json!({"errors": [{"code": "PFAPI0003", "title": "Name too long"}]}));
    let answer = service.sink.provision(&step).await.unwrap();
    let ProvisionAnswer::Refused { reason } = answer else { panic!("{answer:?}") };
    assert!(reason.contains("400: PFAPI0003 Name too long"), "{reason}");
    service.http.then(HttpAnswer::new(403, "").into());
    assert!(matches!(service.sink.provision(&step).await.unwrap_err(), SinkError::Forbidden { .. }));
}

#[tokio::test]
async fn a_match_column_is_not_made_together_with_its_audience() {
    let service = Service::start().await;
    let step = Provision::Audience {
        name: "Booth".to_owned(),
        kind: "CONTACT".to_owned(),
        folder_id: "f1".to_owned(),
        description: None,
        columns: vec![column("ZI", DataType::ZiContactId, true)],
    };
    assert!(service.sink.provision(&step).await.unwrap_err().to_string().contains("`ZI`"));
    assert!(service.http.requests().is_empty());
}

fn build(change: impl FnOnce(&mut convoke_sink_gtm::GtmSettings)) -> Result<GtmSink, Error> {
    let mut settings = settings("https://gtm.example");
    change(&mut settings);
    GtmSink::new(settings, std::sync::Arc::<CountingGate>::default(), std::sync::Arc::<HandClock>::default())
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_remedy_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let no_pem = folder.path().join("ca.pem");
    std::fs::write(&no_pem, "not a certificate").unwrap();
    let missing = folder.path().join("missing.pem");
    let cases = [
        ("`base_url`", build(|settings| settings.base_url = "gtm.example".to_owned())),
        ("`token_url`", build(|settings| settings.token_url = format!("https://me:{SECRET}@gtm.example"))),
        ("`user_agent`", build(|settings| settings.user_agent = String::new())),
        ("`ca_file`", build(|settings| settings.http.ca_file = Some(missing.clone()))),
        ("`ca_file`", build(|settings| settings.http.ca_file = Some(no_pem.clone()))),
        ("`proxy`", build(|settings| settings.http.proxy = Some(format!("http://me:{SECRET}@[oops")))),
    ];
    for (key, built) in cases {
        let Err(error) = built else { panic!("{key} must be refused") };
        assert!(error.to_string().contains(key), "{error}");
        assert!(!format!("{error:?}").contains(SECRET), "{key}");
    }
}
