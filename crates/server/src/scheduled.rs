//! A sync with its times.

use std::time::Duration;

use convoke_core::SyncName;
use convoke_core::spec::ScheduleSpec;
use convoke_schedule::{Jitter, Schedule, ScheduleError};

/// A sync that the daemon looks after.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub(crate) sync: SyncName,
    /// None: it runs only to finish what was interrupted.
    pub(crate) times: Option<Times>,
    /// How often its source is looked at, if the sync runs as soon as something has come.
    pub(crate) scan: Option<Duration>,
}

/// When a sync is due.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    pub(crate) schedule: Schedule,
    /// What the stored mark is kept under: a mark under other words says nothing about these times.
    pub(crate) words: String,
    pub(crate) jitter: Jitter,
    pub(crate) catch_up: bool,
}

impl Scheduled {
    /// A sync as its specification says.
    ///
    /// # Errors
    ///
    /// The expression or the time zone cannot be read.
    pub fn new(sync: SyncName, spec: &ScheduleSpec) -> Result<Self, ScheduleError> {
        let times = match spec {
            ScheduleSpec::Manual => None,
            ScheduleSpec::Cron(cron) => Some(Times {
                schedule: Schedule::cron(&cron.expression, &cron.timezone)?,
                words: format!("{} {}", cron.expression, cron.timezone),
                jitter: Jitter::new(sync.as_str(), cron.jitter),
                catch_up: cron.catch_up,
            }),
        };
        Ok(Self { sync, times, scan: None })
    }

    /// The same, and it runs as soon as something has come to its source, which is looked at this often at least.
    pub fn on_arrival(self, scan: Duration) -> Self {
        Self { scan: Some(scan), ..self }
    }
}
