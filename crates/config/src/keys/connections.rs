//! Keys of `connections.yaml`: destinations, object stores and databases by name.

use super::postgres::POSTGRES;
use crate::shape::{Key, MapKey, Shape};

pub(crate) const CONNECTIONS: Shape = Shape::Map { key: MapKey::Connection, value: &CONNECTION };

const CONNECTION: Shape = Shape::OneOf(&[
    Key::optional(
        "gtm",
        Shape::Object(GTM),
        "ZoomInfo GTM Studio, or a `convoke store` that runs elsewhere and speaks the same API.",
    ),
    Key::optional(
        "embedded",
        Shape::Object(EMBEDDED),
        "The audience store inside this process: started on a free loopback port while a command runs.",
    ),
    Key::optional("s3", Shape::Object(S3), "Amazon S3, or an object store that speaks its protocol."),
    Key::optional("gcs", Shape::Object(GCS), "Google Cloud Storage."),
    Key::optional("azure", Shape::Object(AZURE), "Azure Blob Storage: one storage account."),
    Key::optional("postgres", Shape::Object(POSTGRES), "A PostgreSQL database to read from."),
    Key::planned("delivr", "Delivr audiences and lists."),
    Key::planned("simpplr", "Simpplr audiences by rule."),
    Key::planned("sonarly", "Sonarly prospect audiences."),
]);

const GTM: &[Key] = &[
    Key::required("base_url", Shape::Url, "Base of the API: `https://api.zoominfo.com/gtm/studio/v1` for GTM Studio."),
    Key::optional(
        "token_url",
        Shape::Url,
        "Where tokens are issued. Left out: `…/gtm/oauth/v1/token` beside a base that ends in `/gtm/studio/v1`.",
    ),
    Key::required("client_id", Shape::Text, "Client id of the OAuth2 client-credentials application."),
    Key::required("client_secret", Shape::Secret, "Its secret: `${env:NAME}` or `${file:path}`."),
    Key::optional("http", Shape::Object(HTTP), "How HTTP requests are made."),
    Key::optional("rate", RATE, RATE_TEXT),
    REQUESTS_IN_FLIGHT,
    MAX_COMMIT_DELAY,
    SETTLE,
    Key::optional(
        "allow_blind_creates",
        Shape::Boolean,
        "Consent to creating rows although the destination cannot search its key column: after a lost answer the audience waits for `convoke adopt`.",
    ),
    ALLOW_PLAIN_HTTP,
];

const ALLOW_PLAIN_HTTP: Key = Key::optional(
    "allow_plain_http",
    Shape::Boolean,
    "Consent to `http://` towards another machine: the secret and all records then travel unencrypted.",
);

const EMBEDDED: &[Key] = &[
    Key::required("data", Shape::Path, "The file in which the store keeps its audiences, an SQLite database."),
    Key::optional("rate", RATE, "Limits to rehearse with. The embedded store itself has none."),
    REQUESTS_IN_FLIGHT,
    MAX_COMMIT_DELAY,
    SETTLE,
];

const S3: &[Key] = &[
    Key::optional("endpoint", Shape::Url, "Base URL of a store that is not Amazon's. Left out: Amazon S3."),
    Key::optional("region", Shape::Text, "Its region. Left out: as the environment says, else `us-east-1`."),
    Key::optional(
        "path_style",
        Shape::Boolean,
        "Whether a bucket stands in the path of a URL and not in its host. Left out: true with an `endpoint`, else false.",
    ),
    Key::optional(
        "access_key_id",
        Shape::Text,
        "Id of the access key. Left out, as `profile` and `role_arn` are: as the environment says, in `AWS_…` variables, by a web identity, or by the role of the machine or container.",
    ),
    Key::optional("secret_access_key", Shape::Secret, "Its secret: `${env:NAME}` or `${file:path}`."),
    Key::optional("session_token", Shape::Secret, "The token that comes with temporary keys."),
    Key::optional(
        "profile",
        Shape::Text,
        "A profile of the AWS command line that holds keys, from `~/.aws/credentials` and `~/.aws/config`. One that takes on a role, signs on or runs a program is refused.",
    ),
    Key::optional(
        "role_arn",
        Shape::Text,
        "A role that is taken on with the token in `web_identity_token_file`; not one that is taken on with other keys.",
    ),
    Key::optional("web_identity_token_file", Shape::Path, "The file with the token, which its issuer keeps fresh."),
    Key::optional("http", Shape::Object(HTTP), "How HTTP requests are made."),
    ALLOW_PLAIN_HTTP,
];

