//! A proxy that loses, delays and damages requests and answers between Convoke and a destination.
//!
//! It listens on a free loopback port and forwards HTTP/1.1 requests to one upstream, each over a connection of its
//! own, so that no request can be sent twice by accident. A [`FaultScript`] looks at each request and may choose a
//! [`Fault`] for it; the [`FaultStats`] tell what was done. A request that is forwarded is forwarded in whole and its
//! answer is awaited, also when the client goes away meanwhile: what the upstream commits depends on the script
//! alone. TLS, upgrades and HTTP/2 are left out.
//!
//! What is under way stays in memory alone: a proxy writes no file, and logs nothing.

mod fault;
mod faulting;
mod memory;
mod message;
mod rows;
mod script;
mod throttle;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use crate::fault::Fault;
pub use crate::script::{FaultScript, Rule, Seeded, SeenRequest};

use crate::faulting::{After, serve_request};
use crate::memory::Memory;
use crate::message::{Message, read_answer, read_request};
use crate::throttle::Throttle;

/// Connections the kernel may hold before they are accepted.
const BACKLOG: u32 = 256;

/// A running proxy; it stops when this is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    /// Bound and never listening: keeps the port ours while connections are refused.
    _port_holder: TcpSocket,
}

/// What a proxy has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultStats {
    /// Requests read in whole from clients.
    pub received: u64,
    /// Requests the upstream has answered, whether the client saw the answer or not.
    pub committed: u64,
    /// Faults injected, by [`Fault::name`].
    pub injected: BTreeMap<&'static str, u64>,
    /// Faults that were chosen but had nothing to act on: no rows to leave out or to shuffle, for example.
    pub not_applicable: u64,
}

impl FaultStats {
    /// How often faults of this name were injected.
    pub fn count(&self, name: &str) -> u64 {
        self.injected.get(name).copied().unwrap_or(0)
    }

    /// How many faults were injected in all.
    pub fn total(&self) -> u64 {
        self.injected.values().sum()
    }
}

impl FaultProxy {
    /// Starts a proxy in front of `upstream` on a free port of 127.0.0.1.
    pub async fn start(upstream: SocketAddr, script: FaultScript) -> io::Result<Self> {
        let port_holder = reusable_socket()?;
        port_holder.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = port_holder.local_addr()?;
        let shared = Arc::new(Shared::new(upstream, script));
        let listener = listen(address)?;
        let accepting = tokio::spawn(accept_connections(address, listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting, _port_holder: port_holder })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base of URLs that lead through this proxy, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the proxy has done so far.
    pub fn stats(&self) -> FaultStats {
        lock(&self.shared.stats).clone()
    }

    /// Replaces the script; requests that already have a fault keep it.
    pub fn set_script(&self, script: FaultScript) {
        *lock(&self.shared.script) = script;
    }

    /// Forwards to another upstream from now on, such as a restarted store on a new port.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = upstream;
    }

    /// From now on no more than so many requests in any second are let through; none: any number.
    pub fn throttle(&self, per_second: Option<u32>) {
        *lock(&self.shared.throttle) = per_second.map(Throttle::new);
    }

    /// Refuses new connections and closes idle ones; returns once that is so.
    pub async fn refuse_connections(&self) {
        self.shared.set_open(false).await;
    }

    /// Takes connections again; returns once that is so.
    pub async fn accept_connections(&self) {
        self.shared.set_open(true).await;
    }

    /// Returns once no request is held back for a late commit.
    pub async fn late_commits_done(&self) {
        let mut held = self.shared.held.subscribe();
        held.wait_for(|count| *count == 0).await.expect("the sender lives in `shared`, which this call borrows");
    }

    /// Ends the proxy and all that is under way in it, late commits too.
    pub async fn stop(mut self) -> FaultStats {
        self.abort();
        // An aborted task ends with an error, which is what was asked for.
        let _ = (&mut self.accepting).await;
        self.stats()
    }

