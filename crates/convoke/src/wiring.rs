//! Wires concrete types together: the only place that knows which source, sink and store there are.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use convoke_config::{Config, Environment, LoadedSync, LogFormat, Settings, System, config_hash};
use convoke_core::boundary::{BoundaryObserver, Unobserved};
use convoke_core::sink::Destination;
use convoke_core::source::Source;
use convoke_core::spec::{GtmConnection, GtmEndpoint, RateLimits, SourceSpec};
use convoke_core::state::{Ledgers, StateStore};
use convoke_core::{Clock, SyncName};
use convoke_delivery::Limiter;
use convoke_engine::{Engine, EngineSettings};
use convoke_pipeline::{Folders, Pipeline, Reporter, Retention, Services, Sync};
use convoke_sink_gtm::{GtmSettings, GtmSink};
use convoke_source_drop::CsvDrop;
use convoke_state::{LocalSegments, OpenMode, SqliteState};
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::crash_point::{self, CrashPoint};
use crate::embedded::EmbeddedStore;
use crate::failure::Failure;
use crate::spill::SpillFolder;

/// How long an audience stays held by a process that died. Long enough to outlast a request, short enough to wait for.
const LEASE_TTL: Duration = Duration::from_secs(60);

/// Loads the configuration and starts logging as it says.
pub(crate) fn load_config(dir: &Path, verbosity: u8) -> Result<Config, Failure> {
    let config = convoke_config::load(dir, &System)?;
    start_logging(&config.settings, verbosity);
    for warning in config.warnings.iter().chain(config.syncs.values().flat_map(|sync| &sync.warnings)) {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Diagnostics go to standard error; what a command prints is not logged.
pub(crate) fn start_logging(settings: &Settings, verbosity: u8) {
    let level = match verbosity {
        0 => settings.log.level.as_str(),
        1 => "debug",
        _ => "trace",
    };
    // Libraries below us speak up only when something is wrong.
    let filter = tracing_subscriber::EnvFilter::new(format!("warn,convoke={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match settings.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // The demo loads configurations one after the other; the first one's logging stays.
    drop(started);
}

pub(crate) fn find_sync<'a>(config: &'a Config, name: &str) -> Result<&'a LoadedSync, Failure> {
    config.syncs.get(&SyncName::new(name)).ok_or_else(|| {
        let known: Vec<_> = config.syncs.keys().map(SyncName::as_str).collect();
        let known =
            if known.is_empty() { "there are none".to_owned() } else { format!("known are {}", known.join(", ")) };
        Failure::usage(format!("no sync `{name}` in the configuration; {known}"))
    })
}

/// Whether a command may make state that is not there yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateUse {
    Write,
    /// Reading works beside a writer; without any state there is nothing to read.
    Read,
}

/// Whether anything was ever run here. A folder that cannot be looked into is not taken for an absent one.
pub(crate) fn has_state(config: &Config) -> bool {
    state_file(config).try_exists().unwrap_or(true)
}

fn state_file(config: &Config) -> PathBuf {
    config.settings.state_dir.join("state.sqlite")
}

pub(crate) async fn open_state(config: &Config, state_use: StateUse) -> Result<Arc<SqliteState>, Failure> {
    let mode = match state_use {
        StateUse::Write => OpenMode::ReadWrite,
        StateUse::Read => OpenMode::ReadOnly,
    };
    Ok(Arc::new(SqliteState::open(&state_file(config), mode).await?))
}

/// A pipeline with what must be stopped after it.
pub(crate) struct Wired {
    pub(crate) pipeline: Pipeline,
    pub(crate) state: Arc<SqliteState>,
    limiter: Arc<Limiter>,
    embedded: Option<EmbeddedStore>,
    /// Held to the end: others take what lies in a folder that nobody uses for left over.
    spill: SpillFolder,
}

impl Wired {
    /// Keeps what was spent of the rate budget, and stops the embedded store.
    pub(crate) async fn close(self) {
        if let Err(error) = self.limiter.flush().await {
            tracing::warn!(error = %convoke_pipeline::chain(&error), "the rate budget could not be kept");
        }
        drop(self.pipeline);
        drop(self.spill);
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}

/// Builds the pipeline of one sync.
pub(crate) async fn wire(
    config: &Config,
    name: &str,
    reporter: Box<dyn Reporter>,
    cancel: CancellationToken,
) -> Result<Wired, Failure> {
    let loaded = find_sync(config, name)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let state = open_state(config, StateUse::Write).await?;
    let connection = connection_of(config, loaded)?;
    let (endpoint, embedded) = reach(connection, &clock).await?;
    let limiter = open_limiter(connection, &state, &clock).await?;
    limiter.interrupt_on(cancel.clone());
    let destination = destination(connection, endpoint, &limiter, &clock)?;
    let engine = engine_settings(&config.settings);
    let spill = SpillFolder::enter(&engine.spill_dir).map_err(|error| {
        Failure::caused(&format!("the folder `{}` to spill to cannot be used", engine.spill_dir.display()), &error)
    })?;
    let services = services(config, (&state, engine), reporter, &clock).await?;
    let sync = Sync {
        spec: loaded.spec.clone(),
        config_hash,
        source: source(&loaded.spec.source, &clock),
        destination,
        rate: connection.rate,
        allow_blind_creates: connection.allow_blind_creates,
    };
    Ok(Wired { pipeline: Pipeline::new(services, sync, cancel), state, limiter, embedded, spill })
}

fn connection_of<'a>(config: &'a Config, loaded: &LoadedSync) -> Result<&'a GtmConnection, Failure> {
    let name = &loaded.spec.audience.connection;
    config.connections.get(name).ok_or_else(|| Failure::usage(format!("no connection `{name}` in connections.yaml")))
}

