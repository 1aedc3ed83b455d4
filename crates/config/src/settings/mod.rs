//! Settings of the process, from `convoke.yaml`.

mod state;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::connection::Connections;
use crate::field::Field;
use crate::report::Report;

pub use state::{LedgerLocation, StateSettings};

/// What `convoke.yaml` holds. Every value has a default in [`DEFAULTS`](crate::DEFAULTS).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Checkpoint store, ledger, plans and spool live here.
    pub state_dir: PathBuf,
    pub state: StateSettings,
    pub serve: ServeSettings,
    /// Bytes the engine may use before it spills.
    pub memory_limit: u64,
    /// Engine threads; none: one per core.
    pub threads: Option<usize>,
    /// Where the engine spills; none: inside the state directory.
    pub spill_dir: Option<PathBuf>,
    pub log: LogSettings,
    pub retention: Retention,
}

/// What the daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// Where health checks and metrics are answered.
    pub listen: SocketAddr,
    /// Syncs that may run at once; at least one.
    pub concurrency: usize,
    /// How long runs may take to stop.
    pub drain: Duration,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long files and rows with personal data are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Plans, after they ended (settled, superseded or abandoned).
    pub plans_settled: Duration,
    /// Plans that were never applied.
    pub plans_waiting: Duration,
    pub rejects: Duration,
}

const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Decodes a checked `convoke.yaml`; none if a value was refused.
pub(crate) fn decode(
    root: &Field<'_>,
    base_dir: &Path,
    connections: &Connections,
    report: &mut Report,
) -> Option<Settings> {
    let state = state::decode(&root.field("state"), base_dir, connections, report);
    let log = root.field("log");
    let retention = root.field("retention");
    Some(Settings {
        state_dir: base_dir.join(root.field("state_dir").text()?),
        state: state?,
        serve: serve(&root.field("serve"))?,
        memory_limit: root.field("memory_limit").size()?,
        threads: root.field("threads").count().and_then(|threads| usize::try_from(threads).ok()),
        spill_dir: root.field("spill_dir").text().map(|path| base_dir.join(path)),
        log: LogSettings { format: log.field("format").choice(FORMATS)?, level: log.field("level").choice(LEVELS)? },
        retention: Retention {
            plans_settled: retention.field("plans_settled").duration()?,
            plans_waiting: retention.field("plans_waiting").duration()?,
            rejects: retention.field("rejects").duration()?,
        },
    })
}

fn serve(serve: &Field<'_>) -> Option<ServeSettings> {
    Some(ServeSettings {
        listen: serve.field("listen").text()?.parse().ok()?,
        concurrency: usize::try_from(serve.field("concurrency").count()?).ok()?,
        drain: serve.field("drain").duration()?,
    })
}
