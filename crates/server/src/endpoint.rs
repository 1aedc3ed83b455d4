//! The port for probes and scrapers.
//!
//! Whoever connects cannot hold the endpoint up: a request's head must come within [`HEAD_TIMEOUT`], bodies are not read,
//! a connection lives for [`CONNECTION_LIFE`] and is closed after the answer that is due then, and no more than
//! [`CONNECTIONS`] are open at a time. These are times of the network, so they are kept by the runtime's clock.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::surface::Surface;

/// Also ends connections on which nothing is asked.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

const CONNECTION_LIFE: Duration = Duration::from_secs(120);

/// How long an answer that is under way may take when its connection is to end.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// A few probes and scrapers need a handful.
const CONNECTIONS: usize = 64;

/// After a connection could not be accepted, for want of file handles mostly.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A bound port.
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Binds the port; 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address is not this machine's, or somebody else has the port.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// What is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled, and then what is under way.
    pub async fn serve(self, surface: Arc<Surface>, shutdown: CancellationToken) {
        let router = surface.router();
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.accept(&free) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let (router, shutdown) = (router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        answer(stream, router, shutdown).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for health or metrics could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }

    async fn accept(&self, free: &Arc<Semaphore>) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let slot = Arc::clone(free).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        Ok((stream, slot))
    }
}

/// Answers one connection's requests.
async fn answer(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // A client that goes away or asks nonsense is no event.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = tokio::time::sleep(LAST_ANSWER) => {}
    }
}
