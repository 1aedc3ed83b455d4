//! The client of Google Cloud Storage.

use convoke_core::spec::{GcsConnection, GcsCredentials};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientConfigKey, ClientOptions, RetryConfig};
use secrecy::ExposeSecret;

use crate::ClientError;
use crate::http::{Endpoint, LONGEST_ANSWER, LoopbackConnector, options, ready_tls};

/// Sets a client up for one bucket. Sends nothing; reads the file of a service account, if one is named.
///
/// Without a connection, the environment tells as whom the store is asked: `GOOGLE_…` variables, the application-default
/// credentials, the machine's service account.
///
/// # Errors
///
/// A setting that no client can work with.
pub fn client(
    bucket: &str,
    connection: Option<&GcsConnection>,
    retry: RetryConfig,
) -> Result<GoogleCloudStorage, ClientError> {
    ready_tls();
    let builder = match connection {
        Some(connection) => connected(connection)?,
        None => from_environment(),
    };
    builder.with_bucket_name(bucket).with_retry(retry).build().map_err(|cause| not_set_up(connection).caused_by(cause))
}

fn not_set_up(connection: Option<&GcsConnection>) -> ClientError {
    ClientError::user(match connection.map(|connection| &connection.credentials) {
        Some(GcsCredentials::KeyFile(file)) => format!(
            "`service_account_file` {} cannot be used; it must be the JSON key file of a service account, and readable",
            file.display()
        ),
        Some(GcsCredentials::Key(_)) => "`service_account_key` is no key of a service account; give the whole contents of \
                                         its JSON file"
            .to_owned(),
        Some(GcsCredentials::Environment | GcsCredentials::Anonymous) | None => {
            "the client of Google Cloud Storage could not be set up; check the connection, the `GOOGLE_…` variables and \
             the application-default credentials"
                .to_owned()
        }
    })
}

fn from_environment() -> GoogleCloudStorageBuilder {
    let builder = GoogleCloudStorageBuilder::from_env();
    let key = ClientConfigKey::Timeout;
    let is_default =
        builder.get_config_value(&GoogleConfigKey::Client(key)) == ClientOptions::new().get_config_value(&key);
    if is_default { builder.with_config(GoogleConfigKey::Client(key), LONGEST_ANSWER) } else { builder }
}

fn connected(connection: &GcsConnection) -> Result<GoogleCloudStorageBuilder, ClientError> {
    let GcsConnection { http, allow_plain_http, credentials, .. } = connection;
    let endpoint = connection.endpoint.as_deref().map(|text| Endpoint::parse(text, *allow_plain_http)).transpose()?;
    let mut builder = match credentials {
        GcsCredentials::Environment => GoogleCloudStorageBuilder::from_env(),
        GcsCredentials::KeyFile(file) => {
            GoogleCloudStorageBuilder::new().with_service_account_path(file.to_string_lossy())
        }
        GcsCredentials::Key(key) => GoogleCloudStorageBuilder::new().with_service_account_key(key.expose_secret()),
        GcsCredentials::Anonymous => GoogleCloudStorageBuilder::new().with_skip_signature(true),
    };
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint.address());
    }
    let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_plain);
    let needs_authorities = !(is_plain && matches!(credentials, GcsCredentials::Anonymous));
    builder = builder.with_client_options(options(http.as_ref(), needs_authorities)?.with_allow_http(is_plain));
    if endpoint.is_some_and(|endpoint| endpoint.is_local) {
        builder = builder.with_http_connector(LoopbackConnector::new(http.as_ref())?);
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(credentials: GcsCredentials) -> GcsConnection {
        GcsConnection { endpoint: None, credentials, http: None, allow_plain_http: false }
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        std::fs::write(&file, "hush").unwrap();
        let missing = GcsCredentials::KeyFile(folder.path().join("missing.json"));
        for credentials in [GcsCredentials::KeyFile(file), missing, GcsCredentials::Key("hush".into())] {
            let error = client("b", Some(&connection(credentials)), RetryConfig::default()).unwrap_err();
            let told = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
            assert!(told.contains("service_account_") && !told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_needs_consent() {
        let mut connection = connection(GcsCredentials::Anonymous);
        connection.endpoint = Some("http://gcs.example".to_owned());
        let error = client("b", Some(&connection), RetryConfig::default()).unwrap_err().to_string();
        assert!(error.contains("allow_plain_http: true"), "{error}");
        connection.allow_plain_http = true;
        client("b", Some(&connection), RetryConfig::default()).unwrap();
    }
}
