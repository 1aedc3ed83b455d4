//! A small HTTP/1.1 server whose every answer, and every failure, is written down by the test beforehand.
//!
//! It listens on a free loopback port, records what it is sent, and for each request plays the next [`Reply`] of
//! its queue; a request for which nothing is queued gets the reply of its route, if there is one, else a 599 that
//! names the request. It speaks as much HTTP as a test needs: `Content-Length` bodies, `chunked` is refused.

mod broken;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

pub use self::broken::{End, Sent};

/// Longest head of a request that is accepted.
const HEAD_LIMIT: usize = 64 * 1024;

/// The server. Dropping it closes the port and every connection.
pub struct ScriptedHttp {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    /// `Content-Length` is added, unless the body ends with the connection.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the end of the connection, and nothing else, tells the end of the body.
    pub is_until_closed: bool,
}

/// What the server does about one request.
pub enum Reply {
    Answer(HttpAnswer),
    /// Closes the connection without having read the request; it is not recorded.
    DropUnread,
    /// Reads and records the request, then closes the connection without an answer.
    DropRead,
    /// Announces the whole body, sends this many bytes of it, closes.
    Truncated {
        answer: HttpAnswer,
        body_bytes: usize,
    },
    /// Sends a part of the answer, or all of it, and ends the connection in some way.
    Broken {
        answer: HttpAnswer,
        sent: Sent,
        end: End,
    },
    /// Reads and records the request; goes on with `then` once `release` lets it.
    Held {
        release: Arc<Release>,
        then: Box<Reply>,
    },
    /// Decides when it has seen the request.
    With(Box<dyn FnOnce(&RecordedRequest) -> Reply + Send>),
}

/// Holds replies back until a test lets them go.
#[derive(Debug)]
pub struct Release {
    permits: Semaphore,
}

type Route = Arc<dyn Fn(&RecordedRequest) -> Reply + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Reply>,
    routes: Vec<(String, String, Route)>,
    requests: Vec<RecordedRequest>,
}

/// How a connection goes on after a reply.
#[derive(PartialEq, Eq)]
enum Connection {
    KeepAlive,
    Close,
}

impl ScriptedHttp {
    /// Starts a server without a script.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { state: Mutex::default(), arrived: Notify::new() });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Self { address, shared, listening }
    }

    /// `http://127.0.0.1:<port>`, without a final `/`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Queues the reply to the next request that no route answers.
    pub fn then(&self, reply: Reply) -> &Self {
        self.shared.lock().queue.push_back(reply);
        self
    }

    /// Answers all requests with this method and a path that starts so, now and later, before the queue is asked.
    ///
    /// A later route goes before an earlier one.
    pub fn route<F>(&self, method: &str, path_prefix: &str, reply: F) -> &Self
    where
        F: Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    {
        self.shared.lock().routes.insert(0, (method.to_owned(), path_prefix.to_owned(), Arc::new(reply)));
        self
    }

    /// All requests that were read so far, in the order in which they arrived.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().requests.clone()
    }

    /// The requests whose path starts so.
    pub fn requests_to(&self, path_prefix: &str) -> Vec<RecordedRequest> {
        self.requests().into_iter().filter(|request| request.target.starts_with(path_prefix)).collect()
    }

    /// Replies that no request has taken yet.
    pub fn left_over(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Returns once `count` requests with a path that starts so have been read.
    pub async fn wait_for_requests(&self, path_prefix: &str, count: usize) {
        loop {
            let arrival = self.shared.arrived.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            if self.requests_to(path_prefix).len() >= count {
                return;
            }
            arrival.await;
        }
    }
}

impl Drop for ScriptedHttp {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl HttpAnswer {
    /// An answer with this status and body, without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), is_until_closed: false }
    }

    /// An answer with a JSON body.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string()).header("Content-Type", "application/vnd.api+json")
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Tells no length: the body goes on until the connection is closed.
    pub fn until_closed(mut self) -> Self {
        self.is_until_closed = true;
        self.header("Connection", "close")
    }

