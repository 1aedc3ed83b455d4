//! The sync as a drill runs it: its mapping, filter, key and suppression lists as they are, between a source and an
//! audience of the drill's own, with state of its own.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoke_config::{Config, LoadedSync, StateSettings};
use convoke_core::ConnectionName;
use convoke_core::DataType;
use convoke_core::spec::{
    ColumnSpec, Expression, GtmConnection, GtmEndpoint, Guards, HttpSettings, Limit, ObjectsMode, ObjectsSpec,
    RateLimits, ScheduleSpec, SourceSpec, SyncMode, SyncSpec,
};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::wiring::find_sync;

/// The connection under which syncs reach the scratch audience.
const CONNECTION: &str = "drill";

/// What the scratch audience's name ends with.
const SUFFIX: &str = " (drill)";

/// The column of the copied source that tells in which round a record last changed.
pub(super) const ROUND_COLUMN: &str = "convoke_drill_round";

/// The audience column that it fills, so that a record can change without anybody making up values.
const ROUND_CELL: &str = "Convoke Drill Round";

/// Far beyond what the faults of a drill hold back: a busy machine must not make a drill fail.
const MAX_COMMIT_DELAY: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(30);

/// The folder in which a drill works. All that it writes is beneath it.
#[derive(Clone, Debug)]
pub(super) struct Scratch(PathBuf);

/// How the scratch store is reached, through the proxy; written for the processes of the drill.
#[derive(Deserialize, Serialize)]
pub(super) struct Access {
    pub(super) base_url: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
}

impl Scratch {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Where the processes of the drill keep their state.
    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Where the drill itself keeps what it needs to read and to judge.
    pub(super) fn judge_state(&self) -> PathBuf {
        self.0.join("judge")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.0.join("store.sqlite")
    }

    /// Where the copy of the source lies, alone.
    pub(super) fn source(&self) -> PathBuf {
        self.0.join("source")
    }

    /// The copy of the source.
    pub(super) fn records(&self) -> PathBuf {
        self.source().join("records.parquet")
    }

    fn access_file(&self) -> PathBuf {
        self.0.join("access.json")
    }

    pub(super) fn write_access(&self, access: &Access) -> Result<(), Failure> {
        let path = self.access_file();
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let text = serde_json::to_vec(access).expect("three texts are JSON");
        let written = written.and_then(|mut file| file.write_all(&text));
        written.map_err(|error| Failure::caused(&format!("writing `{}`", path.display()), &error))
    }

    pub(super) fn read_access(&self) -> Result<Access, Failure> {
        let path = self.access_file();
        let text = fs::read(&path).map_err(|error| {
            Failure::caused(&format!("`{}` is not a folder in which a drill is under way", self.0.display()), &error)
        })?;
        serde_json::from_slice(&text).map_err(|error| Failure::caused(&format!("`{}`", path.display()), &error))
    }
}

/// Refuses a sync that a drill would tell nothing about.
pub(super) fn check(loaded: &LoadedSync) -> Result<(), Failure> {
    let spec = &loaded.spec;
    if spec.mode == SyncMode::DeleteList {
        let message = format!(
            "`{}` only deletes (`mode: delete_list`), and a scratch audience is empty: drill a sync that fills an audience",
            spec.name
        );
        return Err(Failure::usage(message));
    }
    if spec.columns.iter().any(|column| column.name == ROUND_CELL) {
        return Err(Failure::usage(format!(
            "`{}` maps a column `{ROUND_CELL}`, which a drill needs; rename it",
            spec.name
        )));
    }
    Ok(())
}

/// The sync on its own source, with the state that the drill itself uses: to take an excerpt.
pub(super) fn on_the_real_source(config: &Config, sync: &str, scratch: &Scratch) -> Result<Config, Failure> {
    let source = find_sync(config, sync)?.spec.source.clone();
    let access = scratch.read_access()?;
    rehearsed(config, sync, Ends { source, access, state: scratch.judge_state() })
}

