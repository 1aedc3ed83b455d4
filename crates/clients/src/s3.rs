//! The client of an S3 store: credentials, addresses, TLS, time-outs, retries.

use std::path::Path;
use std::time::Duration;

use convoke_core::spec::{HttpSettings, S3Connection, S3Credentials};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{Certificate, ClientConfigKey, ClientOptions, RetryConfig};
use secrecy::ExposeSecret;
use url::{Host, Url};

use crate::ClientError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may stand still. There is no limit for a whole answer: an object may be large, and the line slow.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A whole answer takes no longer than this where only the environment says how the store is reached, and says nothing of
/// it: the client knows no "without limit" there, and its own limit is too short for large objects.
const LONGEST_ANSWER: &str = "10 minutes";

/// Sets a client up for one bucket. Sends nothing; reads the file of certificate authorities, if one is named.
///
/// Without a connection, the environment tells how the store is reached: `AWS_…` variables, web identity, the machine's
/// role.
///
/// # Errors
///
/// A setting that no client can work with.
pub fn client(bucket: &str, connection: Option<&S3Connection>, retry: RetryConfig) -> Result<AmazonS3, ClientError> {
    // Fails only if the process has a provider already, which then serves.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = match connection {
        Some(connection) => connected(bucket, connection)?,
        None => from_environment(),
    };
    builder.with_bucket_name(bucket).with_retry(retry).build().map_err(|cause| {
        ClientError::user("the S3 client could not be set up; check the connection and the `AWS_…` variables")
            .caused_by(cause)
    })
}

fn from_environment() -> AmazonS3Builder {
    let builder = AmazonS3Builder::from_env();
    let key = ClientConfigKey::Timeout;
    let is_default =
        builder.get_config_value(&AmazonS3ConfigKey::Client(key)) == ClientOptions::new().get_config_value(&key);
    if is_default { builder.with_config(AmazonS3ConfigKey::Client(key), LONGEST_ANSWER) } else { builder }
}

fn connected(bucket: &str, connection: &S3Connection) -> Result<AmazonS3Builder, ClientError> {
    let endpoint = connection.endpoint.as_deref().map(parsed_endpoint).transpose()?;
    let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http");
    let is_local = endpoint.as_ref().is_some_and(is_loopback);
    if is_plain && !is_local && !connection.allow_plain_http {
        return Err(ClientError::user(
            "`endpoint` is `http://` on another machine, which sends records unencrypted; use `https://`, or set \
             `allow_plain_http: true`",
        ));
    }
    let environment = AmazonS3Builder::from_env();
    let region = connection.region.clone().or_else(|| environment.get_config_value(&AmazonS3ConfigKey::Region));
    let mut builder = match &connection.credentials {
        // Not on top of the environment's: a token of one pair of keys does not go with another.
        Some(credentials) => with_credentials(AmazonS3Builder::new(), credentials),
        None => environment,
    };
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(address_of(endpoint, bucket, connection.path_style)?);
    }
    let needs_authorities = !(is_plain && connection.credentials.is_some());
    let options = options(connection.http.as_ref(), needs_authorities)?.with_allow_http(is_plain);
    builder = builder.with_virtual_hosted_style_request(!connection.path_style).with_client_options(options);
    if is_local {
        builder = builder.with_http_connector(LoopbackConnector::new(connection.http.as_ref())?);
    }
    Ok(builder)
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

fn parsed_endpoint(endpoint: &str) -> Result<Url, ClientError> {
    let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
    url.ok_or_else(|| ClientError::user("`endpoint` is no base URL; write it like `https://s3.example:9000`"))
}