    fn encode(&self, body_bytes: usize) -> Vec<u8> {
        let mut encoded = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            encoded.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.status != 204 && !self.is_until_closed {
            encoded.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        encoded.push_str("\r\n");
        let mut encoded = encoded.into_bytes();
        encoded.extend_from_slice(&self.body[..body_bytes.min(self.body.len())]);
        encoded
    }
}

impl From<HttpAnswer> for Reply {
    fn from(answer: HttpAnswer) -> Self {
        Self::Answer(answer)
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer(answer) => write!(f, "an answer {}, {} bytes", answer.status, answer.body.len()),
            Self::DropUnread => f.write_str("closed unread"),
            Self::DropRead => f.write_str("closed without an answer"),
            Self::Truncated { answer, body_bytes } => write!(f, "{} cut after {body_bytes} bytes", answer.status),
            Self::Broken { answer, sent, end } => {
                write!(f, "{}, of which {sent:?} is sent, then {end:?}", answer.status)
            }
            Self::Held { then, .. } => write!(f, "held, then {then:?}"),
            Self::With(_) => f.write_str("decided by the request"),
        }
    }
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Answer(HttpAnswer::json(status, body))
    }

    /// Decides when it has seen the request.
    pub fn with<F>(decide: F) -> Self
    where
        F: FnOnce(&RecordedRequest) -> Self + Send + 'static,
    {
        Self::With(Box::new(decide))
    }
}

impl Release {
    /// Holds everything back.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { permits: Semaphore::new(0) })
    }

    /// Lets go what is held, and what will be.
    pub fn let_go(&self) {
        self.permits.close();
    }

    async fn wait(&self) {
        // No permit is ever added: waiting ends with the error that closing gives.
        drop(self.permits.acquire().await);
    }
}

impl RecordedRequest {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a request with a text body")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a request with a JSON body")
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next queued reply wants the request unread; takes it if so.
    fn take_unread_drop(&self) -> bool {
        let mut state = self.lock();
        let wanted = matches!(state.queue.front(), Some(Reply::DropUnread));
        if wanted {
            state.queue.pop_front();
        }
        wanted
    }

    /// Records the request and chooses its reply.
    fn take_reply(&self, request: &RecordedRequest) -> Reply {
        let mut state = self.lock();
        state.requests.push(request.clone());
        let route = state.routes.iter().find(|(method, path_prefix, _)| {
            *method == request.method && request.target.starts_with(path_prefix.as_str())
        });
        if let Some((_, _, route)) = route {
            let route = Arc::clone(route);
            drop(state);
            return route(request);
        }
        let unscripted = format!("nothing is scripted for {} {}", request.method, request.target);
        state.queue.pop_front().unwrap_or_else(|| HttpAnswer::new(599, unscripted).into())
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// Serves one connection until it is closed. A broken connection ends it too: the client's failure is its own.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    while let Ok(true) = has_request(&stream, &buffer).await {
        if shared.take_unread_drop() {
            return;
        }
        let Some(request) = read_request(&mut stream, &mut buffer).await else { return };
        let reply = shared.take_reply(&request);
        shared.arrived.notify_waiters();
        match play(&mut stream, &request, reply).await {
            Ok(Connection::KeepAlive) => {}
            Ok(Connection::Close) | Err(_) => return,
        }
    }
}

/// Waits for the first byte of a request; false at the end of the connection.
async fn has_request(stream: &TcpStream, buffer: &[u8]) -> std::io::Result<bool> {
    if !buffer.is_empty() {
        return Ok(true);
    }
    Ok(stream.peek(&mut [0]).await? > 0)
}

/// Reads one request; `None` if it is not one that this server understands. What follows it stays in `buffer`.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<RecordedRequest> {
    let head_length = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > HEAD_LIMIT || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let mut request = parse_head(std::str::from_utf8(&buffer[..head_length]).ok()?)?;
    let body_length = match request.header("content-length") {
        Some(length) => length.parse::<usize>().ok()?,
        None => 0,
    };
    while buffer.len() < head_length + body_length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = buffer[head_length..head_length + body_length].to_vec();
    buffer.drain(..head_length + body_length);
    Some(request)
}

fn parse_head(head: &str) -> Option<RecordedRequest> {
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if headers.iter().any(|(name, _)| name == "transfer-encoding") {
        return None;
    }
    Some(RecordedRequest { method, target, headers, body: Vec::new() })
}

async fn play(stream: &mut TcpStream, request: &RecordedRequest, mut reply: Reply) -> std::io::Result<Connection> {
    loop {
        reply = match reply {
            Reply::With(decide) => decide(request),
            Reply::Held { release, then } => {
                release.wait().await;
                *then
            }
            Reply::DropUnread | Reply::DropRead => return Ok(Connection::Close),
            Reply::Answer(answer) => {
                stream.write_all(&answer.encode(answer.body.len())).await?;
                return Ok(if answer.is_until_closed { Connection::Close } else { Connection::KeepAlive });
            }
            Reply::Broken { answer, sent, end } => {
                broken::play(stream, &answer, sent, end).await?;
                return Ok(Connection::Close);
            }
            Reply::Truncated { answer, body_bytes } => {
                stream.write_all(&answer.encode(body_bytes)).await?;
                stream.shutdown().await?;
                return Ok(Connection::Close);
            }
        };
    }
}
