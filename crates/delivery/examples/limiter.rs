//! Holds the limiter against a destination that counts strictly: `limiter [SECONDS]`.
//!
//! This process is the destination: it answers at most 25 calls within any second, by when they arrive, and refuses the
//! others with a `Retry-After` of one second. One process, then two that share a credential, send as much as they may,
//! with their state on SQLite, then on PostgreSQL. Each row of the output tells what was answered, what that is of what
//! the destination would have allowed, and what was refused. Both sides speak lines over TCP: `call`, and the status.
//! The same program is started again as the senders; they read from standard input how their state is reached.

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::gate::{Feedback, Gate, Lane, Window};
use convoke_core::spec::{PostgresConnection, RateLimits, TlsMode};
use convoke_core::state::Budgets;
use convoke_core::{Clock, Timestamp};
use convoke_delivery::Limiter;
use convoke_state::{OpenMode, PostgresState, SqliteState};
use convoke_testkit::postgres::PostgresServer;
use rand::Rng;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The vendor's standard contract.
const LIMITS: RateLimits = RateLimits { per_second: Some(25), per_hour: Some(54_000), per_day: Some(648_000) };
const PER_SECOND: usize = 25;
const SECOND: Duration = Duration::from_secs(1);

/// How long it takes to answer, in milliseconds.
const LATENCY: std::ops::Range<u64> = 20..80;

/// Requests that a sender has in flight: twice the default, so that latency is not what limits it.
const IN_FLIGHT: usize = 8;

const DEFAULT_SECONDS: u64 = 120;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, address, seconds] if role == "send" => send(address.parse()?, seconds.parse()?).await,
        [] => measure(DEFAULT_SECONDS).await,
        [seconds] => measure(seconds.parse()?).await,
        _ => Err("usage: limiter [SECONDS]".into()),
    }
}

async fn measure(seconds: u64) -> Result<()> {
    say("state       processes   allowed calls   answered    used   refused (429)")?;
    for processes in [1, 2] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("state.sqlite");
        // Made by one, or both would make it at once.
        SqliteState::open(&file, OpenMode::ReadWrite).await?;
        let counted = run(processes, seconds, &format!("sqlite:{}", file.display())).await?;
        tell("SQLite", processes, seconds, &counted)?;
    }
    let server = PostgresServer::start();
    for processes in [1, 2] {
        let url = server.create_database("limiter").await.url();
        PostgresState::open(&parse(&url)?, OpenMode::ReadWrite).await?;
        let counted = run(processes, seconds, &url).await?;
        tell("PostgreSQL", processes, seconds, &counted)?;
    }
    Ok(())
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

#[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
fn tell(state: &str, processes: usize, seconds: u64, counted: &Counted) -> io::Result<()> {
    let Counted { answered, refused, .. } = counted;
    let allowed = seconds * PER_SECOND as u64;
    let used = 100.0 * *answered as f64 / allowed as f64;
    let share = 100.0 * *refused as f64 / (answered + refused).max(1) as f64;
    say(&format!("{state:10}  {processes:9}   {allowed:13}   {answered:8}   {used:4.1} %   {refused} ({share:.2} %)"))
}