async fn services(
    config: &Config,
    (state, engine): (&Arc<SqliteState>, EngineSettings),
    reporter: Box<dyn Reporter>,
    clock: &Arc<dyn Clock>,
) -> Result<Services, Failure> {
    let settings = &config.settings;
    let engine = Engine::new(engine).map_err(|error| Failure::caused("the engine", &error))?;
    Ok(Services {
        state: Arc::clone(state) as Arc<dyn StateStore>,
        segments: Arc::new(LocalSegments::new(settings.state_dir.join("ledger"))),
        engine: Arc::new(engine),
        clock: Arc::clone(clock),
        boundaries: boundaries()?,
        reporter: Arc::from(reporter),
        folders: Folders::new(&settings.state_dir),
        hash_key: state.hash_key().await?,
        holder: holder(),
        lease_ttl: LEASE_TTL,
        retention: Retention {
            plans_settled: settings.retention.plans_settled,
            plans_waiting: settings.retention.plans_waiting,
            rejects: settings.retention.rejects,
        },
    })
}

fn engine_settings(settings: &Settings) -> EngineSettings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    EngineSettings {
        memory_limit_bytes: usize::try_from(settings.memory_limit).unwrap_or(usize::MAX),
        threads: settings.threads.unwrap_or(cores),
        spill_dir: settings.spill_dir.clone().unwrap_or_else(|| settings.state_dir.join("spill")),
    }
}

fn boundaries() -> Result<Arc<dyn BoundaryObserver>, Failure> {
    match System.variable(crash_point::VARIABLE) {
        None => Ok(Arc::new(Unobserved)),
        Some(text) => Ok(Arc::new(CrashPoint::parse(&text).map_err(Failure::usage)?)),
    }
}

/// Host and process id: enough for an operator to find who holds a lease.
fn holder() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host} (process {})", std::process::id())
}

fn source(spec: &SourceSpec, clock: &Arc<dyn Clock>) -> Arc<dyn Source> {
    match spec {
        SourceSpec::CsvDrop(spec) => Arc::new(CsvDrop::new(spec.clone(), Arc::clone(clock))),
    }
}

/// Where a destination is, and the embedded store if that is it.
async fn reach(
    connection: &GtmConnection,
    clock: &Arc<dyn Clock>,
) -> Result<(GtmEndpoint, Option<EmbeddedStore>), Failure> {
    let GtmEndpoint::Embedded { data } = &connection.endpoint else {
        return Ok((connection.endpoint.clone(), None));
    };
    let embedded = EmbeddedStore::start(data, Arc::clone(clock)).await?;
    let endpoint = GtmEndpoint::Remote {
        base_url: embedded.base_url.clone(),
        token_url: embedded.token_url.clone(),
        client_id: embedded.client_id.clone(),
        client_secret: embedded.client_secret.clone(),
    };
    Ok((endpoint, Some(embedded)))
}

async fn open_limiter(
    connection: &GtmConnection,
    state: &Arc<SqliteState>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Limiter>, Failure> {
    let limits: RateLimits = connection.rate;
    let budgets = Arc::clone(state) as Arc<dyn convoke_core::state::Budgets>;
    Ok(Limiter::open(connection.name.as_str(), limits, budgets, Arc::clone(clock)).await?)
}

fn destination(
    connection: &GtmConnection,
    endpoint: GtmEndpoint,
    limiter: &Arc<Limiter>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Destination>, Failure> {
    let GtmEndpoint::Remote { base_url, token_url, client_id, client_secret } = endpoint else {
        unreachable!("`reach` has turned an embedded endpoint into a remote one")
    };
    let settings = GtmSettings {
        base_url,
        token_url,
        client_id,
        client_secret,
        http: connection.http.clone(),
        requests_in_flight: connection.requests_in_flight,
        max_commit_delay: connection.max_commit_delay,
        settle: connection.settle,
        user_agent: concat!("convoke/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let gate = Arc::clone(limiter) as Arc<dyn convoke_core::gate::Gate>;
    let sink = GtmSink::new(settings, gate, Arc::clone(clock))
        .map_err(|error| Failure::caused(&format!("connection `{}`", connection.name), &error))?;
    Ok(Arc::new(sink))
}
