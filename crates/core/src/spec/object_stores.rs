//! How object stores are reached. Not part of any hash; holds secrets.

use std::path::PathBuf;

use secrecy::SecretString;

use super::HttpSettings;

/// A connection to an object store.
#[derive(Clone, Debug)]
pub enum ObjectStoreConnection {
    S3(S3Connection),
    Gcs(GcsConnection),
    Azure(AzureConnection),
}

impl ObjectStoreConnection {
    /// The key in `connections.yaml`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::Gcs(_) => "gcs",
            Self::Azure(_) => "azure",
        }
    }
}

/// How an S3 object store is reached.
#[derive(Clone, Debug, Default)]
pub struct S3Connection {
    /// Base URL of a store that is not Amazon's; none: Amazon S3.
    pub endpoint: Option<String>,
    /// None: the environment's, else `us-east-1`.
    pub region: Option<String>,
    /// `https://host/bucket/key` instead of `https://bucket.host/key`.
    pub path_style: bool,
    /// None, without the two that follow: the environment's (`AWS_…` variables, web identity, the machine's role).
    pub credentials: Option<S3Credentials>,
    /// Keys of a profile, where there are no `credentials`.
    pub profile: Option<S3Profile>,
    /// A role, where there are neither.
    pub web_identity: Option<S3WebIdentity>,
    /// None: the defaults of [`HttpSettings`].
    pub http: Option<HttpSettings>,
    /// Consent to `http://` towards another machine.
    pub allow_plain_http: bool,
}

/// Keys of an S3 object store.
#[derive(Clone, Debug)]
pub struct S3Credentials {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    /// Comes with temporary keys.
    pub session_token: Option<SecretString>,
}

/// A profile of the AWS command line with keys in it.
#[derive(Clone, Debug)]
pub struct S3Profile {
    pub name: String,
    /// Where it is looked for, in this order: the file of credentials and the file of configuration.
    pub files: Vec<PathBuf>,
}

/// A role that is taken on with a token from a file.
#[derive(Clone, Debug)]
pub struct S3WebIdentity {
    pub role_arn: String,
    /// Written anew by whoever issues it.
    pub token_file: PathBuf,
}

/// How Google Cloud Storage is reached.
#[derive(Clone, Debug)]
pub struct GcsConnection {
    /// Base URL of something else that speaks its protocol; none: Google's.
    pub endpoint: Option<String>,
    pub credentials: GcsCredentials,
    /// None: the defaults of [`HttpSettings`].
    pub http: Option<HttpSettings>,
    /// Consent to `http://` towards another machine.
    pub allow_plain_http: bool,
}

/// As whom Google Cloud Storage is asked.
#[derive(Clone, Debug)]
pub enum GcsCredentials {
    /// `GOOGLE_…` variables, the application-default credentials, or the machine's service account.
    Environment,
    /// The key file of a service account.
    KeyFile(PathBuf),
    /// The contents of such a file.
    Key(SecretString),
    /// As nobody: buckets that are open to everyone.
    Anonymous,
}

/// How Azure Blob Storage is reached.
#[derive(Clone, Debug)]
pub struct AzureConnection {
    pub account: String,
    /// Base URL of the account; none: `https://ACCOUNT.blob.core.windows.net`.
    pub endpoint: Option<String>,
    pub credentials: AzureCredentials,
    /// None: the defaults of [`HttpSettings`].
    pub http: Option<HttpSettings>,
    /// Consent to `http://` towards another machine.
    pub allow_plain_http: bool,
}

/// As whom Azure Blob Storage is asked.
#[derive(Clone, Debug)]
pub enum AzureCredentials {
    /// `AZURE_…` variables, a workload identity, or the machine's managed identity.
    Environment,
    AccessKey(SecretString),
    /// A shared access signature, as the portal gives it.
    Sas(SecretString),
    ServicePrincipal {
        tenant_id: String,
        client_id: String,
        client_secret: SecretString,
    },
    /// As nobody: containers that are open to everyone.
    Anonymous,
}