    fn abort(&self) {
        self.accepting.abort();
        lock(&self.shared.background).abort_all();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.abort();
    }
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    script: Mutex<FaultScript>,
    stats: Mutex<FaultStats>,
    memory: Mutex<Memory>,
    throttle: Mutex<Option<Throttle>>,
    /// Whether connections are wanted, and whether they are taken.
    wanted_open: watch::Sender<bool>,
    is_open: watch::Sender<bool>,
    /// Requests held back for a late commit.
    held: watch::Sender<usize>,
    /// Late commits and the ends of refusals.
    background: Mutex<JoinSet<()>>,
}

impl Shared {
    fn new(upstream: SocketAddr, script: FaultScript) -> Self {
        Self {
            upstream: Mutex::new(upstream),
            script: Mutex::new(script),
            stats: Mutex::default(),
            memory: Mutex::default(),
            throttle: Mutex::default(),
            wanted_open: watch::Sender::new(true),
            is_open: watch::Sender::new(true),
            held: watch::Sender::new(0),
            background: Mutex::default(),
        }
    }

    async fn set_open(&self, open: bool) {
        self.wanted_open.send_replace(open);
        let mut is_open = self.is_open.subscribe();
        is_open.wait_for(|now| *now == open).await.expect("the sender lives in `self`");
    }

    /// Counts the request and asks the script what to do with it.
    fn choose(&self, request: &Message) -> (u64, Option<Fault>) {
        let number = {
            let mut stats = lock(&self.stats);
            stats.received += 1;
            stats.received
        };
        let (method, path) = request.method_and_path();
        let body = request.body.as_deref().unwrap_or_default();
        let fault = lock(&self.script).choose(&SeenRequest { method, path, number, body });
        (number, fault)
    }

    fn count_injected(&self, name: &'static str) {
        *lock(&self.stats).injected.entry(name).or_default() += 1;
    }

    /// Sends the request to the upstream and reads its answer: from here on it is committed or refused there.
    async fn forward(&self, request: &Message) -> io::Result<Message> {
        let upstream = *lock(&self.upstream);
        let mut stream = TcpStream::connect(upstream).await?;
        let mut outgoing = request.clone();
        outgoing.set_header("connection", "close");
        stream.write_all(&outgoing.encode()).await?;
        let answer = read_answer(&mut BufReader::new(stream), request.method_and_path().0).await?;
        lock(&self.stats).committed += 1;
        lock(&self.memory).note_rows(request, &answer);
        Ok(answer)
    }
}

/// A script or an upstream that panicked in one test task leaves plain data behind, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reusable_socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = reusable_socket()?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept_connections(address: SocketAddr, first: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut wanted_open = shared.wanted_open.subscribe();
    let mut listener = first;
    loop {
        accept_until_refused(listener, &shared, &mut wanted_open, &mut connections).await;
        shared.is_open.send_replace(false);
        if wanted_open.wait_for(|open| *open).await.is_err() {
            return;
        }
        listener = listen(address).expect("the port is bound by this proxy and nobody listens on it");
        shared.is_open.send_replace(true);
    }
}

/// Takes connections until they are no longer wanted, then drops the listener, so that further ones are refused.
async fn accept_until_refused(
    listener: TcpListener,
    shared: &Arc<Shared>,
    wanted_open: &mut watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    loop {
        tokio::select! {
            biased;
            _ = wanted_open.wait_for(|open| !*open) => return,
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(serve_client(client, Arc::clone(shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one client connection; any failure on either side ends it, as a broken network would.
async fn serve_client(client: TcpStream, shared: Arc<Shared>) {
    let mut wanted_open = shared.wanted_open.subscribe();
    // Without it, small answers wait for the client's delayed acknowledgement.
    let _ = client.set_nodelay(true);
    let mut client = BufReader::new(client);
    loop {
        let request = tokio::select! {
            biased;
            _ = wanted_open.wait_for(|open| !*open) => return,
            request = read_request(&mut client) => request,
        };
        let Ok(Some(request)) = request else { return };
        match serve_request(&request, &mut client, &shared).await {
            Ok(After::KeepOpen) if !request.asks_to_close() => {}
            Ok(_) | Err(_) => return,
        }
    }
}
