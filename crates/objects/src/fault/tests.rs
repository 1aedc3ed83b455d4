use convoke_core::spec::{AzureConnection, AzureCredentials, GcsConnection, GcsCredentials, S3Connection};

use super::*;

fn answer(status: &str, body: &str) -> object_store::Error {
    let text = format!("Error performing GET http://s3 in 1ms - Server returned non-2xx status code: {status}: {body}");
    object_store::Error::Generic { store: "S3", source: text.into() }
}

fn connection(scheme: Scheme) -> ObjectStoreConnection {
    match scheme {
        Scheme::Gs => ObjectStoreConnection::Gcs(GcsConnection {
            endpoint: None,
            credentials: GcsCredentials::Environment,
            http: None,
            allow_plain_http: false,
        }),
        Scheme::Az => ObjectStoreConnection::Azure(AzureConnection {
            account: "acme".to_owned(),
            endpoint: None,
            credentials: AzureCredentials::Environment,
            http: None,
            allow_plain_http: false,
        }),
        _ => ObjectStoreConnection::S3(S3Connection {
            endpoint: Some("https://s3.example".to_owned()),
            ..S3Connection::default()
        }),
    }
}

fn told_of(scheme: Scheme, attempt: &Attempt<'_>, error: object_store::Error) -> String {
    let name = ConnectionName::new("lake");
    let place = Place::remote(scheme, "b", Some(&name), Some(&connection(scheme)));
    let error = explained(&place, attempt, error);
    let cause = error.cause.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{error} / {cause}")
}

fn told(status: &str, body: &str) -> String {
    told_of(Scheme::S3, &Attempt::List { url: "s3://b/*" }, answer(status, body))
}

#[test]
fn each_refusal_is_told_with_its_remedy_and_without_what_was_sent() {
    let cases = [
        ("404 Not Found", "NoSuchBucket", "there is no bucket `b` at `https://s3.example`"),
        ("403 Forbidden", "InvalidAccessKeyId", "does not know the access key id; correct it in connection `lake`"),
        ("403 Forbidden", "SignatureDoesNotMatch", "correct the keys in connection `lake`"),
        ("400 Bad Request", "ExpiredToken", "have expired; renew them in connection `lake`"),
        ("403 Forbidden", "AccessDenied", "allow the keys of connection `lake` `s3:ListBucket` on `b`"),
        ("403 Forbidden", "RequestTimeTooSkewed", "set it right"),
        ("503 Slow Down", "SlowDown", "try again later"),
        ("418 I'm a teapot", "Whatever", "gave an answer that is not understood"),
    ];
    for (status, code, expected) in cases {
        let body = format!("<Error><Code>{code}</Code><AWSAccessKeyId>AKIDHUSH</AWSAccessKeyId></Error>");
        let told = told(status, &body);
        assert!(told.contains(expected) && told.contains(code), "{told}");
        assert!(!told.contains("AKIDHUSH"), "{told}");
    }
}

#[test]
fn refusals_of_google_cloud_storage_are_told_in_its_words() {
    let cases = [
        ("404 Not Found", "<Code>NoSuchBucket</Code>", "there is no bucket `b` at Google Cloud Storage"),
        ("403 Forbidden", "<Code>AccessDenied</Code>", "`storage.objects.list` on bucket `b`"),
        ("401 Unauthorized", "<Code>AuthenticationRequired</Code>", "set `service_account_file`"),
        ("400 Bad Request", "<Code>UserProjectMissing</Code>", "lets its readers pay"),
        (
            "400 Bad Request",
            r#"{"error":"invalid_grant","error_description":"Invalid grant: account hush not found"}"#,
            "no token is issued for the credentials of connection `lake`",
        ),
        ("429 Too Many Requests", "<Code>SlowDown</Code>", "try again later"),
    ];
    for (status, body, expected) in cases {
        let told = told_of(Scheme::Gs, &Attempt::List { url: "gs://b/*" }, answer(status, body));
        assert!(told.contains(expected) && !told.contains("hush"), "{told}");
    }
    let metadata =
        "Error performing GET http://metadata.google.internal/computeMetadata/v1 in 1s - error sending request";
    let error = object_store::Error::Generic { store: "GCS", source: metadata.into() };
    let told = told_of(Scheme::Gs, &Attempt::List { url: "gs://b/*" }, error);
    assert!(told.contains("there are no credentials") && told.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{told}");
}

#[test]
fn refusals_of_azure_are_told_in_its_words() {
    let expired = "<Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the specified time \
                   frame: Expiry [hush]</AuthenticationErrorDetail>";
    let cases = [
        ("404 Not Found", "<Code>ContainerNotFound</Code>", "there is no container `b` at `https://acme.blob"),
        (
            "403 Forbidden",
            "<Code>AuthenticationFailed</Code>",
            "correct `account` and the key or signature in connection",
        ),
        ("403 Forbidden", expired, "have expired; renew them in connection `lake`"),
        ("403 Forbidden", "<Code>AuthorizationPermissionMismatch</Code>", "the role `Storage Blob Data Reader`"),
        ("403 Forbidden", "<Code>KeyBasedAuthenticationNotPermitted</Code>", "another kind of credentials"),
        ("409 Conflict", "<Code>PublicAccessNotPermitted</Code>", "another kind of credentials"),
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret for app hush"}"#,
            "no token is issued",
        ),
        ("503 Busy", "<Code>ServerBusy</Code>", "try again later"),
    ];
    for (status, body, expected) in cases {
        let told = told_of(Scheme::Az, &Attempt::List { url: "az://b/*" }, answer(status, body));
        assert!(told.contains(expected) && !told.contains("hush"), "{told}");
    }
    let told = told_of(Scheme::Az, &Attempt::Delete { key: "a" }, answer("403 Forbidden", ""));
    assert!(told.contains("cannot remove `az://b/a`") && told.contains("with `d` among its `sp`"), "{told}");
}

#[test]
fn a_bucket_in_another_region_is_told_with_the_region() {
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
    assert!(told("400 Bad Request", body).contains("set `region: eu-west-1` in connection `lake`"));
    for status in ["301 Moved Permanently", "400 Bad Request"] {
        assert!(told(status, "").contains("may be in another region"), "{status}");
    }
}

#[test]
fn a_request_that_is_refused_with_a_code_of_its_own_is_not_told_as_one_to_another_region() {
    for code in ["KeyTooLongError", "EntityTooLarge"] {
        let told = told("400 Bad Request", &format!("<Error><Code>{code}</Code></Error>"));
        assert!(
            told.contains(&format!("that is not understood (code `{code}`)")) && !told.contains("region"),
            "{told}"
        );
    }
}

#[test]
fn a_status_without_a_body_is_told_as_far_as_it_goes() {
    assert!(
        told("403 Forbidden", "").ends_with(
            "access is denied; allow the keys of connection `lake` `s3:ListBucket` on `b` / HTTP status 403"
        )
    );
    assert!(told("502 Bad Gateway", "<html>").contains("overloaded or failing"));
}
