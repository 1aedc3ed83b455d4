//! One run of a drill, as a process of its own: the shipped binary with the sync's own configuration, but between the ends
//! of the rehearsal. The parent starts it, and may have it killed.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use convoke_core::Clock;
use convoke_core::state::RunState;
use convoke_pipeline::{Event, Extent, Reporter, chain};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::rehearsal::{self, Scratch};
use crate::cli::Global;
use crate::clock::SystemClock;
use crate::crash_point;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::signals::Signals;
use crate::wiring::{load_config, wire};

/// A run of a few thousand records takes seconds.
const LONGEST_RUN: Duration = Duration::from_secs(300);

/// What a run of the drill tells its parent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Told {
    /// Rows in doubt that were settled before anything else.
    pub(super) settled: u64,
    /// Whether a plan that was cut short went on.
    pub(super) resumed: bool,
    /// Whether the rest of one was given up.
    pub(super) given_up: bool,
    /// Rows looked up because their request got no clear answer.
    pub(super) looked_up: u64,
    pub(super) doubles_removed: u64,
    pub(super) rejected: u64,
    pub(super) state: String,
    pub(super) error: Option<String>,
}

/// Carries out one run between the ends of the rehearsal, and prints what it saw.
pub(super) async fn run(global: &Global, sync: &str, folder: &Path) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let config = rehearsal::for_a_run(&config, sync, &Scratch::new(folder))?;
    let seen = Arc::new(Mutex::new(Told::default()));
    let wired = wire(&config, sync, Box::new(Witness(Arc::clone(&seen))), signals.cancel()).await?;
    let ended = wired.pipeline.run(Extent::default()).await;
    wired.close().await;
    let ended = ended?;
    let mut told = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let delivery = ended.run.delivery.unwrap_or_default();
    told.doubles_removed = delivery.doubles_removed;
    told.rejected = delivery.rejected();
    told.state = ended.run.state.as_str().to_owned();
    told.error = ended.error.as_ref().map(|error| chain(error));
    output::json(&told);
    Ok(Exit::of_run(ended.run.state, signals.received()))
}

/// Counts what a run says of its recovery.
struct Witness(Arc<Mutex<Told>>);

impl Reporter for Witness {
    fn report(&self, event: Event) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Recovered { settled_rows } => told.settled += settled_rows,
            Event::Resuming { .. } => told.resumed = true,
            Event::Abandoned { .. } => told.given_up = true,
            Event::ReadingBack { rows } => told.looked_up += rows,
            _ => {}
        }
    }
}

/// Starts runs of a drill, one after the other.
pub(super) struct Runs<'a> {
    pub(super) global: &'a Global,
    pub(super) sync: &'a str,
    pub(super) scratch: &'a Scratch,
    pub(super) cancel: CancellationToken,
}

/// How a process of the drill ended.
pub(super) struct Ended {
    /// None: it was killed.
    pub(super) code: Option<i32>,
    pub(super) told: Told,
}

impl Ended {
    /// Whether the run did all there was to do; records may have been rejected.
    pub(super) fn is_done(&self) -> bool {
        let done = [RunState::Succeeded, RunState::Partial].map(RunState::as_str);
        self.code.is_some() && done.contains(&self.told.state.as_str())
    }
}

impl Runs<'_> {
    /// Runs to the end, or until the process is killed at `crash_point`.
    pub(super) async fn run(&self, crash_point: Option<&str>) -> Result<Ended, Failure> {
        let failed = |error: std::io::Error| Failure::caused("a run of the drill could not be started", &error);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("--config").arg(&self.global.config).args(["drill", self.sync, "--within"]);
        command.arg(self.scratch.folder()).env_remove(crash_point::VARIABLE).kill_on_drop(true);
        // A signal from the terminal is for the drill alone, which ends its runs itself.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(point) = crash_point {
            command.env(crash_point::VARIABLE, point);
        }
        let child = command.spawn().map_err(failed)?;
        let group = group_of(&child);
        let clock = SystemClock;
        let output = tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            () = clock.sleep(LONGEST_RUN) => None,
            output = child.wait_with_output() => Some(output.map_err(failed)?),
        };
        let Some(output) = output else {
            // It may have ended meanwhile.
            group.map(|group| kill_process_group(group, Signal::KILL));
            let why = if self.cancel.is_cancelled() { "stopped" } else { "a run of the drill hangs" };
            return Err(Failure::failed(why));
        };
        let Some(code) = output.status.code() else { return Ok(Ended { code: None, told: Told::default() }) };
        let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| unclear(&output.stderr));
        Ok(Ended { code: Some(code), told })
    }
}

fn group_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// What a process said that ended before its run began.
fn unclear(stderr: &[u8]) -> Told {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Told { error: Some(last.trim_start_matches("error: ").to_owned()), ..Told::default() }
}