/// Starts a destination and its senders; gives what it counted from the first call on, for so many seconds.
async fn run(processes: usize, seconds: u64, state: &str) -> Result<Counted> {
    let destination = Arc::new(Mutex::new(Counted::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(serve(listener, Arc::clone(&destination), Duration::from_secs(seconds)));
    let mut senders = Vec::new();
    for _ in 0..processes {
        senders.push(start_sender(address, seconds, state).await?);
    }
    for mut sender in senders {
        let status = sender.wait().await?;
        if !status.success() {
            return Err(format!("a sender ended with {status}").into());
        }
    }
    serving.abort();
    Ok(std::mem::take(&mut *destination.lock().unwrap_or_else(PoisonError::into_inner)))
}

async fn start_sender(address: SocketAddr, seconds: u64, state: &str) -> Result<Child> {
    let mut sender = Command::new(env::current_exe()?)
        .args(["send", &address.to_string(), &seconds.to_string()])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    // Not an argument: it may hold a password.
    let mut input = sender.stdin.take().ok_or("its input is piped")?;
    input.write_all(format!("{state}\n").as_bytes()).await?;
    Ok(sender)
}

/// What the destination has seen.
#[derive(Debug, Default)]
struct Counted {
    began_at: Option<Instant>,
    /// When the calls of the last second arrived that were not refused.
    recent: VecDeque<Instant>,
    answered: u64,
    refused: u64,
}

impl Counted {
    /// Whether a call that arrives now is answered.
    fn take(&mut self, now: Instant, lasts: Duration) -> bool {
        let is_counted = now - *self.began_at.get_or_insert(now) < lasts;
        while self.recent.front().is_some_and(|at| now - *at >= SECOND) {
            self.recent.pop_front();
        }
        let is_taken = self.recent.len() < PER_SECOND;
        if is_taken {
            self.recent.push_back(now);
        }
        let count = if is_taken { &mut self.answered } else { &mut self.refused };
        *count += u64::from(is_counted);
        is_taken
    }
}

async fn serve(listener: TcpListener, counted: Arc<Mutex<Counted>>, lasts: Duration) {
    let mut callers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        callers.spawn(serve_caller(stream, Arc::clone(&counted), lasts));
    }
}

async fn serve_caller(stream: TcpStream, counted: Arc<Mutex<Counted>>, lasts: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let is_taken = counted.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now(), lasts);
        let latency = rand::rng().random_range(LATENCY);
        tokio::time::sleep(Duration::from_millis(latency)).await;
        stream.get_mut().write_all(if is_taken { b"200\n" } else { b"429\n" }).await?;
        line.clear();
    }
    Ok(())
}

/// Sends all it may for so many seconds.
async fn send(address: SocketAddr, seconds: u64) -> Result<()> {
    let mut state = String::new();
    io::stdin().read_line(&mut state)?;
    let store: Arc<dyn Budgets> = match state.trim().strip_prefix("sqlite:") {
        Some(file) => Arc::new(SqliteState::open(Path::new(file), OpenMode::ReadWrite).await?),
        None => Arc::new(PostgresState::open(&parse(state.trim())?, OpenMode::ReadWrite).await?),
    };
    let clock = Arc::new(SinceStart(Instant::now()));
    let limiter = Limiter::open("credential", LIMITS, store, clock).await?;
    let ends_at = Instant::now() + Duration::from_secs(seconds);
    let mut callers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        callers.spawn(call(address, limiter.gate(Lane::Live), ends_at));
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    limiter.flush().await?;
    Ok(())
}

async fn call(address: SocketAddr, gate: Arc<dyn Gate>, ends_at: Instant) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut status = String::new();
    while Instant::now() < ends_at {
        gate.admit().await?;
        stream.get_mut().write_all(b"call\n").await?;
        status.clear();
        stream.read_line(&mut status).await?;
        let rejected = status.trim() == "429";
        let rejected_window = rejected.then_some(Window::Second);
        let retry_after = rejected.then_some(SECOND);
        gate.report(Feedback { rejected, rejected_window, retry_after, ..Feedback::default() }).await;
    }
    Ok(())
}

/// Takes `postgres://USER:PASSWORD@HOST:PORT/DATABASE` apart.
fn parse(url: &str) -> Result<PostgresConnection> {
    let take_apart = || {
        let (user, rest) = url.strip_prefix("postgres://")?.split_once(':')?;
        let (password, rest) = rest.split_once('@')?;
        let (host, rest) = rest.split_once(':')?;
        let (port, database) = rest.split_once('/')?;
        Some((user, password, host, port, database))
    };
    let (user, password, host, port, database) = take_apart().ok_or("not the URL of a database")?;
    Ok(PostgresConnection {
        host: host.to_owned(),
        port: port.parse()?,
        database: database.to_owned(),
        user: user.to_owned(),
        password: Some(password.to_owned().into()),
        tls: TlsMode::Disable,
        ca_file: None,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(60),
    })
}

/// Time since the program began; the store's clock is the one that counts hours and days.
struct SinceStart(Instant);

#[async_trait]
impl Clock for SinceStart {
    fn now(&self) -> Timestamp {
        Timestamp::default().after(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