/// The address without a final `/`; with the bucket in front of the host where it does not stand in the path.
fn address_of(endpoint: &Url, bucket: &str, path_style: bool) -> Result<String, ClientError> {
    let mut address = endpoint.clone();
    if !path_style {
        let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
        address.set_host(Some(&host)).map_err(|cause| {
            let message = format!("bucket `{bucket}` cannot stand in front of the host; set `path_style: true`");
            ClientError::user(message).caused_by(cause)
        })?;
    }
    Ok(address.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn timeouts(http: Option<&HttpSettings>) -> (Duration, Duration) {
    http.map_or((CONNECT_TIMEOUT, READ_TIMEOUT), |http| (http.connect_timeout, http.request_timeout))
}

fn options(http: Option<&HttpSettings>, needs_authorities: bool) -> Result<ClientOptions, ClientError> {
    let (connect_timeout, read_timeout) = timeouts(http);
    let mut options = ClientOptions::new()
        .with_connect_timeout(connect_timeout)
        .with_read_timeout(read_timeout)
        .with_timeout_disabled()
        // Machines without any certificate authority must be able to reach a store that needs none.
        .with_no_system_certificates(!needs_authorities);
    let Some(http) = http else { return Ok(options) };
    if let Some(proxy) = &http.proxy {
        // Whether it is a URL is checked here, where it is not shown: it may hold a password.
        Url::parse(proxy)
            .map_err(|_| ClientError::user("`proxy` is not a URL; write it like `http://proxy.example:3128`"))?;
        options = options.with_proxy_url(proxy);
    }
    if let Some(file) = &http.ca_file {
        let authorities = Certificate::from_pem_bundle(&read_authorities(file)?);
        let authorities = authorities.map_err(|cause| no_certificates(file).caused_by(cause))?;
        if authorities.is_empty() {
            return Err(no_certificates(file));
        }
        options = authorities.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    Ok(options)
}

fn read_authorities(file: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(file).map_err(|cause| {
        let message = format!("`ca_file` {} cannot be read; check path and rights", file.display());
        ClientError::user(message).caused_by(cause)
    })
}

fn no_certificates(file: &Path) -> ClientError {
    ClientError::user(format!("`ca_file` {} holds no certificate; it must be a PEM file", file.display()))
}

/// Connects to a store on this machine, which no proxy of the environment can help with.
#[derive(Debug)]
struct LoopbackConnector {
    client: reqwest::Client,
}

impl LoopbackConnector {
    fn new(http: Option<&HttpSettings>) -> Result<Self, ClientError> {
        let (connect_timeout, read_timeout) = timeouts(http);
        let mut authorities = Vec::new();
        if let Some(file) = http.and_then(|http| http.ca_file.as_deref()) {
            let read = reqwest::Certificate::from_pem_bundle(&read_authorities(file)?);
            authorities = read.map_err(|cause| no_certificates(file).caused_by(cause))?;
        }
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .connect_timeout(connect_timeout)
            .read_timeout(read_timeout)
            .tls_certs_only(authorities)
            .build();
        let client = client.map_err(|cause| {
            ClientError::internal("the HTTP client could not be set up").caused_by(cause.without_url())
        })?;
        Ok(Self { client })
    }
}

impl HttpConnector for LoopbackConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.client.clone()))
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_bucket_stands_in_the_path_or_in_front_of_the_host() {
        let endpoint = parsed_endpoint("https://s3.example:9000/").unwrap();
        assert_eq!(address_of(&endpoint, "b", true).unwrap(), "https://s3.example:9000");
        assert_eq!(address_of(&endpoint, "b", false).unwrap(), "https://b.s3.example:9000");
    }

    #[test]
    fn an_endpoint_is_a_base_url_without_secrets() {
        for endpoint in ["s3.example", "ftp://s3.example", "https://key:hush@s3.example", "https://s3.example/?x=hush"]
        {
            let error = parsed_endpoint(endpoint).unwrap_err().to_string();
            assert!(error.contains("no base URL") && !error.contains("hush"), "{endpoint}: {error}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_needs_consent() {
        let mut connection = S3Connection { endpoint: Some("http://s3.example".to_owned()), ..S3Connection::default() };
        let error = client("b", Some(&connection), RetryConfig::default()).unwrap_err().to_string();
        assert!(error.contains("allow_plain_http: true"), "{error}");
        connection.allow_plain_http = true;
        client("b", Some(&connection), RetryConfig::default()).unwrap();
        connection.endpoint = Some("http://127.0.0.1:9000".to_owned());
        connection.allow_plain_http = false;
        connection.path_style = true;
        client("b", Some(&connection), RetryConfig::default()).unwrap();
    }

    #[test]
    fn the_environment_alone_is_enough_to_set_a_client_up() {
        client("b", None, RetryConfig::default()).unwrap();
        let builder = from_environment();
        let timeout = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::Timeout));
        assert_ne!(timeout, ClientOptions::new().get_config_value(&ClientConfigKey::Timeout));
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "nothing").unwrap();
        let http = HttpSettings {
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: READ_TIMEOUT,
            proxy: None,
            ca_file: Some(file),
        };
        let connection = S3Connection { http: Some(http), ..S3Connection::default() };
        let error = client("b", Some(&connection), RetryConfig::default()).unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
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
        let store = client("bucket", Some(&connection), RetryConfig::default()).unwrap();
        let length = 10;
        assert!(STEP * length > PATIENCE);
        let answering = tokio::spawn(answer_slowly(listener, length));
        let read = store.get(&object_store::path::Path::from("segment")).await.unwrap().bytes().await.unwrap();
        assert_eq!(read.len(), length as usize);
        answering.await.unwrap();
    }
}
