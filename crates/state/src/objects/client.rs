//! From a URL to an object store.

use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::StateError;
use convoke_core::spec::{HttpSettings, S3Connection, S3Credentials};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use secrecy::ExposeSecret;
use url::{Host, Url};

use crate::fault::disk_fault;
use crate::file;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may stand still. There is no limit for a whole answer: a segment may be large, and the line slow.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts after the first; then the run ends with an error. A store that is down has half a minute to come back.
const RETRIES: usize = 6;
const BACKOFF: BackoffConfig =
    BackoffConfig { init_backoff: Duration::from_millis(500), max_backoff: Duration::from_secs(15), base: 3.0 };

/// How long after the first attempt a further one may begin. A large segment on a slow line that breaks off after minutes
/// goes on where it broke off; a request that is sent again is signed once, and the signature lives a little longer.
const RETRY_TIME: Duration = Duration::from_secs(10 * 60);

/// Where nothing says in which region a bucket is.
const DEFAULT_REGION: &str = "us-east-1";

/// Opens the store that a URL names, `s3://bucket/prefix` or `file:///folder`, and gives the prefix within it.
///
/// `connection` is about S3; without one, the environment tells how it is reached (`AWS_…` variables, web identity, the
/// machine's role). Nothing is sent yet. A folder is made for the owner alone if it is not there.
pub fn open_object_store(
    url: &str,
    connection: Option<&S3Connection>,
) -> Result<(Arc<dyn ObjectStore>, Path), StateError> {
    let problem = |problem: &str| unusable(url, problem);
    let parsed = Url::parse(url).map_err(|_| problem("is no URL; write `s3://bucket/prefix` or `file:///folder`"))?;
    match parsed.scheme() {
        "s3" => {
            let bucket = parsed.host_str().ok_or_else(|| problem("names no bucket; write `s3://bucket/prefix`"))?;
            let prefix = Path::from_url_path(parsed.path());
            let prefix =
                prefix.map_err(|_| problem("has a path that no object can have; write `s3://bucket/prefix`"))?;
            let store = open_s3(url, bucket, &connection.cloned().unwrap_or_default())?;
            Ok((store, prefix))
        }
        "file" => {
            let folder = parsed.to_file_path();
            let folder = folder.map_err(|()| problem("names no folder of this machine; write `file:///folder`"))?;
            Ok((open_folder(&folder)?, Path::default()))
        }
        _ => Err(problem("is of a kind that is not known; write `s3://bucket/prefix` or `file:///folder`")),
    }
}

fn open_folder(folder: &FilePath) -> Result<Arc<dyn ObjectStore>, StateError> {
    file::create_private_folder(folder)?;
    let opened = LocalFileSystem::new_with_prefix(folder);
    let store = opened.map_err(|error| {
        StateError::storage(format!("opening `{}` failed; check its owner and permissions", folder.display()), error)
    })?;
    Ok(Arc::new(store.with_fsync(true)))
}

fn open_s3(url: &str, bucket: &str, connection: &S3Connection) -> Result<Arc<dyn ObjectStore>, StateError> {
    // The HTTP client takes the process's TLS; that it is set already is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let environment = AmazonS3Builder::from_env();
    let region = connection.region.clone().or_else(|| environment.get_config_value(&AmazonS3ConfigKey::Region));
    let mut builder = match &connection.credentials {
        Some(credentials) => with_credentials(AmazonS3Builder::new(), credentials),
        None => environment,
    };
    builder = builder.with_bucket_name(bucket).with_region(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()));
    builder = builder.with_virtual_hosted_style_request(!connection.path_style);
    // Before what follows: whether plain HTTP is allowed is one of these options.
    builder = builder.with_client_options(client_options(connection)?);
    if let Some(endpoint) = &connection.endpoint {
        let is_plain = is_plain_http(url, endpoint, connection.allow_plain_http)?;
        builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
    }
    builder = builder.with_retry(RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_TIME });
    let built = builder.build();
    let store = built.map_err(|error| {
        StateError::storage(format!("`{url}` cannot be opened with the connection as it is configured"), error)
    })?;
    Ok(Arc::new(store))
}

fn with_credentials(builder: AmazonS3Builder, credentials: &S3Credentials) -> AmazonS3Builder {
    let builder = builder
        .with_access_key_id(&credentials.access_key_id)
        .with_secret_access_key(credentials.secret_access_key.expose_secret());
    match &credentials.session_token {
        Some(token) => builder.with_token(token.expose_secret()),
        None => builder,
    }
}

