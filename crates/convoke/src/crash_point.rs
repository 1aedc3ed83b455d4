//! Ends the process at a named boundary of a run, for crash rehearsals.
//!
//! `CONVOKE_CRASH_AT=after-send:3` kills the process with SIGKILL when it passes that boundary for the third time:
//! no destructor runs, nothing is flushed, just as when a machine loses power. Unset, it does nothing.

use std::sync::atomic::{AtomicU32, Ordering};

use convoke_core::boundary::{Boundary, BoundaryObserver};
use rustix::process::{Signal, getpid, kill_process};

/// Name of the environment variable.
pub(crate) const VARIABLE: &str = "CONVOKE_CRASH_AT";

/// Kills the process when a boundary is passed for the n-th time.
#[derive(Debug)]
pub(crate) struct CrashPoint {
    boundary: Boundary,
    passes_left: AtomicU32,
}

impl CrashPoint {
    /// Parses `boundary` or `boundary:n`; the error names the known boundaries.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let boundary = Boundary::parse(name).ok_or_else(|| {
            let known: Vec<_> = Boundary::ALL.iter().map(|known| known.as_str()).collect();
            format!("`{VARIABLE}`: no boundary `{name}`; known are {}", known.join(", "))
        })?;
        let passes: u32 = count
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| format!("`{VARIABLE}`: `{count}` is not a count from 1"))?;
        Ok(Self { boundary, passes_left: AtomicU32::new(passes) })
    }
}

impl BoundaryObserver for CrashPoint {
    fn reached(&self, boundary: Boundary) {
        if boundary == self.boundary && self.passes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // If even SIGKILL fails there is nothing better to do than to go on.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
