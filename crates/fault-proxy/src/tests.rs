//! Each fault, seen from the client and from the upstream.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::message::{Message, read_answer, read_request};
use super::{Fault, FaultProxy, FaultScript, Rule, Seeded};

mod kinds;

const UPSERT: &str = "/audiences/a1/rows/actions/bulk/upsert";
/// Long enough that a busy machine does not reorder what a test looks at, short enough to wait for.
const HELD_FOR: Duration = Duration::from_secs(1);

/// An upstream that answers every request with its rows and remembers the bodies it got.
struct Upstream {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Upstream {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let request = read_request(&mut stream).await.unwrap().unwrap();
                seen.lock().unwrap().push(String::from_utf8(request.body.unwrap_or_default()).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, bodies, serving }
    }

    async fn with_rows(count: u32) -> Self {
        let rows: Vec<_> = (0..count).map(|id| json!({ "type": "Row", "id": format!("row-{id}") })).collect();
        let body = json!({ "data": rows }).to_string();
        Self::start(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await
    }

    fn seen(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(proxy: &FaultProxy) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(proxy.address()).await.unwrap()) }
    }

    async fn post(&mut self, body: &str) -> std::io::Result<Message> {
        let head = format!("POST {UPSERT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        self.raw(&format!("{head}{body}")).await
    }

    async fn raw(&mut self, request: &str) -> std::io::Result<Message> {
        self.stream.write_all(request.as_bytes()).await?;
        read_answer(&mut self.stream, "POST").await
    }
}

fn on_upsert(fault: Fault) -> FaultScript {
    FaultScript::rules(vec![Rule::on("POST", "bulk/upsert", fault).once()])
}

async fn proxy_with(upstream: &Upstream, script: FaultScript) -> FaultProxy {
    FaultProxy::start(upstream.address, script).await.unwrap()
}

fn row_ids(answer: &Message) -> Vec<String> {
    let document: Value = serde_json::from_slice(answer.body.as_deref().unwrap()).unwrap();
    let rows = document["data"].as_array().unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn requests_pass_unchanged_over_one_kept_connection_when_no_fault_is_chosen() {
    let upstream = Upstream::with_rows(2).await;
    let proxy = proxy_with(&upstream, FaultScript::none()).await;
    let mut client = Client::connect(&proxy).await;

    let first = client.post("one").await.unwrap();
    let second = client.post("two").await.unwrap();

    assert_eq!(first.status().unwrap(), 200);
    assert_eq!(row_ids(&second), ["row-0", "row-1"]);
    assert_eq!(upstream.seen(), ["one", "two"]);
    let stats = proxy.stop().await;
    assert_eq!((stats.received, stats.committed, stats.total()), (2, 2, 0));
}

#[tokio::test]
async fn chunked_requests_and_answers_are_understood() {
    let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
        4\r\n{\"da\r\n7;note=x\r\nta\":[]}\r\n0\r\nx-trailer: y\r\n\r\n";
    let upstream = Upstream::start(chunked.to_owned()).await;
    let proxy = proxy_with(&upstream, FaultScript::none()).await;
    let mut client = Client::connect(&proxy).await;
    let request =
        format!("POST {UPSERT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");

    let answer = client.raw(&request).await.unwrap();

    assert_eq!(answer.body.as_deref(), Some(b"{\"data\":[]}".as_slice()));
    assert_eq!(upstream.seen(), ["abcde"]);
}

#[tokio::test]
async fn an_answer_framed_by_the_end_of_the_connection_is_passed_on_in_whole() {
    // An upstream that sends no length closes the connection after each answer, as this one does anyway.
    let upstream = Upstream::start("HTTP/1.1 200 OK\r\n\r\nall of it".to_owned()).await;
    let proxy = proxy_with(&upstream, FaultScript::none()).await;

    let answer = Client::connect(&proxy).await.post("x").await.unwrap();

    assert_eq!(answer.body.as_deref(), Some(b"all of it".as_slice()));
}

#[tokio::test]
async fn a_dropped_request_never_reaches_the_upstream() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::DropRequest)).await;

    let error = Client::connect(&proxy).await.post("lost").await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(upstream.seen().is_empty());
    assert_eq!(proxy.stats().count("drop_request"), 1);
}

