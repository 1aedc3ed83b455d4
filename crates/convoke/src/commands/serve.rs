//! `serve`: the daemon.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_config::Config;
use convoke_core::source::Arrivals;
use convoke_core::spec::{ArrivalSpec, SourceSpec};
use convoke_core::{StateError, SyncName};
use convoke_pipeline::{Ended, Extent, chain};
use convoke_server::{
    Daemon, Drained, Endpoint, Facts, Hold, JobEnd, Jobs, Ports, Quota, Ran, Scheduled, Settings, SyncFacts, Task,
    unfinished,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::{Host, holder};
use crate::logging::LogReporter;
use crate::output;
use crate::signals::Signals;
use crate::wiring::load_config;

/// A time that was missed by less than this, a restart for example, is not let go of.
const GRACE: Duration = Duration::from_secs(120);

/// The lease that makes a daemon the only one on an SQLite state.
const DAEMON: &str = "daemon";

pub(crate) async fn serve(global: &Global, listen: Option<SocketAddr>) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let syncs = scheduled(&config)?;
    let settings = config.settings.serve;
    let listen = listen.unwrap_or(settings.listen);
    let endpoint =
        Endpoint::bind(listen).await.map_err(|error| Failure::caused(&format!("serving on {listen}"), &error))?;
    let is_shared = config.settings.state.postgres.is_some();
    let lease_ttl = config.settings.state.lease;
    let host = Arc::new(Host::open(config, signals.cancel()).await?);
    let workshop = Arc::new(Workshop { host: Arc::clone(&host) });
    let ports = Ports {
        leases: Arc::clone(&host.state) as _,
        schedules: Arc::clone(&host.state) as _,
        jobs: Arc::clone(&workshop) as _,
        facts: workshop as _,
        clock: Arc::clone(&host.clock),
    };
    let settings = Settings {
        holder: holder(),
        concurrency: NonZeroUsize::new(settings.concurrency).unwrap_or(NonZeroUsize::MIN),
        lease_ttl,
        drain_timeout: settings.drain,
        grace: GRACE,
    };
    let (address, count) = (endpoint.address(), syncs.len());
    let daemon = Daemon::new(ports, syncs, settings, signals.cancel());
    let work = async {
        announce(global, address, count);
        conclude(&convoke_server::serve(daemon, endpoint).await, &signals)
    };
    let exit = if is_shared { work.await } else { serve_alone(&host, lease_ttl, &signals, work).await? };
    // A run that was cut off holds the host; its process ends with this one.
    if let Some(host) = Arc::into_inner(host) {
        host.close().await;
    }
    Ok(exit)
}

fn scheduled(config: &Config) -> Result<Vec<Scheduled>, Failure> {
    let scheduled = config.syncs.values().map(|loaded| {
        let name = loaded.spec.name.clone();
        let failed = format!("the schedule of `{name}`");
        let scheduled =
            Scheduled::new(name, &loaded.spec.schedule).map_err(|error| Failure::caused(&failed, &error))?;
        Ok(match loaded.spec.arrival {
            Some(ArrivalSpec { scan }) => scheduled.on_arrival(scan),
            None => scheduled,
        })
    });
    scheduled.collect()
}

/// Scripts read the address from this line, so it goes to standard output.
fn announce(global: &Global, address: SocketAddr, syncs: usize) {
    if global.json {
        output::json(&json!({ "listen": address.to_string(), "syncs": syncs }));
    } else {
        output::line(format!("convoke serves {syncs} syncs; health and metrics at http://{address}"));
    }
}

fn conclude(drained: &Drained, signals: &Signals) -> Exit {
    if !drained.cut_off.is_empty() {
        return Exit::Failed;
    }
    signals.received().unwrap_or(Exit::Success)
}

/// Runs syncs, and answers for the host.
struct Workshop {
    host: Arc<Host>,
}

#[async_trait]
impl Jobs for Workshop {
    async fn run(&self, sync: &SyncName, task: Task, cancel: CancellationToken) -> JobEnd {
        // On a task of its own, so that what a run computes holds up neither the loop nor other runs.
        let (host, sync) = (Arc::clone(&self.host), sync.clone());
        let run = AbortOnDrop(tokio::spawn(async move { run_once(&host, &sync, task, cancel).await }));
        run.join().await
    }

