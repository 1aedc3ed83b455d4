//! What all syncs of a process share, opened once: the checkpoint store, the engine, and each destination with its rate
//! limiter. The only place, with [`crate::wiring`], that knows which source, sink and store there are.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use convoke_config::{Config, Environment, LedgerLocation, LoadedSync, Settings, System, config_hash};
use convoke_core::boundary::{BoundaryObserver, Unobserved};
use convoke_core::gate::Lane;
use convoke_core::ledger::{PlanArchive, SegmentStore};
use convoke_core::sink::{AudienceBinding, Destination};
use convoke_core::source::{Arrivals, Source};
use convoke_core::spec::{DropPlace, GtmConnection, GtmEndpoint, SourceSpec, SyncSpec};
use convoke_core::state::StateStore;
use convoke_core::{Clock, ConnectionName, HashKey, SyncName};
use convoke_delivery::Limiter;
use convoke_engine::{Engine, EngineSettings};
use convoke_pipeline::{Folders, Pipeline, Reporter, Retention, RetiredSource, Services, Sync, retired_spec};
use convoke_server::Quota;
use convoke_sink_gtm::{GtmSettings, GtmSink};
use convoke_source_drop::{CsvDrop, Taker};
use convoke_source_object::ObjectSource;
use convoke_source_postgres::{ColumnsRead, PostgresSource};
use convoke_state::{LocalSegments, ObjectPlans, ObjectSegments, open_object_store};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::crash_point::{self, CrashPoint};
use crate::embedded::EmbeddedStore;
use crate::failure::Failure;
use crate::spill::SpillFolder;
use crate::wiring::{StateUse, find_sync, open_state};

/// What all syncs of a process share.
pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) clock: Arc<dyn Clock>,
    segments: Arc<dyn SegmentStore>,
    archive: Option<Arc<dyn PlanArchive>>,
    engine: Arc<Engine>,
    hash_key: HashKey,
    boundaries: Arc<dyn BoundaryObserver>,
    destinations: Mutex<BTreeMap<ConnectionName, Reached>>,
    /// Ends waiting for quota.
    cancel: CancellationToken,
    /// Held to the end: others take what lies in a folder that nobody uses for left over.
    spill: SpillFolder,
}

/// A destination that runs have asked for.
struct Reached {
    /// For live requests, and for those that let live ones go first.
    lanes: [Arc<dyn Destination>; 2],
    limiter: Arc<Limiter>,
    embedded: Option<EmbeddedStore>,
}