#[tokio::test]
async fn a_dropped_answer_leaves_the_request_committed() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::DropAnswer)).await;

    let error = Client::connect(&proxy).await.post("kept").await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(upstream.seen(), ["kept"]);
    assert_eq!(proxy.stats().committed, 1);
}

#[tokio::test]
async fn a_failure_after_the_commit_shows_only_its_status() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::FailAfterCommit { status: 500 })).await;

    let answer = Client::connect(&proxy).await.post("kept").await.unwrap();

    assert_eq!(answer.status().unwrap(), 500);
    assert_eq!(upstream.seen(), ["kept"]);
}

#[tokio::test]
async fn a_delayed_answer_comes_whole_and_no_sooner() {
    let delay = Duration::from_millis(50);
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::DelayAnswer { by: delay })).await;
    let asked_at = Instant::now();

    let answer = Client::connect(&proxy).await.post("x").await.unwrap();

    assert!(asked_at.elapsed() >= delay);
    assert_eq!(row_ids(&answer), ["row-0"]);
}

#[tokio::test]
async fn a_late_commit_reaches_the_upstream_after_the_client_has_gone() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::CommitLate { after: HELD_FOR })).await;

    let error = Client::connect(&proxy).await.post("late").await.unwrap_err();
    Client::connect(&proxy).await.post("punctual").await.unwrap();
    proxy.late_commits_done().await;

    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(upstream.seen(), ["punctual", "late"]);
}

#[tokio::test]
async fn a_truncated_answer_breaks_off_within_its_body() {
    let upstream = Upstream::with_rows(4).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::TruncateAnswer)).await;

    let error = Client::connect(&proxy).await.post("kept").await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(upstream.seen(), ["kept"]);
}

#[tokio::test]
async fn rows_are_left_out_of_an_answer_that_stays_a_success() {
    let upstream = Upstream::with_rows(5).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::LeaveOutRows { every: 2 })).await;

    let answer = Client::connect(&proxy).await.post("x").await.unwrap();

    assert_eq!(answer.status().unwrap(), 200);
    assert_eq!(row_ids(&answer), ["row-0", "row-2", "row-4"]);
}

#[tokio::test]
async fn shuffled_rows_are_all_there_in_another_order() {
    let upstream = Upstream::with_rows(20).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::ShuffleRows)).await;
    let mut client = Client::connect(&proxy).await;

    let shuffled = row_ids(&client.post("x").await.unwrap());
    let plain = row_ids(&client.post("x").await.unwrap());

    assert_ne!(shuffled, plain);
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(shuffled), sorted(plain));
}

#[tokio::test]
async fn a_fault_on_rows_is_not_counted_as_injected_when_the_answer_has_none() {
    let upstream = Upstream::start("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    let proxy = proxy_with(&upstream, on_upsert(Fault::ShuffleRows)).await;

    let answer = Client::connect(&proxy).await.post("x").await.unwrap();

    assert_eq!(answer.status().unwrap(), 204);
    assert_eq!((proxy.stats().total(), proxy.stats().not_applicable), (0, 1));
}

#[tokio::test]
async fn refusals_are_answered_without_the_upstream_and_keep_the_connection() {
    let upstream = Upstream::with_rows(1).await;
    let retry_after = Duration::from_secs(7);
    let script = FaultScript::rules(vec![
        Rule::on("POST", "bulk/upsert", Fault::TooManyRequests { retry_after }).once(),
        Rule::on("POST", "bulk/upsert", Fault::Unauthorized).once(),
        Rule::on("POST", "bulk/upsert", Fault::RefuseRows { status: 422 }).once(),
    ]);
    let proxy = proxy_with(&upstream, script).await;
    let mut client = Client::connect(&proxy).await;

    let limited = client.post("a").await.unwrap();
    let unauthorized = client.post("b").await.unwrap();
    let refused = client.post("refused").await.unwrap();
    let accepted = client.post("c").await.unwrap();

    assert_eq!((limited.status().unwrap(), limited.header("retry-after")), (429, Some("7")));
    assert_eq!(unauthorized.status().unwrap(), 401);
    assert_eq!(refused.status().unwrap(), 422);
    assert_eq!(accepted.status().unwrap(), 200);
    assert_eq!(upstream.seen(), ["c"]);
}

#[tokio::test]
async fn connections_are_refused_until_they_are_accepted_again() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, FaultScript::none()).await;
    let mut idle = Client::connect(&proxy).await;
    idle.post("before").await.unwrap();

    proxy.refuse_connections().await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    let closed = idle.post("during").await.unwrap_err();
    proxy.accept_connections().await;
    Client::connect(&proxy).await.post("after").await.unwrap();

    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(closed.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    assert_eq!(upstream.seen(), ["before", "after"]);
}

