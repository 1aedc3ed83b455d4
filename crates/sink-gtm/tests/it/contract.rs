//! The contract suite against the audience store, over real HTTP.

use std::sync::Arc;

use convoke_core::Clock;
use convoke_core::gate::OpenGate;
use convoke_core::sink::Destination;
use convoke_sink_gtm::{GtmSettings, GtmSink};
use convoke_store::Store;
use convoke_store_api::{ServeSettings, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fixture::{HandClock, SECRET, settings};

/// A store with one empty account, and a sink that speaks to it.
async fn empty_account() -> (Arc<dyn Destination>, (TempDir, DropGuard)) {
    let clock: Arc<dyn Clock> = Arc::new(HandClock::default());
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store.db"), Arc::clone(&clock)).await.expect("a store");
    store.ensure_client("client one", SECRET).await.expect("a client");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let host = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(store, listener, ServeSettings::default(), shutdown.clone()));
    let settings = GtmSettings {
        base_url: format!("{host}/gtm/studio/v1"),
        token_url: format!("{host}/gtm/oauth/v1/token"),
        ..settings(&host)
    };
    let sink = GtmSink::new(settings, Arc::new(OpenGate), clock).expect("settings that work");
    (Arc::new(sink), (folder, shutdown.drop_guard()))
}

#[tokio::test]
async fn the_sink_with_the_audience_store_keeps_the_contract_of_a_destination() {
    convoke_testkit::contract::sink::run(empty_account).await;
}
