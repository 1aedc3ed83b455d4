//! A clock, a store, and daemons on it.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::spec::{CronSpec, ScheduleSpec};
use convoke_core::state::{Leases, Schedules};
use convoke_core::{Clock, SyncName, Timestamp};
use convoke_server::{Daemon, Drained, Facts, Jobs, Ports, Scheduled, Settings};
use convoke_testkit::clock::TestClock;
use futures::future::{join, select};
use tokio_util::sync::CancellationToken;

use crate::memory_store::MemoryStore;
use crate::scripted_jobs::{Script, ScriptedFacts, ScriptedJobs};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) script: Arc<Script>,
    pub(crate) facts: Arc<ScriptedFacts>,
    pub(crate) settings: Settings,
}

/// A daemon, and the token that drains it.
pub(crate) struct Started {
    pub(crate) daemon: Daemon,
    pub(crate) drain: CancellationToken,
}

impl World {
    /// 2026-01-05T00:00:00Z, with nothing stored.
    pub(crate) fn new() -> Self {
        let clock = TestClock::stepping();
        let store = MemoryStore::new(Arc::clone(&clock));
        let settings = Settings {
            holder: String::new(),
            concurrency: NonZeroUsize::new(4).unwrap(),
            lease_ttl: LEASE,
            drain_timeout: Duration::from_secs(30),
            grace: MINUTE,
        };
        Self { clock, store, script: Arc::default(), facts: Arc::default(), settings }
    }

    /// A world in which it is this time.
    pub(crate) fn at(start: &str) -> Self {
        let world = Self::new();
        let start = time(start);
        world.clock.advance(start.since(world.clock.now()));
        world
    }

    pub(crate) fn daemon(&self, name: &str, syncs: Vec<Scheduled>) -> Started {
        let script = Arc::clone(&self.script);
        let jobs = Arc::new(ScriptedJobs { daemon: name.to_owned(), clock: Arc::clone(&self.clock), script });
        let ports = Ports {
            leases: Arc::clone(&self.store) as Arc<dyn Leases>,
            schedules: Arc::clone(&self.store) as Arc<dyn Schedules>,
            jobs: jobs as Arc<dyn Jobs>,
            facts: Arc::clone(&self.facts) as Arc<dyn Facts>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        };
        let drain = CancellationToken::new();
        let settings = Settings { holder: name.to_owned(), ..self.settings.clone() };
        Started { daemon: Daemon::new(ports, syncs, settings, drain.clone()), drain }
    }

    /// Runs a daemon for so long, then drains it.
    pub(crate) fn serve(&self, started: &Started, duration: Duration) -> Drained {
        self.meanwhile(started, async || self.clock.sleep(duration).await)
    }

    /// Runs a daemon until something else has happened, then drains it.
    pub(crate) fn meanwhile(&self, started: &Started, story: impl AsyncFnOnce()) -> Drained {
        let story = async {
            story().await;
            started.drain.cancel();
        };
        self.clock.run(join(started.daemon.run(), story)).0
    }

    /// Runs a daemon for so long, then drops it where it stands, as `kill -9` would.
    pub(crate) async fn until_killed(&self, started: &Started, duration: Duration) {
        let (running, alarm) = (pin!(started.daemon.run()), self.clock.sleep(duration));
        select(running, alarm).await;
    }
}

/// A sync with a schedule in UTC that catches up.
pub(crate) fn sync(name: &str, expression: &str) -> Scheduled {
    with(name, cron(expression, "UTC"))
}

pub(crate) fn manual(name: &str) -> Scheduled {
    Scheduled::new(SyncName::new(name), &ScheduleSpec::Manual).unwrap()
}

pub(crate) fn with(name: &str, cron: CronSpec) -> Scheduled {
    Scheduled::new(SyncName::new(name), &ScheduleSpec::Cron(cron)).unwrap()
}

pub(crate) fn cron(expression: &str, timezone: &str) -> CronSpec {
    let (expression, timezone) = (expression.to_owned(), timezone.to_owned());
    CronSpec { expression, timezone, jitter: Duration::ZERO, catch_up: true }
}

/// Reads `2026-03-29T01:00:00Z`.
pub(crate) fn time(text: &str) -> Timestamp {
    Timestamp(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
}
