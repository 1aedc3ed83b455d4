//! What is sent to stores other than S3, and what is made of their answers.

use bytes::Bytes;
use convoke_core::Origin;
use convoke_core::ids::ConnectionName;
use convoke_core::spec::{
    AzureConnection, AzureCredentials, GcsConnection, GcsCredentials, ObjectStoreConnection, S3Connection,
};
use convoke_objects::{Location, Store};
use convoke_testkit::scripted_http::{HttpAnswer, ScriptedHttp};

const WRITTEN: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

fn open(url: &str, connection: &ObjectStoreConnection) -> (Store, Location) {
    let location = Location::parse(url).unwrap();
    let store = Store::open(&location, Some(&ConnectionName::new("lake")), Some(connection)).unwrap();
    (store, location)
}

fn gcs(server: &ScriptedHttp) -> ObjectStoreConnection {
    ObjectStoreConnection::Gcs(GcsConnection {
        endpoint: Some(server.url()),
        credentials: GcsCredentials::Anonymous,
        http: None,
        allow_plain_http: false,
    })
}

fn azure(server: &ScriptedHttp, credentials: AzureCredentials) -> ObjectStoreConnection {
    ObjectStoreConnection::Azure(AzureConnection {
        account: "acme".to_owned(),
        endpoint: Some(server.url()),
        credentials,
        http: None,
        allow_plain_http: false,
    })
}

fn object(contents: &str) -> HttpAnswer {
    let range = format!("bytes 0-{}/{}", contents.len() - 1, contents.len());
    HttpAnswer::new(206, contents)
        .header("ETag", "\"0x1\"")
        .header("Last-Modified", WRITTEN)
        .header("x-goog-generation", "7")
        .header("Content-Range", &range)
}

fn gcs_page(key: &str, next: Option<&str>) -> HttpAnswer {
    let next = next.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>")).unwrap_or_default();
    HttpAnswer::new(
        200,
        format!(
            "<ListBucketResult>{next}<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>\
             <ETag>\"0x1\"</ETag><Size>5</Size></Contents></ListBucketResult>"
        ),
    )
}

#[tokio::test]
async fn google_cloud_storage_is_listed_in_pages_and_read_under_the_pin() {
    let server = ScriptedHttp::start().await;
    server.then(gcs_page("in/a.csv", Some("more")).into());
    server.then(gcs_page("in/b.csv", None).into());
    server.then(object("a,b,c").into());
    let (store, location) = open("gs://lake/in/*.csv", &gcs(&server));
    let listing = store.list(&location).await.unwrap();
    let names: Vec<&str> = listing.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["a.csv", "b.csv"]);
    assert_eq!(store.get(&listing.objects[0].pin, 0..5).await.unwrap(), "a,b,c");
    let requests = server.requests();
    assert!(requests[0].target.starts_with("/lake?") && requests[0].target.contains("prefix=in%2F"));
    assert!(requests[1].target.contains("continuation-token=more"), "{}", requests[1].target);
    assert_eq!((requests[2].path(), requests[2].header("if-match")), ("/lake/in%2Fa%2Ecsv", Some("\"0x1\"")));
    assert!(requests.iter().all(|request| request.header("authorization").is_none()), "nobody was to be named");
}

#[tokio::test]
async fn google_cloud_storage_is_written_to_on_the_condition_of_a_version() {
    let server = ScriptedHttp::start().await;
    // A key as it is given for what only speaks the protocol: nobody is asked for a token.
    let key = r#"{ "private_key": "x", "private_key_id": "x", "client_email": "x", "disable_oauth": true }"#;
    let connection = match gcs(&server) {
        ObjectStoreConnection::Gcs(gcs) => {
            ObjectStoreConnection::Gcs(GcsConnection { credentials: GcsCredentials::Key(key.into()), ..gcs })
        }
        other => other,
    };
    let (store, _) = open("gs://lake/in/*.csv", &connection);
    server.then(HttpAnswer::new(200, "").header("ETag", "\"0x1\"").header("x-goog-generation", "7").into());
    assert!(store.put_new("in/claim", Bytes::from("me")).await.unwrap());
    server.then(HttpAnswer::new(412, "<Error><Code>PreconditionFailed</Code></Error>").into());
    assert!(!store.put_new("in/claim", Bytes::from("me")).await.unwrap());
    let head = HttpAnswer::new(200, "me").header("ETag", "\"0x1\"").header("Last-Modified", WRITTEN);
    server.route("HEAD", "/lake/in%2Fclaim", move |_| head.clone().header("x-goog-generation", "7").into());
    let pin = store.look("in/claim").await.unwrap().unwrap().pin;
    server.then(HttpAnswer::new(200, "").header("ETag", "\"0x2\"").header("x-goog-generation", "8").into());
    assert!(store.put_if(&pin, Bytes::from("you")).await.unwrap());
    let conditions: Vec<Option<String>> = server
        .requests()
        .iter()
        .map(|request| request.header("x-goog-if-generation-match").map(str::to_owned))
        .collect();
    let conditions: Vec<&str> = conditions.iter().flatten().map(String::as_str).collect();
    assert_eq!(conditions, ["0", "0", "7"]);
}

