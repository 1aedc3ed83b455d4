//! The HTTP client: HTTP/1 only, rustls with ring, one attempt per call, no redirects.

use std::path::Path;

use reqwest::{Certificate, Client, ClientBuilder, Proxy, redirect, retry};

use crate::settings::{Endpoints, Error, GtmSettings};

/// Idle connections are given up after this long: gateways commonly close theirs after a minute, and a request
/// that meets a closing connection ends in doubt.
const IDLE_CONNECTION_TTL: std::time::Duration = std::time::Duration::from_secs(20);

/// Builds the client. Sends nothing; reads the file of certificate authorities, if one is named.
pub(crate) fn build(settings: &GtmSettings, endpoints: &Endpoints) -> Result<Client, Error> {
    if settings.user_agent.trim().is_empty() {
        return Err(Error::new("`user_agent` is empty; the gateway refuses requests without one"));
    }
    // Fails only if the process has a provider already, which then serves.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = Client::builder()
        .user_agent(&settings.user_agent)
        .http1_only()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .tcp_nodelay(true)
        .connect_timeout(settings.http.connect_timeout)
        .timeout(settings.http.request_timeout)
        .pool_idle_timeout(IDLE_CONNECTION_TTL)
        .pool_max_idle_per_host(settings.requests_in_flight);
    let builder = with_authorities(builder, settings, endpoints)?;
    let builder = with_proxy(builder, settings, endpoints)?;
    builder.build().map_err(|cause| {
        Error::new("the HTTP client could not be set up; check the machine's certificate authorities and `user_agent`")
            .caused_by(cause.without_url())
    })
}

fn with_authorities(
    builder: ClientBuilder,
    settings: &GtmSettings,
    endpoints: &Endpoints,
) -> Result<ClientBuilder, Error> {
    if let Some(file) = &settings.http.ca_file {
        return Ok(builder.tls_certs_merge(read_authorities(file)?));
    }
    if endpoints.are_plain() {
        // Machines without any certificate authority must be able to reach a service that needs none.
        return Ok(builder.tls_certs_only([]));
    }
    Ok(builder)
}

fn read_authorities(file: &Path) -> Result<Vec<Certificate>, Error> {
    let name = file.display();
    let pem = std::fs::read(file).map_err(|cause| {
        Error::new(format!("`ca_file` {name} cannot be read; check path and rights")).caused_by(cause)
    })?;
    let certificates = Certificate::from_pem_bundle(&pem)
        .map_err(|cause| Error::new(format!("`ca_file` {name} is not a PEM file of certificates")).caused_by(cause))?;
    if certificates.is_empty() {
        return Err(Error::new(format!("`ca_file` {name} holds no certificate; it must be a PEM file")));
    }
    Ok(certificates)
}

fn with_proxy(builder: ClientBuilder, settings: &GtmSettings, endpoints: &Endpoints) -> Result<ClientBuilder, Error> {
    match &settings.http.proxy {
        // The cause is left out: it may repeat the address, which may hold a password.
        Some(address) => Proxy::all(address.as_str())
            .map(|proxy| builder.proxy(proxy))
            .map_err(|_| Error::new("`proxy` is not a URL; write it like `http://proxy.example:3128`")),
        None if endpoints.are_local() => Ok(builder.no_proxy()),
        None => Ok(builder),
    }
}
