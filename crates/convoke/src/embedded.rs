//! The embedded audience store: the default destination, served on a free loopback port for the life of a command.
//!
//! It is spoken to over HTTP like any other, so that a configuration rehearsed here works elsewhere by changing the
//! connection alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use convoke_core::Clock;
use convoke_core::spec::GtmEndpoint;
use convoke_store::Store;
use convoke_store_api::{ServeSettings, serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// The client as which a process speaks to its own store.
const CLIENT_ID: &str = "convoke-embedded";

/// A store that is being served.
pub(crate) struct EmbeddedStore {
    /// How the store is reached: like any other.
    pub(crate) endpoint: GtmEndpoint,
    shutdown: CancellationToken,
    server: JoinHandle<io::Result<()>>,
}

impl EmbeddedStore {
    pub(crate) async fn start(data: &Path, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::caused(&format!("the embedded store `{}` could not be started", data.display()), error)
        };
        let secret = stored_secret(data).map_err(|error| failed(&error))?;
        let store = Store::open(data, clock).await.map_err(|error| failed(&error))?;
        store.ensure_client(CLIENT_ID, &secret).await.map_err(|error| failed(&error))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).await.map_err(|error| failed(&error))?;
        let bound = listener.local_addr().map_err(|error| failed(&error))?;
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(store, listener, ServeSettings::default(), shutdown.clone()));
        Ok(Self {
            endpoint: GtmEndpoint::Remote {
                base_url: format!("http://{bound}/gtm/studio/v1"),
                token_url: format!("http://{bound}/gtm/oauth/v1/token"),
                client_id: CLIENT_ID.to_owned(),
                client_secret: secret.into(),
            },
            shutdown,
            server,
        })
    }

    /// Lets running requests finish, then stops.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        match self.server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the embedded store did not stop well"),
            Err(error) => tracing::warn!(error = %error, "the embedded store's task failed"),
        }
    }
}

/// Reads the client's secret, or makes it once. It lies beside the data it gives access to, readable by its owner only.
fn stored_secret(data: &Path) -> io::Result<String> {
    let path = data.with_extension("secret");
    if let Some(folder) = data.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::read_to_string(&path) {
        Ok(secret) if !secret.trim().is_empty() => return Ok(secret.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret = uuid::Uuid::new_v4().simple().to_string();
    // Written aside and linked into place, so that of two processes that start together both read the same secret.
    let staged = path.with_extension(format!("secret.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&staged, &path);
    fs::remove_file(&staged)?;
    match linked {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(fs::read_to_string(&path)?.trim().to_owned()),
        Err(error) => Err(error),
    }
}