const GCS: &[Key] = &[
    Key::optional("endpoint", Shape::Url, "Base URL of a store that is not Google's. Left out: Google Cloud Storage."),
    Key::optional(
        "service_account_file",
        Shape::Path,
        "Key file of a service account. Left out: as the environment says, in `GOOGLE_…` variables, the application-default credentials, or by the machine's service account.",
    ),
    Key::optional(
        "service_account_key",
        Shape::Secret,
        "The contents of such a file: `${env:NAME}` or `${file:path}`.",
    ),
    Key::optional(
        "anonymous",
        Shape::Boolean,
        "Whether the bucket is read as everyone may read it, without credentials.",
    ),
    Key::optional("http", Shape::Object(HTTP), "How HTTP requests are made."),
    ALLOW_PLAIN_HTTP,
];

const AZURE: &[Key] = &[
    Key::required("account", Shape::Text, "Name of the storage account."),
    Key::optional(
        "endpoint",
        Shape::Url,
        "Base URL of the account. Left out: `https://ACCOUNT.blob.core.windows.net`.",
    ),
    Key::optional(
        "access_key",
        Shape::Secret,
        "Key of the account. Left out, as `sas_token` and `client_secret` are: as the environment says, in `AZURE_…` variables, by a workload identity, or by the machine's managed identity.",
    ),
    Key::optional("sas_token", Shape::Secret, "A shared access signature: `sv=…&sig=…`."),
    Key::optional("tenant_id", Shape::Text, "The directory of a service principal."),
    Key::optional("client_id", Shape::Text, "The id of the service principal."),
    Key::optional("client_secret", Shape::Secret, "Its secret: `${env:NAME}` or `${file:path}`."),
    Key::optional(
        "anonymous",
        Shape::Boolean,
        "Whether the container is read as everyone may read it, without credentials.",
    ),
    Key::optional("http", Shape::Object(HTTP), "How HTTP requests are made."),
    ALLOW_PLAIN_HTTP,
];

const REQUESTS_IN_FLIGHT: Key =
    Key::optional("requests_in_flight", Shape::Count { min: 1, max: 64 }, "Requests that may be under way at once.");

const MAX_COMMIT_DELAY: Key = Key::optional(
    "max_commit_delay",
    Shape::Duration,
    "The longest time after which a request whose answer was lost may still take effect. Look-ups wait for it; too short a value risks rows created twice.",
);

const SETTLE: Key =
    Key::optional("settle", Shape::Duration, "The longest time after which a row that was written is found by search.");

const HTTP: &[Key] = &[
    Key::optional("connect_timeout", Shape::Timeout, "How long connecting may take."),
    Key::optional(
        "request_timeout",
        Shape::Timeout,
        "How long one request may take. A write that takes longer counts as in doubt.",
    ),
    Key::optional("proxy", Shape::Url, "Proxy for all requests. Left out: the proxy variables of the environment."),
    Key::optional("ca_file", Shape::Path, "PEM file with further certificate authorities to trust."),
];

const RATE_TEXT: &str = "Requests that this credential may make: the plan's preset, or limits of your own. The presets are what ZoomInfo's documentation of rate limits grants an account per second, hour and day: `builder` 5, 10,800 and 129,600; `standard` 25, 54,000 and 648,000; `scaling` 35, 75,600 and 907,200. `unlimited` waits for no limit, but still as long as the destination asks. All that use a connection share its limits, on whichever machine they run with one checkpoint store.";

/// Names of the rate presets; their limits stand beside the decoder.
const RATE_PRESETS: &[&str] = &["builder", "standard", "scaling", "unlimited"];

const RATE: Shape = Shape::ScalarOrObject { scalar: &Shape::Choice(RATE_PRESETS), object: RATE_LIMITS };

const REQUESTS: Shape = Shape::Count { min: 1, max: u32::MAX as u64 };

const RATE_LIMITS: &[Key] = &[
    Key::optional("per_second", REQUESTS, "Requests in any second. Left out: no limit."),
    Key::optional("per_hour", REQUESTS, "Requests in any hour. Left out: no limit."),
    Key::optional("per_day", REQUESTS, "Requests in any day. Left out: no limit."),
];