impl Host {
    /// Opens the state, making it if it is not there yet. `cancel` ends waits for quota.
    pub(crate) async fn open(config: Config, cancel: CancellationToken) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // Whatever is written from here on may hold personal data, also by libraries that choose no rights of their own.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let settings = &config.settings;
        make_private(settings)?;
        let state = open_state(&config, StateUse::Write).await?;
        let (segments, archive) = ledger_place(settings)?;
        let engine = engine_settings(settings);
        let spill = SpillFolder::enter(&engine.spill_dir).map_err(|error| {
            Failure::caused(&format!("the folder `{}` to spill to cannot be used", engine.spill_dir.display()), &error)
        })?;
        let engine = Engine::new(engine).map_err(|error| Failure::caused("the engine", &error))?;
        let hash_key = state.hash_key().await?;
        Ok(Self {
            state,
            clock,
            segments,
            archive,
            engine: Arc::new(engine),
            hash_key,
            boundaries: boundaries()?,
            destinations: Mutex::default(),
            cancel,
            spill,
            config,
        })
    }

    /// Builds the pipeline of one sync.
    pub(crate) async fn pipeline(
        &self,
        name: &str,
        reporter: Box<dyn Reporter>,
        cancel: CancellationToken,
    ) -> Result<Pipeline, Failure> {
        let loaded = find_sync(&self.config, name)?;
        let connection = connection_of(&self.config, loaded)?;
        let [destination, backfill_destination] = self.destinations(connection).await?;
        let sync = Sync {
            spec: loaded.spec.clone(),
            config_hash,
            source: self.source(&loaded.spec)?,
            destination,
            backfill_destination,
            rate: connection.rate,
            allow_blind_creates: connection.allow_blind_creates,
        };
        Ok(Pipeline::new(self.services(reporter), sync, cancel))
    }

    /// Builds the pipeline that brings a sync to its end. It is no longer configured, so its binding tells where its rows
    /// are.
    pub(crate) async fn retiring_pipeline(
        &self,
        name: &SyncName,
        binding: &AudienceBinding,
        reporter: Box<dyn Reporter>,
        cancel: CancellationToken,
    ) -> Result<Pipeline, Failure> {
        let connection = &binding.key.connection;
        let connection = self.config.connections.get(connection).ok_or_else(|| {
            Failure::usage(format!(
                "no connection `{connection}` in connections.yaml, by which `{name}` filled its audience; keep it there until the sync is retired"
            ))
        })?;
        let [destination, backfill_destination] = self.destinations(connection).await?;
        let sync = Sync {
            spec: retired_spec(name, binding),
            config_hash,
            source: Arc::new(RetiredSource),
            destination,
            backfill_destination,
            rate: connection.rate,
            allow_blind_creates: false,
        };
        Ok(Pipeline::new(self.services(reporter), sync, cancel))
    }

    fn services(&self, reporter: Box<dyn Reporter>) -> Services {
        let settings = &self.config.settings;
        Services {
            state: Arc::clone(&self.state),
            segments: Arc::clone(&self.segments),
            archive: self.archive.clone(),
            engine: Arc::clone(&self.engine),
            clock: Arc::clone(&self.clock),
            boundaries: Arc::clone(&self.boundaries),
            reporter: Arc::from(reporter),
            folders: Folders::new(&settings.state_dir),
            hash_key: self.hash_key.clone(),
            holder: holder(),
            lease_ttl: settings.state.lease,
            retention: Retention {
                plans_settled: settings.retention.plans_settled,
                plans_waiting: settings.retention.plans_waiting,
                rejects: settings.retention.rejects,
            },
        }
    }

    /// Tells whether something has come to a sync's source that was not read.
    pub(crate) async fn arrivals(&self, sync: &SyncName) -> Result<Option<Arrivals>, Failure> {
        let source = self.source(&find_sync(&self.config, sync.as_str())?.spec)?;
        let stored = self.state.checkpoint(sync).await?.position;
        let told = source.arrivals(stored.as_ref()).await;
        told.map_err(|error| Failure::caused("whether something has come", &error))
    }

    fn source(&self, sync: &SyncSpec) -> Result<Arc<dyn Source>, Failure> {
        let failed = |error: convoke_core::SourceError| Failure::caused("the source cannot be opened", &error);
        Ok(match &sync.source {
            SourceSpec::CsvDrop(spec) => {
                let taker = Taker { installation: self.hash_key.id(), sync: sync.name.to_string(), holder: holder() };
                let connection = match &spec.place {
                    DropPlace::Folder { .. } => None,
                    DropPlace::Prefix { connection, .. } => connection.as_ref(),
                };
                let connection = connection.and_then(|name| self.config.object_stores.get(name));
                let source = CsvDrop::open(spec.clone(), connection, Arc::clone(&self.clock)).map_err(failed)?;
                Arc::new(source.for_taker(taker))
            }
            SourceSpec::Objects(spec) => {
                let connection = spec.connection.as_ref().and_then(|name| self.config.object_stores.get(name));
                let source = ObjectSource::open(spec.clone(), connection, Arc::clone(&self.clock)).map_err(failed)?;
                Arc::new(source.filtered(sync.filter.as_ref(), sync.deleted.as_ref()))
            }
            SourceSpec::Retired => Arc::new(RetiredSource),
            SourceSpec::Postgres(spec) => {
                let connection = self.config.databases.get(&spec.connection).ok_or_else(|| {
                    Failure::usage(format!("no connection `{}` in connections.yaml", spec.connection))
                })?;
                Arc::new(
                    PostgresSource::open(spec.clone(), connection.clone(), Some(self.columns_read(sync)))
                        .map_err(failed)?,
                )
            }
        })
    }

    /// Tells which columns of its source a sync reads.
    fn columns_read(&self, sync: &SyncSpec) -> ColumnsRead {
        let (engine, sync) = (Arc::clone(&self.engine), sync.clone());
        Arc::new(move |schema| engine.columns_read(&sync, schema))
    }

    /// The destination of a connection, for live requests and for backfills, with one rate limiter for all syncs that
    /// use it.
    async fn destinations(&self, connection: &GtmConnection) -> Result<[Arc<dyn Destination>; 2], Failure> {
        let mut destinations = self.destinations.lock().await;
        if let Some(reached) = destinations.get(&connection.name) {
            return Ok(reached.lanes.clone());
        }
        let reached = self.reach(connection).await?;
        let lanes = reached.lanes.clone();
        destinations.insert(connection.name.clone(), reached);
        Ok(lanes)
    }

    async fn reach(&self, connection: &GtmConnection) -> Result<Reached, Failure> {
        let embedded = match &connection.endpoint {
            GtmEndpoint::Embedded { data } => Some(EmbeddedStore::start(data, Arc::clone(&self.clock)).await?),
            GtmEndpoint::Remote { .. } => None,
        };
        let endpoint = embedded.as_ref().map_or(&connection.endpoint, |embedded| &embedded.endpoint).clone();
        let budgets = Arc::clone(&self.state) as Arc<dyn convoke_core::state::Budgets>;
        let clock = Arc::clone(&self.clock);
        let limiter = Limiter::open(connection.name.as_str(), connection.rate, budgets, clock).await?;
        limiter.interrupt_on(self.cancel.clone());
        let lanes = lanes(connection, endpoint, &limiter, &self.clock)?;
        Ok(Reached { lanes, limiter, embedded })
    }

    /// What is left of the rate budgets of the destinations that were used.
    pub(crate) async fn quotas(&self) -> Vec<Quota> {
        let destinations = self.destinations.lock().await;
        let of_one = |(connection, reached): (&ConnectionName, &Reached)| {
            let connection = connection.clone();
            let left = reached.limiter.left().into_iter();
            left.map(move |left| Quota {
                connection: connection.clone(),
                window: left.window,
                left: left.left,
                limit: left.limit,
            })
        };
        destinations.iter().flat_map(of_one).collect()
    }

    /// Keeps what was spent of the rate budgets, and stops the embedded stores.
    pub(crate) async fn close(self) {
        for (_, Reached { limiter, embedded, .. }) in self.destinations.into_inner() {
            if let Err(error) = limiter.flush().await {
                tracing::warn!(error = %convoke_pipeline::chain(&error), "the rate budget could not be kept");
            }
            if let Some(embedded) = embedded {
                embedded.stop().await;
            }
        }
        drop(self.spill);
    }
}