/// The sync on the copy, with the state that the drill itself uses: to map what is in the copy.
pub(super) fn for_the_judge(config: &Config, sync: &str, scratch: &Scratch) -> Result<Config, Failure> {
    on_the_copy(config, sync, scratch, scratch.judge_state())
}

/// The sync on the copy, as the processes of the drill run it.
pub(super) fn for_a_run(config: &Config, sync: &str, scratch: &Scratch) -> Result<Config, Failure> {
    on_the_copy(config, sync, scratch, scratch.state())
}

fn on_the_copy(config: &Config, sync: &str, scratch: &Scratch, state: PathBuf) -> Result<Config, Failure> {
    let url = format!("file://{}", scratch.records().display());
    let source = SourceSpec::Objects(ObjectsSpec::parquet(url, ObjectsMode::Snapshot));
    let mut rehearsed = rehearsed(config, sync, Ends { source, access: scratch.read_access()?, state })?;
    for loaded in rehearsed.syncs.values_mut() {
        loaded.spec.columns.push(ColumnSpec {
            name: ROUND_CELL.to_owned(),
            expression: Expression::Column(ROUND_COLUMN.to_owned()),
            data_type: DataType::Integer,
        });
    }
    Ok(rehearsed)
}

/// What differs between the uses of a rehearsed sync.
struct Ends {
    source: SourceSpec,
    access: Access,
    state: PathBuf,
}

fn rehearsed(config: &Config, sync: &str, ends: Ends) -> Result<Config, Failure> {
    let mut loaded = find_sync(config, sync)?.clone();
    let in_flight = config.connections.get(&loaded.spec.audience.connection).map(|real| real.requests_in_flight);
    loaded.spec = scratch_spec(loaded.spec, ends.source);
    let connection = connection(ends.access, in_flight.unwrap_or(1));
    let mut rehearsed = config.clone();
    rehearsed.settings.state_dir = ends.state;
    rehearsed.settings.spill_dir = None;
    rehearsed.settings.state = StateSettings { postgres: None, ledger: None, ..rehearsed.settings.state };
    rehearsed.connections = [(connection.name.clone(), connection)].into();
    rehearsed.syncs = [(loaded.spec.name.clone(), loaded)].into();
    Ok(rehearsed)
}

/// Fills an audience of its own, and is held up by no guard: what is lost and comes again is what a drill is about.
fn scratch_spec(mut spec: SyncSpec, source: SourceSpec) -> SyncSpec {
    spec.source = source;
    spec.audience.connection = ConnectionName::new(CONNECTION);
    spec.audience.name.push_str(SUFFIX);
    spec.audience.id = None;
    spec.mode = SyncMode::Mirror;
    spec.shared = false;
    spec.schedule = ScheduleSpec::Manual;
    spec.arrival = None;
    spec.guards = Guards {
        max_delete: Limit::unlimited(),
        max_update: Limit::unlimited(),
        max_create: Limit::unlimited(),
        max_invalid: Limit::unlimited(),
        max_unreadable: Limit::unlimited(),
        max_unexplained: Limit::records(0),
        max_reject: Limit::unlimited(),
        max_shrink: Limit::unlimited(),
        allow_empty: true,
    };
    spec
}

fn connection(access: Access, requests_in_flight: usize) -> GtmConnection {
    let Access { base_url, client_id, client_secret } = access;
    GtmConnection {
        name: ConnectionName::new(CONNECTION),
        endpoint: GtmEndpoint::Remote {
            token_url: format!("{base_url}/gtm/oauth/v1/token"),
            base_url: format!("{base_url}/gtm/studio/v1"),
            client_id,
            client_secret: client_secret.into(),
        },
        http: HttpSettings { connect_timeout: TIMEOUT, request_timeout: TIMEOUT, proxy: None, ca_file: None },
        rate: RateLimits { per_second: None, per_hour: None, per_day: None },
        requests_in_flight,
        max_commit_delay: MAX_COMMIT_DELAY,
        settle: SETTLE,
        allow_blind_creates: false,
    }
}
