//! Health and readiness over real HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use convoke_core::Clock;
use convoke_core::state::RunState;
use convoke_server::{Drained, Endpoint, serve};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::scripted_jobs::End;
use crate::world::{HOUR, World, sync};

pub(crate) struct Served {
    pub(crate) world: World,
    pub(crate) address: SocketAddr,
    pub(crate) drain: CancellationToken,
    pub(crate) serving: JoinHandle<Drained>,
    http: reqwest::Client,
}

impl Served {
    /// A daemon with one sync, due each hour, on a free port.
    pub(crate) async fn start(world: World) -> Self {
        // Another test of this process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let started = world.daemon("a", vec![sync("people", "0 * * * *")]);
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = endpoint.address();
        let serving = tokio::spawn(serve(started.daemon, endpoint));
        let http = reqwest::Client::builder().user_agent("server-tests/1").no_proxy().build().unwrap();
        Self { world, address, drain: started.drain, serving, http }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("http://{}{path}", self.address)).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.get(path).await;
        (answer.status(), answer.json().await.unwrap())
    }

    /// Asks until it is ready, or not ready for want of this part.
    pub(crate) async fn until(&self, not_ready: Option<&str>) -> Value {
        loop {
            let (status, body) = self.json("/readyz").await;
            let parts = body["not_ready"].as_array().into_iter().flatten();
            let parts: Vec<_> = parts.map(|part| part["part"].as_str().unwrap()).collect();
            assert_eq!(status == StatusCode::OK, parts.is_empty(), "{body}");
            if parts == not_ready.into_iter().collect::<Vec<_>>() {
                return body;
            }
        }
    }

    /// Waits until the script has this many runs.
    async fn until_made(&self, runs: usize) {
        while self.world.script.made().len() < runs {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_daemon_is_ready_once_its_store_has_answered() {
    let served = Served::start(World::new()).await;
    assert_eq!(served.until(None).await, json!({"ready": true}));
    assert_eq!(served.json("/healthz").await, (StatusCode::OK, json!({"alive": true})));
    served.drain.cancel();
    assert_eq!(served.serving.await.unwrap(), Drained { cut_off: Vec::new() });
    TcpStream::connect(served.address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_daemon_whose_store_is_down_is_alive_and_not_ready() {
    let served = Served::start(World::new()).await;
    served.until(None).await;
    served.world.store.set_down(true);
    served.world.clock.advance(Duration::from_secs(11));
    let body = served.until(Some("store")).await;
    let reason = "the checkpoint store fails; the log says how";
    assert_eq!(body, json!({"ready": false, "not_ready": [{"part": "store", "reason": reason}]}));
    assert_eq!(served.get("/healthz").await.status(), StatusCode::OK);
    served.world.store.set_down(false);
    served.world.clock.advance(Duration::from_secs(11));
    served.until(None).await;
}

#[tokio::test]
async fn a_daemon_whose_store_does_not_answer_is_not_ready() {
    let served = Served::start(World::new()).await;
    served.until(None).await;
    served.world.store.hang();
    let asked_at = served.world.clock.elapsed();
    while served.json("/readyz").await.0 == StatusCode::OK {
        served.world.clock.advance(Duration::from_secs(1));
    }
    let told_after = served.world.clock.elapsed() - asked_at;
    assert!(told_after <= Duration::from_secs(20), "told after {told_after:?}");
    served.until(Some("store")).await;
}

#[tokio::test]
async fn a_draining_daemon_is_alive_and_not_ready_until_its_runs_have_ended() {
    let world = World::new();
    world.script.plan("people", [(20, End::Deaf)]);
    let served = Served::start(world).await;
    served.until(None).await;
    served.world.clock.advance(HOUR);
    served.until_made(1).await;
    served.drain.cancel();
    served.until(Some("drain")).await;
    assert_eq!(served.get("/healthz").await.status(), StatusCode::OK);
    served.world.clock.advance(Duration::from_secs(20));
    assert_eq!(served.serving.await.unwrap(), Drained { cut_off: Vec::new() });
    assert_eq!(served.world.script.made()[0].how, RunState::Succeeded.as_str());
}

#[tokio::test]
async fn a_daemon_whose_loop_stands_still_is_not_alive() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new();
    let started = world.daemon("a", vec![sync("people", "0 * * * *")]);
    let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (address, shutdown) = (endpoint.address(), CancellationToken::new());
    let answering = tokio::spawn(endpoint.serve(started.daemon.surface(), shutdown.clone()));
    let http = reqwest::Client::builder().user_agent("server-tests/1").no_proxy().build().unwrap();
    let get = async |path: &str| http.get(format!("http://{address}{path}")).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), StatusCode::OK);
    // The daemon never runs.
    world.clock.advance(Duration::from_secs(75));
    let answer = get("/healthz").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"alive": false, "reason": "the scheduler has not moved for 75 s"}));
    let body: Value = get("/readyz").await.json().await.unwrap();
    let parts: Vec<_> = body["not_ready"].as_array().unwrap().iter().map(|part| part["part"].clone()).collect();
    assert_eq!(parts, ["loop", "store"]);
    shutdown.cancel();
    answering.await.unwrap();
}

#[tokio::test]
async fn other_paths_and_methods_are_told_so_in_json() {
    let served = Served::start(World::new()).await;
    let (status, body) = served.json("/admin").await;
    assert_eq!((status, body), (StatusCode::NOT_FOUND, json!({"error": "there is nothing at this path"})));
    let posted = served.http.post(format!("http://{}/readyz", served.address)).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    let body: Value = posted.json().await.unwrap();
    assert_eq!(body, json!({"error": "this path takes GET and HEAD only"}));
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_is_cut_off_and_holds_nobody_up() {
    let served = Served::start(World::new()).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    served.until(None).await;
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), slow.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection is still open");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_port_that_somebody_has_is_refused() {
    let first = Endpoint::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    assert!(Endpoint::bind(first.address()).await.is_err());
}