#[tokio::test]
async fn a_key_that_cannot_be_addressed_is_named() {
    let server = ScriptedHttp::start().await;
    server.then(gcs_page("in//people.csv", None).into());
    let (store, location) = open("gs://lake/in/*.csv", &gcs(&server));
    let error = store.list(&location).await.unwrap_err().to_string();
    assert!(error.contains("the key `in//people.csv` has an empty part") && error.contains("rename"), "{error}");
}

fn azure_page(name: &str, next: &str) -> HttpAnswer {
    HttpAnswer::new(
        200,
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs><Blob><Name>{name}</Name><Properties>\
             <Last-Modified>{WRITTEN}</Last-Modified><Etag>0x1</Etag><Content-Length>5</Content-Length>\
             <Content-Type>text/csv</Content-Type></Properties></Blob></Blobs><NextMarker>{next}</NextMarker>\
             </EnumerationResults>"
        ),
    )
}

#[tokio::test]
async fn azure_is_asked_with_signed_requests_or_the_signature_that_was_given() {
    let key = || AzureCredentials::AccessKey("c2VjcmV0".into());
    let sas = || AzureCredentials::Sas("sv=2024-11-04&sp=rl&sig=hush%3D".into());
    for (credentials, is_signed) in [(key(), true), (sas(), false)] {
        let server = ScriptedHttp::start().await;
        server.then(azure_page("in/a.csv", "more").into());
        server.then(azure_page("in/b.csv", "").into());
        server.then(object("a,b,c").into());
        server.then(HttpAnswer::new(201, "").header("ETag", "\"0x2\"").into());
        let (store, location) = open("az://lake/in/*.csv", &azure(&server, credentials));
        let listing = store.list(&location).await.unwrap();
        assert_eq!(listing.objects.len(), 2);
        assert_eq!(store.get(&listing.objects[0].pin, 0..5).await.unwrap(), "a,b,c");
        assert!(store.put_new("in/claim", Bytes::from("me")).await.unwrap());
        let requests = server.requests();
        assert!(requests[0].target.starts_with("/lake?") && requests[1].target.contains("marker=more"));
        assert_eq!((requests[2].path(), requests[2].header("if-match")), ("/lake/in/a.csv", Some("\"0x1\"")));
        assert_eq!(requests[3].header("if-none-match"), Some("*"));
        for request in &requests {
            let authorization = request.header("authorization").unwrap_or_default();
            assert_eq!(authorization.starts_with("SharedKey acme:"), is_signed, "{authorization}");
            assert_eq!(request.target.contains("sig=hush"), !is_signed, "{}", request.target);
        }
    }
}

#[tokio::test]
async fn what_azure_refuses_is_told_in_its_words_and_without_the_signature() {
    let server = ScriptedHttp::start().await;
    let body = "<Error><Code>ContainerNotFound</Code><Message>sig=hush</Message></Error>";
    server.then(HttpAnswer::new(404, body).into());
    let credentials = AzureCredentials::Sas("sv=2024-11-04&sig=hush".into());
    let (store, location) = open("az://lake/in/*.csv", &azure(&server, credentials));
    let error = store.list(&location).await.unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(told.contains("there is no container `lake` at `http://127.0.0.1:"), "{told}");
    assert!(!told.contains("hush"), "{told}");
}

#[tokio::test]
async fn one_object_of_a_web_server_is_read_under_its_pin() {
    let server = ScriptedHttp::start().await;
    let head = || HttpAnswer::new(200, "").header("Last-Modified", WRITTEN).header("ETag", "\"0x1\"");
    server.route("HEAD", "/in/a.csv", move |_| head().header("Content-Length", "5").into());
    server.then(object("a,b,c").into());
    let location = Location::parse(&format!("{}/in/a.csv", server.url())).unwrap();
    let store = Store::open(&location, None, None).unwrap();
    let listing = store.list(&location).await.unwrap();
    assert_eq!(listing.objects[0].name, "a.csv");
    assert_eq!(store.get(&listing.objects[0].pin, 0..5).await.unwrap(), "a,b,c");
    let error = Store::open(&location, Some(&ConnectionName::new("lake")), None).unwrap_err().to_string();
    assert!(error.contains("takes no `connection`"), "{error}");
}

#[tokio::test]
async fn plain_http_from_another_machine_is_refused() {
    let location = Location::parse("http://data.example/a.csv").unwrap();
    let error = Store::open(&location, None, None).unwrap_err();
    assert!(error.to_string().contains("use `https://`"), "{error}");
    assert_eq!(error.origin, Origin::User);
}

#[tokio::test]
async fn a_connection_of_another_kind_is_refused() {
    let location = Location::parse("gs://lake/*.csv").unwrap();
    let connection = ObjectStoreConnection::S3(S3Connection::default());
    let error = Store::open(&location, Some(&ConnectionName::new("lake")), Some(&connection)).unwrap_err().to_string();
    assert!(error.contains("connection `lake` is of kind `s3`"), "{error}");
}
