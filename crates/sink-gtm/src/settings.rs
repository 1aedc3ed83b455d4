//! What a [`GtmSink`](crate::GtmSink) must be told, and the check that it makes sense.

use std::fmt;
use std::time::Duration;

use convoke_core::spec::HttpSettings;
use secrecy::SecretString;
use url::{Host, Url};

/// Where the service is, who we are there, and what may be assumed of it.
///
/// `Debug` masks the secret and the proxy, which may hold a password.
#[derive(Clone)]
pub struct GtmSettings {
    /// For example `https://api.zoominfo.com/gtm/studio/v1`; a final `/` does not matter.
    pub base_url: String,
    /// For example `https://api.zoominfo.com/gtm/oauth/v1/token`.
    pub token_url: String,
    pub client_id: String,
    pub client_secret: SecretString,
    pub http: HttpSettings,
    /// Requests in flight at once; declared in the capabilities, kept by the caller.
    pub requests_in_flight: usize,
    /// A request commits within this time after it was sent, or never.
    pub max_commit_delay: Duration,
    /// A committed row is found by search within this time.
    pub settle: Duration,
    /// For example `convoke/0.1.0`. The gateway refuses the default agents of HTTP libraries.
    pub user_agent: String,
}

/// Why a sink could not be built from its settings.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong, and the remedy.
    pub message: String,
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The two addresses of a service, checked.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) base: Url,
    pub(crate) token: Url,
}

impl Endpoints {
    pub(crate) fn parse(settings: &GtmSettings) -> Result<Self, Error> {
        Ok(Self {
            base: parse_url("base_url", &settings.base_url)?,
            token: parse_url("token_url", &settings.token_url)?,
        })
    }

    /// Whether neither address needs TLS.
    pub(crate) fn are_plain(&self) -> bool {
        [&self.base, &self.token].iter().all(|url| url.scheme() == "http")
    }

    /// Whether both addresses are on this machine, where no proxy can help.
    pub(crate) fn are_local(&self) -> bool {
        [&self.base, &self.token].iter().all(|url| is_loopback(url))
    }
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None }
    }

    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Debug for GtmSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GtmSettings")
            .field("base_url", &self.base_url)
            .field("token_url", &self.token_url)
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret)
            .field("connect_timeout", &self.http.connect_timeout)
            .field("request_timeout", &self.http.request_timeout)
            .field("proxy", &self.http.proxy.as_ref().map(|_| "[masked]"))
            .field("ca_file", &self.http.ca_file)
            .field("requests_in_flight", &self.requests_in_flight)
            .field("max_commit_delay", &self.max_commit_delay)
            .field("settle", &self.settle)
            .field("user_agent", &self.user_agent)
            .finish()
    }
}

/// The address is not repeated in errors: a mistyped one may hold a password.
fn parse_url(key: &str, text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|cause| {
        Error::new(format!("`{key}` is not a URL; write it like `https://api.zoominfo.com/…`")).caused_by(cause)
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Error::new(format!("`{key}` must begin with `https://` or `http://` and name a host")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::new(format!(
            "`{key}` must not hold a user or password; use `client_id` and `client_secret`"
        )));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::new(format!("`{key}` must end with its path; remove what follows `?` or `#`")));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Host and, where it is not the scheme's own, port: what messages name.
pub(crate) fn authority(url: &Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::AfterPort]
}

#[cfg(test)]
mod tests {
    use super::parse_url;

    #[test]
    fn urls_that_cannot_work_are_refused_without_repeating_them() {
        for text in ["nonsense", "ftp://host/x", "https://user:hunter2@host/x", "https://host/x?key=hunter2"] {
            let error = parse_url("base_url", text).expect_err("must be refused");
            assert!(error.message.contains("`base_url`"), "{error}");
            assert!(!error.message.contains("hunter2") && !error.message.contains(text), "{error}");
        }
        assert!(parse_url("base_url", "https://api.zoominfo.com/gtm/studio/v1/").is_ok());
    }
}