#[tokio::test]
async fn a_refusal_by_script_ends_by_itself() {
    let upstream = Upstream::with_rows(1).await;
    let lasting = Duration::from_millis(50);
    let proxy = proxy_with(&upstream, on_upsert(Fault::Refuse { lasting })).await;
    let asked_at = Instant::now();

    Client::connect(&proxy).await.post("lost").await.unwrap_err();
    let kept = async || -> std::io::Result<Message> {
        let stream = BufReader::new(TcpStream::connect(proxy.address()).await?);
        Client { stream }.post("kept").await
    };
    while kept().await.is_err() {
        tokio::task::yield_now().await;
    }

    assert!(asked_at.elapsed() >= lasting);
    assert_eq!(upstream.seen(), ["kept"]);
    assert_eq!(proxy.stats().count("refuse"), 1);
}

#[tokio::test]
async fn a_rule_lets_the_first_requests_pass_and_ends_after_its_times() {
    let upstream = Upstream::with_rows(1).await;
    let script =
        FaultScript::rules(vec![Rule::on("POST", "upsert", Fault::FailAfterCommit { status: 503 }).after(1).times(2)]);
    let proxy = proxy_with(&upstream, script).await;
    let mut client = Client::connect(&proxy).await;

    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(client.post("x").await.unwrap().status().unwrap());
    }

    assert_eq!(statuses, [200, 503, 503, 200, 200]);
}

#[tokio::test]
async fn a_replaced_script_takes_effect_on_the_next_request_of_the_same_connection() {
    let upstream = Upstream::with_rows(1).await;
    let proxy = proxy_with(&upstream, FaultScript::from_fn(|_| Some(Fault::Unauthorized))).await;
    let mut client = Client::connect(&proxy).await;

    assert_eq!(client.post("x").await.unwrap().status().unwrap(), 401);
    proxy.set_script(FaultScript::none());
    assert_eq!(client.post("x").await.unwrap().status().unwrap(), 200);
}

#[tokio::test]
async fn seeded_faults_repeat_with_their_seed_and_spare_other_paths() {
    let seeded = |seed| Seeded {
        seed,
        path_parts: vec!["bulk/upsert".to_owned()],
        faults: vec![(Fault::Unauthorized, 0.3), (Fault::FailAfterCommit { status: 502 }, 0.3)],
    };
    let statuses = async |seed| {
        let upstream = Upstream::with_rows(1).await;
        let proxy = proxy_with(&upstream, FaultScript::seeded(seeded(seed))).await;
        let mut client = Client::connect(&proxy).await;
        let mut statuses = Vec::new();
        for _ in 0..60 {
            statuses.push(client.post("x").await.unwrap().status().unwrap());
        }
        let other = client.raw("POST /oauth/token HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(other.status().unwrap(), 200);
        statuses
    };

    let first = statuses(1).await;

    assert_eq!(first, statuses(1).await);
    assert_ne!(first, statuses(2).await);
    for status in [200, 401, 502] {
        assert!(first.contains(&status), "no {status} among 60 draws");
    }
}
