//! The client of a web server that hands out files to everyone.

use object_store::RetryConfig;
use object_store::http::{HttpBuilder, HttpStore};
use url::Url;

use crate::ClientError;
use crate::http::{LoopbackConnector, is_loopback, options, ready_tls};

/// Sets a client up for one server. Sends nothing.
///
/// # Errors
///
/// An address that no client can work with.
pub fn client(url: &str, retry: RetryConfig) -> Result<HttpStore, ClientError> {
    ready_tls();
    let failed =
        || ClientError::user("the address in `url` is none; write it like `https://data.example/people.parquet`");
    let address = Url::parse(url).map_err(|_| failed())?;
    let is_plain = address.scheme() == "http";
    if is_plain && !is_loopback(&address) {
        return Err(ClientError::user(
            "`url` is `http://` on another machine, and anybody between could change what is read; use `https://`",
        ));
    }
    let mut builder = HttpBuilder::new().with_url(url).with_retry(retry);
    builder = builder.with_client_options(options(None, !is_plain)?.with_allow_http(is_plain));
    if is_loopback(&address) {
        builder = builder.with_http_connector(LoopbackConnector::new(None)?);
    }
    builder.build().map_err(|cause| failed().caused_by(cause))
}