/// The state folder holds personal data, also where the checkpoint store is elsewhere.
fn make_private(settings: &Settings) -> Result<(), Failure> {
    let folder = &settings.state_dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::caused(&format!("the state folder `{}` cannot be made", folder.display()), &error))
}

fn connection_of<'a>(config: &'a Config, loaded: &LoadedSync) -> Result<&'a GtmConnection, Failure> {
    let name = &loaded.spec.audience.connection;
    config.connections.get(name).ok_or_else(|| Failure::usage(format!("no connection `{name}` in connections.yaml")))
}

type LedgerPlace = (Arc<dyn SegmentStore>, Option<Arc<dyn PlanArchive>>);

/// Where segments and plans are: in the state folder, or where all replicas reach them.
fn ledger_place(settings: &Settings) -> Result<LedgerPlace, Failure> {
    let local = settings.state_dir.join("ledger");
    let Some(LedgerLocation { url, connection }) = &settings.state.ledger else {
        return Ok((Arc::new(LocalSegments::new(local)), None));
    };
    let (store, prefix) = open_object_store(url, connection.as_ref())?;
    let segments = ObjectSegments::new(Arc::clone(&store), prefix.clone(), local);
    Ok((Arc::new(segments), Some(Arc::new(ObjectPlans::new(store, prefix)))))
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
pub(crate) fn holder() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host} (process {})", std::process::id())
}

fn lanes(
    connection: &GtmConnection,
    endpoint: GtmEndpoint,
    limiter: &Arc<Limiter>,
    clock: &Arc<dyn Clock>,
) -> Result<[Arc<dyn Destination>; 2], Failure> {
    let GtmEndpoint::Remote { base_url, token_url, client_id, client_secret } = endpoint else {
        unreachable!("an embedded endpoint has been turned into a remote one")
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
    let live = GtmSink::new(settings, limiter.gate(Lane::Live), Arc::clone(clock))
        .map_err(|error| Failure::caused(&format!("connection `{}`", connection.name), &error))?;
    let backfill = live.through(limiter.gate(Lane::Backfill));
    Ok([Arc::new(live), Arc::new(backfill)])
}