/// Whether the endpoint is spoken to without TLS; refused towards another machine unless that is consented to.
fn is_plain_http(url: &str, endpoint: &str, is_consented: bool) -> Result<bool, StateError> {
    let endpoint = Url::parse(endpoint).map_err(|_| unusable(url, "has a connection whose `endpoint` is no URL"))?;
    let is_here = match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match endpoint.scheme() {
        "https" => Ok(false),
        "http" if is_here || is_consented => Ok(true),
        _ => Err(unusable(url, "has a connection without TLS; use `https://`, or set `allow_plain_http: true` on it")),
    }
}

fn client_options(connection: &S3Connection) -> Result<ClientOptions, StateError> {
    let http = connection.http.as_ref();
    let (connect_timeout, read_timeout) =
        http.map_or((CONNECT_TIMEOUT, READ_TIMEOUT), |http| (http.connect_timeout, http.request_timeout));
    let mut options = ClientOptions::new()
        .with_connect_timeout(connect_timeout)
        .with_read_timeout(read_timeout)
        .with_timeout_disabled();
    let Some(HttpSettings { proxy, ca_file, .. }) = http else { return Ok(options) };
    if let Some(proxy) = proxy {
        options = options.with_proxy_url(proxy);
    }
    if let Some(path) = ca_file {
        for certificate in read_certificates(path)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn read_certificates(path: &FilePath) -> Result<Vec<Certificate>, StateError> {
    let pem = fs::read(path).map_err(|error| disk_fault("reading", path, error))?;
    Certificate::from_pem_bundle(&pem).map_err(|error| {
        StateError::storage(format!("`{}` holds no certificates in PEM form; check `ca_file`", path.display()), error)
    })
}

fn unusable(url: &str, problem_and_remedy: &str) -> StateError {
    // A password does not belong into such a URL, and is not repeated if it stands there all the same.
    let shown = url.split_once('@').map_or(url, |(_, after)| after);
    StateError::Unusable { message: format!("the object store `{shown}` {problem_and_remedy}") }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_no_store_is_refused_with_a_remedy() {
        for url in ["ledger", "gs://bucket/x", "s3://", "file://elsewhere/x", "s3://bucket/a//b"] {
            let Err(refused) = open_object_store(url, None) else { panic!("{url}") };
            assert!(refused.to_string().contains("write `"), "{refused}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_asks_for_consent() {
        let connection = |endpoint: &str, allow_plain_http| S3Connection {
            endpoint: Some(endpoint.to_owned()),
            allow_plain_http,
            ..S3Connection::default()
        };
        for (endpoint, consent, is_open) in [
            ("http://127.0.0.1:9000", false, true),
            ("http://localhost:9000", false, true),
            ("https://s3.example", false, true),
            ("http://s3.example", true, true),
            ("http://s3.example", false, false),
            ("s3.example", true, false),
        ] {
            let opened = open_object_store("s3://bucket/prefix", Some(&connection(endpoint, consent)));
            assert_eq!(opened.is_ok(), is_open, "{endpoint}");
        }
    }

    /// Longest that the answers of these tests stand still, and may.
    const STEP: Duration = Duration::from_millis(250);
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Answers one request with a body of so many bytes, one after each step.
    async fn answer_slowly(listener: TcpListener, bytes: u32) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Length: {bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..bytes {
            tokio::time::sleep(STEP).await;
            stream.write_all(b"x").await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_it_may_stand_still() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = HttpSettings { connect_timeout: PATIENCE, request_timeout: PATIENCE, proxy: None, ca_file: None };
        let credentials =
            S3Credentials { access_key_id: "AKID".to_owned(), secret_access_key: "secret".into(), session_token: None };
        let connection = S3Connection {
            endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
            path_style: true,
            credentials: Some(credentials),
            http: Some(http),
            ..S3Connection::default()
        };
        let (store, _) = open_object_store("s3://bucket", Some(&connection)).unwrap();
        let length = 10;
        assert!(STEP * length > PATIENCE);
        let answering = tokio::spawn(answer_slowly(listener, length));
        let read = store.get(&Path::from("segment")).await.unwrap().bytes().await.unwrap();
        assert_eq!(read.len(), length as usize);
        answering.await.unwrap();
    }

    #[test]
    fn a_bucket_is_told_from_its_prefix() {
        let (_, prefix) = open_object_store("s3://bucket/deep/prefix/", None).unwrap();
        assert_eq!(prefix, Path::from("deep/prefix"));
        let (_, prefix) = open_object_store("s3://bucket", None).unwrap();
        assert_eq!(prefix, Path::default());
    }
}