    async fn unfinished(&self) -> Result<Vec<SyncName>, StateError> {
        let syncs: Vec<_> = self.host.config.syncs.keys().cloned().collect();
        unfinished(self.host.state.as_ref(), &syncs).await
    }

    async fn arrivals(&self, sync: &SyncName) -> Result<Option<Arrivals>, String> {
        self.host.arrivals(sync).await.map_err(Failure::into_message)
    }

    fn changes(&self) -> BoxStream<'static, SyncName> {
        let on_arrival = self.host.config.syncs.values().filter(|loaded| loaded.spec.arrival.is_some());
        let told = on_arrival.filter_map(|loaded| {
            let SourceSpec::CsvDrop(drop) = &loaded.spec.source else { return None };
            let name = loaded.spec.name.clone();
            match convoke_source_drop::changes(drop.path()?) {
                Ok(changes) => Some(changes.map(move |()| name.clone()).boxed()),
                Err(error) => {
                    let every = loaded.spec.arrival.map_or(0, |arrival| arrival.scan.as_secs());
                    tracing::warn!(sync = %name, %error, every, "the folder cannot be watched; it is only looked at from time to time");
                    None
                }
            }
        });
        // A stream without any folder ends, and an end is no news.
        futures::stream::select_all(told).chain(futures::stream::pending()).boxed()
    }
}

/// A daemon that is cut off takes its runs with it.
struct AbortOnDrop(JoinHandle<JobEnd>);

impl AbortOnDrop {
    async fn join(mut self) -> JobEnd {
        match (&mut self.0).await {
            Ok(end) => end,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => JobEnd::Failed { message: "the run was ended with its process".to_owned() },
            },
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run_once(host: &Host, sync: &SyncName, task: Task, cancel: CancellationToken) -> JobEnd {
    let reporter = Box::new(LogReporter::new(sync.clone()));
    let pipeline = match host.pipeline(sync.as_str(), reporter, cancel).await {
        Ok(pipeline) => pipeline,
        Err(failure) => return JobEnd::Failed { message: failure.into_message() },
    };
    let ended = match task {
        Task::Run => pipeline.run(Extent::default()).await,
        Task::Finish => match pipeline.finish().await {
            Ok(None) => return JobEnd::Nothing,
            Ok(Some(finished)) => Ok(finished.into_ended()),
            Err(error) => Err(error),
        },
    };
    match ended {
        Ok(Ended { error: Some(error), .. }) if error.is_busy() => JobEnd::Busy { message: chain(&error) },
        Ok(Ended { run, resumed, error, .. }) => {
            let retry_at = error.as_ref().and_then(convoke_pipeline::Error::retry_at);
            JobEnd::Ran(Box::new(Ran { run, resumed, retry_at }))
        }
        Err(error) => JobEnd::Failed { message: chain(&error) },
    }
}

#[async_trait]
impl Facts for Workshop {
    async fn of_sync(&self, sync: &SyncName) -> Result<SyncFacts, StateError> {
        SyncFacts::of(self.host.state.as_ref(), sync).await
    }

    async fn quotas(&self) -> Vec<Quota> {
        self.host.quotas().await
    }
}

/// Serves as the only daemon on an SQLite state: two would take each other's turns, and one file is no place for two
/// machines. Whoever loses that right drains, and fails.
async fn serve_alone(
    host: &Host,
    ttl: Duration,
    signals: &Signals,
    work: impl Future<Output = Exit>,
) -> Result<Exit, Failure> {
    let asked_at = host.clock.elapsed();
    let lease = match host.state.acquire(DAEMON, &holder(), ttl).await {
        Ok(lease) => lease,
        Err(StateError::Busy { holder, .. }) => {
            return Err(Failure::failed(format!(
                "{holder} serves this state already; stop it first, or keep state on PostgreSQL to serve from several"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let hold = Hold { leases: host.state.as_ref(), clock: host.clock.as_ref(), lease: &lease, ttl, asked_at };
    let mut is_lost = false;
    let exit = hold
        .during(work, || {
            tracing::error!("another process serves this state; this one stops");
            is_lost = true;
            signals.cancel().cancel();
        })
        .await;
    if is_lost {
        return Ok(Exit::Failed);
    }
    if let Err(error) = host.state.release(&lease).await {
        tracing::debug!(error = %chain(&error), "the daemon's lease could not be released and will expire");
    }
    Ok(exit)
}
