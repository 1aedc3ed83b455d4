//! What the clients of all object stores have in common: addresses, TLS, proxies, time-outs.

use std::path::Path;
use std::time::Duration;

use convoke_core::spec::HttpSettings;
use object_store::client::{HttpClient, HttpConnector};
use object_store::{Certificate, ClientOptions};
use url::{Host, Url};

use crate::ClientError;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may stand still. There is no limit for a whole answer: an object may be large, and the line slow.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A whole answer takes no longer than this where only the environment says how the store is reached, and says nothing of
/// it: the client knows no "without limit" there, and its own limit is too short for large objects.
pub(crate) const LONGEST_ANSWER: &str = "10 minutes";

/// Readies TLS for the process.
pub(crate) fn ready_tls() {
    // Fails only if the process has a provider already, which then serves.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Where a store is that is not its vendor's own.
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) is_plain: bool,
    pub(crate) is_local: bool,
}

impl Endpoint {
    /// Reads an address; one that would send records unencrypted to another machine needs consent.
    pub(crate) fn parse(endpoint: &str, allow_plain_http: bool) -> Result<Self, ClientError> {
        let url = parsed_endpoint(endpoint)?;
        let (is_plain, is_local) = (url.scheme() == "http", is_loopback(&url));
        if is_plain && !is_local && !allow_plain_http {
            return Err(ClientError::user(
                "`endpoint` is `http://` on another machine, which sends records unencrypted; use `https://`, or set \
                 `allow_plain_http: true`",
            ));
        }
        Ok(Self { url, is_plain, is_local })
    }

    /// The address without a final `/`.
    pub(crate) fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

fn parsed_endpoint(endpoint: &str) -> Result<Url, ClientError> {
    let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
    url.ok_or_else(|| ClientError::user("`endpoint` is no base URL; write it like `https://s3.example:9000`"))
}

pub(crate) fn is_loopback(endpoint: &Url) -> bool {
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

pub(crate) fn options(http: Option<&HttpSettings>, needs_authorities: bool) -> Result<ClientOptions, ClientError> {
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
pub(crate) struct LoopbackConnector {
    client: reqwest::Client,
}

impl LoopbackConnector {
    pub(crate) fn new(http: Option<&HttpSettings>) -> Result<Self, ClientError> {
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
    use super::*;

    #[test]
    fn an_endpoint_is_a_base_url_without_secrets() {
        for endpoint in ["s3.example", "ftp://s3.example", "https://key:hush@s3.example", "https://s3.example/?x=hush"]
        {
            let error = parsed_endpoint(endpoint).unwrap_err().to_string();
            assert!(error.contains("no base URL") && !error.contains("hush"), "{endpoint}: {error}");
        }
    }
}
