//! From the command line to a running pipeline: configuration, logging, the checkpoint store, one sync.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoke_config::{Config, LoadedSync, LogFormat, Settings, System};
use convoke_core::SyncName;
use convoke_core::state::StateStore;
use convoke_pipeline::{Pipeline, Reporter};
use convoke_state::{OpenMode, PostgresState, SqliteState};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::host::Host;

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

/// Whether anything was ever run here. What cannot be looked into is not taken for absent.
pub(crate) fn has_state(config: &Config) -> bool {
    config.settings.state.postgres.is_some() || state_file(config).try_exists().unwrap_or(true)
}

fn state_file(config: &Config) -> PathBuf {
    config.settings.state_dir.join("state.sqlite")
}

pub(crate) async fn open_state(config: &Config, state_use: StateUse) -> Result<Arc<dyn StateStore>, Failure> {
    let mode = match state_use {
        StateUse::Write => OpenMode::ReadWrite,
        StateUse::Read => OpenMode::ReadOnly,
    };
    Ok(match &config.settings.state.postgres {
        None => Arc::new(SqliteState::open(&state_file(config), mode).await?),
        Some(connection) => Arc::new(PostgresState::open(connection, mode).await?),
    })
}

/// A pipeline with what must be closed after it.
pub(crate) struct Wired {
    pub(crate) pipeline: Pipeline,
    pub(crate) host: Host,
}

impl Wired {
    pub(crate) async fn close(self) {
        drop(self.pipeline);
        self.host.close().await;
    }
}

/// Builds the pipeline of one sync, and all it needs.
pub(crate) async fn wire(
    config: &Config,
    name: &str,
    reporter: Box<dyn Reporter>,
    cancel: CancellationToken,
) -> Result<Wired, Failure> {
    // A slip of the pen makes no state.
    find_sync(config, name)?;
    let host = Host::open(config.clone(), cancel.clone()).await?;
    let pipeline = host.pipeline(name, reporter, cancel).await?;
    Ok(Wired { pipeline, host })
}
