//! The client of Azure Blob Storage.

use convoke_core::spec::{AzureConnection, AzureCredentials};
use object_store::RetryConfig;
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use secrecy::ExposeSecret;

use crate::ClientError;
use crate::http::{Endpoint, LONGEST_ANSWER, LoopbackConnector, options, ready_tls};

/// Sets a client up for one container. Sends nothing.
///
/// Without a connection, the environment tells which account it is and as whom it is asked: `AZURE_…` variables, a workload
/// identity, the machine's managed identity.
///
/// # Errors
///
/// A setting that no client can work with.
pub fn client(
    container: &str,
    connection: Option<&AzureConnection>,
    retry: RetryConfig,
) -> Result<MicrosoftAzure, ClientError> {
    ready_tls();
    let builder = match connection {
        Some(connection) => connected(connection)?,
        None => from_environment()?,
    };
    builder
        .with_container_name(container)
        .with_retry(retry)
        .build()
        .map_err(|cause| not_set_up(connection).caused_by(cause))
}

fn not_set_up(connection: Option<&AzureConnection>) -> ClientError {
    ClientError::user(match connection.map(|connection| &connection.credentials) {
        Some(AzureCredentials::AccessKey(_)) => "`access_key` is no key of a storage account; copy it whole",
        Some(AzureCredentials::Sas(_)) => {
            "`sas_token` is no shared access signature; copy it whole, from `sv=` to the end of `sig=…`"
        }
        _ => "the client of Azure Blob Storage could not be set up; check the connection and the `AZURE_…` variables",
    })
}

fn from_environment() -> Result<MicrosoftAzureBuilder, ClientError> {
    let builder = MicrosoftAzureBuilder::from_env();
    if builder.get_config_value(&AzureConfigKey::AccountName).is_none() {
        let message = "nothing says which storage account it is; set `AZURE_STORAGE_ACCOUNT_NAME`, or name a connection of \
                       kind `azure` with `account`";
        return Err(ClientError::user(message));
    }
    let key = object_store::ClientConfigKey::Timeout;
    let default = object_store::ClientOptions::new().get_config_value(&key);
    let is_default = builder.get_config_value(&AzureConfigKey::Client(key)) == default;
    Ok(if is_default { builder.with_config(AzureConfigKey::Client(key), LONGEST_ANSWER) } else { builder })
}

fn connected(connection: &AzureConnection) -> Result<MicrosoftAzureBuilder, ClientError> {
    let AzureConnection { http, allow_plain_http, credentials, account, .. } = connection;
    let endpoint = connection.endpoint.as_deref().map(|text| Endpoint::parse(text, *allow_plain_http)).transpose()?;
    let mut builder = match credentials {
        AzureCredentials::Environment => MicrosoftAzureBuilder::from_env(),
        AzureCredentials::AccessKey(key) => MicrosoftAzureBuilder::new().with_access_key(key.expose_secret()),
        AzureCredentials::Sas(token) => {
            let token = token.expose_secret().trim_start_matches('?');
            MicrosoftAzureBuilder::new().with_config(AzureConfigKey::SasKey, token)
        }
        AzureCredentials::ServicePrincipal { tenant_id, client_id, client_secret } => MicrosoftAzureBuilder::new()
            .with_client_secret_authorization(client_id, client_secret.expose_secret(), tenant_id),
        AzureCredentials::Anonymous => MicrosoftAzureBuilder::new().with_skip_signature(true),
    };
    builder = builder.with_account(account);
    let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_plain);
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint.address().to_owned()).with_allow_http(is_plain);
    }
    let asks_nobody_else =
        matches!(credentials, AzureCredentials::AccessKey(_) | AzureCredentials::Sas(_) | AzureCredentials::Anonymous);
    let options = options(http.as_ref(), !(is_plain && asks_nobody_else))?.with_allow_http(is_plain);
    builder = builder.with_client_options(options);
    if endpoint.is_some_and(|endpoint| endpoint.is_local) {
        builder = builder.with_http_connector(LoopbackConnector::new(http.as_ref())?);
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(credentials: AzureCredentials) -> AzureConnection {
        let account = "lakeaccount".to_owned();
        AzureConnection { account, endpoint: None, credentials, http: None, allow_plain_http: false }
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_it() {
        let no_key = AzureCredentials::AccessKey("hush!".into());
        let no_signature = AzureCredentials::Sas("hush".into());
        for (credentials, expected) in
            [(no_key, "`access_key` is no key"), (no_signature, "no shared access signature")]
        {
            let error = client("c", Some(&connection(credentials)), RetryConfig::default()).unwrap_err();
            let told = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
            assert!(told.contains(expected) && !told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn signatures_are_taken_with_and_without_the_question_mark() {
        for token in ["?sv=2024-01-01&sig=abc%3D", "sv=2024-01-01&sig=abc%3D"] {
            client("c", Some(&connection(AzureCredentials::Sas(token.into()))), RetryConfig::default()).unwrap();
        }
    }

    #[test]
    fn without_a_connection_the_account_has_to_be_known() {
        let error = client("c", None, RetryConfig::default()).unwrap_err().to_string();
        assert!(error.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{error}");
    }
}
