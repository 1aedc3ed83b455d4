//! The client of an S3 store: credentials, addresses, TLS, time-outs, retries.

use convoke_core::spec::{S3Connection, S3Credentials, S3WebIdentity};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::{ClientConfigKey, ClientOptions, RetryConfig};
use secrecy::ExposeSecret;
use url::Url;

use crate::ClientError;
use crate::http::{Endpoint, LONGEST_ANSWER, LoopbackConnector, options, ready_tls};
use crate::profile;

/// Sets a client up for one bucket. Sends nothing; reads the file of certificate authorities, if one is named.
///
/// Without a connection, the environment tells how the store is reached: `AWS_…` variables, web identity, the machine's
/// role.
///
/// # Errors
///
/// A setting that no client can work with.
pub fn client(bucket: &str, connection: Option<&S3Connection>, retry: RetryConfig) -> Result<AmazonS3, ClientError> {
    ready_tls();
    let builder = match connection {
        Some(connection) => connected(bucket, connection)?,
        None => from_environment(),
    };
    // The one way in which S3 itself copies an object only if there is none of that name.
    let builder = builder.with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
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
    let S3Connection { http, path_style, allow_plain_http, .. } = connection;
    let endpoint = connection.endpoint.as_deref().map(|text| Endpoint::parse(text, *allow_plain_http)).transpose()?;
    let identity = Identity::of(connection)?;
    let environment = AmazonS3Builder::from_env();
    let environment_region = || environment.get_config_value(&AmazonS3ConfigKey::Region);
    let region = connection.region.clone().or(identity.region).or_else(environment_region);
    let mut builder = identity.builder.unwrap_or(environment);
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(address_of(&endpoint.url, bucket, *path_style)?);
    }
    let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_plain);
    let needs_authorities = !(is_plain && identity.is_static);
    let options = options(http.as_ref(), needs_authorities)?.with_allow_http(is_plain);
    builder = builder.with_virtual_hosted_style_request(!path_style).with_client_options(options);
    if endpoint.is_some_and(|endpoint| endpoint.is_local) {
        builder = builder.with_http_connector(LoopbackConnector::new(http.as_ref())?);
    }
    Ok(builder)
}

/// As whom the store is asked.
struct Identity {
    /// None: as the environment says. Never on top of it: a token of one pair of keys does not go with another.
    builder: Option<AmazonS3Builder>,
    /// Whether nobody else is asked for keys.
    is_static: bool,
    /// The region that stands beside the keys.
    region: Option<String>,
}

impl Identity {
    fn of(connection: &S3Connection) -> Result<Self, ClientError> {
        let by_keys = |credentials: &S3Credentials, region| Self {
            builder: Some(with_credentials(AmazonS3Builder::new(), credentials)),
            is_static: true,
            region,
        };
        let S3Connection { credentials, profile, web_identity, .. } = connection;
        Ok(match (credentials, profile, web_identity) {
            (Some(credentials), _, _) => by_keys(credentials, None),
            (None, Some(profile), _) => {
                let found = profile::read(profile)?;
                by_keys(&found.credentials, found.region)
            }
            (None, None, Some(role)) => {
                Self { builder: Some(with_role(AmazonS3Builder::new(), role)?), is_static: false, region: None }
            }
            (None, None, None) => Self { builder: None, is_static: false, region: None },
        })
    }
}

fn with_role(builder: AmazonS3Builder, role: &S3WebIdentity) -> Result<AmazonS3Builder, ClientError> {
    let file = &role.token_file;
    let Some(file) = file.to_str() else {
        let message = format!("`web_identity_token_file` {} is no Unicode text; rename the file", file.display());
        return Err(ClientError::user(message));
    };
    let keys = [(AmazonS3ConfigKey::RoleArn, role.role_arn.as_str()), (AmazonS3ConfigKey::WebIdentityTokenFile, file)];
    Ok(keys.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use convoke_core::spec::HttpSettings;
    use object_store::ObjectStoreExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::{CONNECT_TIMEOUT, READ_TIMEOUT};

    #[test]
    fn the_bucket_stands_in_the_path_or_in_front_of_the_host() {
        let endpoint = Endpoint::parse("https://s3.example:9000/", false).unwrap().url;
        assert_eq!(address_of(&endpoint, "b", true).unwrap(), "https://s3.example:9000");
        assert_eq!(address_of(&endpoint, "b", false).unwrap(), "https://b.s3.example:9000");
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
