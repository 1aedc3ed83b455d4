//! Runs that take as long and end as the test says.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::source::Arrivals;
use convoke_core::state::{RunRecord, RunState};
use convoke_core::{Clock, PlanId, RunId, StateError, SyncName, Timestamp};
use convoke_server::{Facts, JobEnd, Jobs, Quota, Ran, SyncFacts, Task};
use convoke_testkit::clock::TestClock;
use tokio_util::sync::CancellationToken;

/// One run, as the test asked for it.
#[derive(Clone)]
pub(crate) struct Act {
    pub(crate) seconds: u64,
    pub(crate) end: End,
}

#[derive(Clone)]
pub(crate) enum End {
    State(RunState),
    /// With these figures.
    Record(Box<RunRecord>),
    /// The quota is back after so many seconds.
    Quota(u64),
    Busy,
    Panic,
    /// Succeeds, and does not listen when it is asked to stop.
    Deaf,
}

/// What happened, in order of the runs' beginnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) daemon: String,
    pub(crate) sync: String,
    pub(crate) from: Timestamp,
    /// None: it was dropped.
    pub(crate) to: Option<Timestamp>,
    pub(crate) task: Task,
    pub(crate) how: String,
}

/// What all daemons of a test run.
#[derive(Default)]
pub(crate) struct Script {
    acts: Mutex<HashMap<String, VecDeque<Act>>>,
    made: Mutex<Vec<Made>>,
    unfinished: Mutex<BTreeSet<SyncName>>,
    /// What lies at the source of each sync; a run that ends well takes it all.
    lying: Mutex<HashMap<String, Vec<String>>>,
    looks: Mutex<u64>,
}

impl Script {
    /// The next runs of a sync; after them each takes a minute and succeeds.
    pub(crate) fn plan(&self, sync: &str, acts: impl IntoIterator<Item = (u64, End)>) {
        let acts = acts.into_iter().map(|(seconds, end)| Act { seconds, end });
        self.acts.lock().unwrap().entry(sync.to_owned()).or_default().extend(acts);
    }

    pub(crate) fn made(&self) -> Vec<Made> {
        self.made.lock().unwrap().clone()
    }

    /// When runs of a sync began and how they ended.
    pub(crate) fn runs_of(&self, sync: &str) -> Vec<String> {
        let made = self.made();
        made.iter().filter(|made| made.sync == sync).map(|made| format!("{} {}", made.from, made.how)).collect()
    }

    pub(crate) fn set_unfinished(&self, sync: &str, is_unfinished: bool) {
        let mut unfinished = self.unfinished.lock().unwrap();
        let name = SyncName::new(sync);
        if is_unfinished {
            unfinished.insert(name)
        } else {
            unfinished.remove(&name)
        };
    }

    /// Something comes to the source of a sync.
    pub(crate) fn arrive(&self, sync: &str, what: &str) {
        self.lying.lock().unwrap().entry(sync.to_owned()).or_default().push(what.to_owned());
    }

    /// All that lies at the source of a sync goes away.
    pub(crate) fn take_away(&self, sync: &str) {
        self.lying.lock().unwrap().remove(sync);
    }

    /// How often was looked whether something has come.
    pub(crate) fn looks(&self) -> u64 {
        *self.looks.lock().unwrap()
    }

    fn next(&self, sync: &str) -> Act {
        let planned = self.acts.lock().unwrap().get_mut(sync).and_then(VecDeque::pop_front);
        planned.unwrap_or(Act { seconds: 60, end: End::State(RunState::Succeeded) })
    }
}

/// The jobs of one daemon.
pub(crate) struct ScriptedJobs {
    pub(crate) daemon: String,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) script: Arc<Script>,
}

#[async_trait]
impl Jobs for ScriptedJobs {
    async fn run(&self, sync: &SyncName, task: Task, cancel: CancellationToken) -> JobEnd {
        let act = self.script.next(sync.as_str());
        let from = self.clock.now();
        let seen = self.script.lying.lock().unwrap().get(sync.as_str()).cloned().unwrap_or_default();
        let index = {
            let (daemon, sync) = (self.daemon.clone(), sync.to_string());
            let mut made = self.script.made.lock().unwrap();
            made.push(Made { daemon, sync, from, to: None, task, how: "dropped".to_owned() });
            made.len() - 1
        };
        let is_deaf = matches!(act.end, End::Deaf);
        let was_cancelled = tokio::select! {
            biased;
            () = self.clock.sleep(Duration::from_secs(act.seconds)) => false,
            () = cancel.cancelled(), if !is_deaf => true,
        };
        let (end, how) = if was_cancelled {
            (ran(record(sync, from, self.clock.now(), RunState::Interrupted), None), "interrupted".to_owned())
        } else {
            self.end(sync, from, act.end)
        };
        if matches!(&end, JobEnd::Ran(ran) if ran.run.state == RunState::Succeeded) {
            let mut lying = self.script.lying.lock().unwrap();
            lying.entry(sync.to_string()).or_default().retain(|what| !seen.contains(what));
        }
        let mut made = self.script.made.lock().unwrap();
        (made[index].to, made[index].how) = (Some(self.clock.now()), how);
        end
    }

    async fn unfinished(&self) -> Result<Vec<SyncName>, StateError> {
        Ok(self.script.unfinished.lock().unwrap().iter().cloned().collect())
    }

    async fn arrivals(&self, sync: &SyncName) -> Result<Option<Arrivals>, String> {
        *self.script.looks.lock().unwrap() += 1;
        let lying = self.script.lying.lock().unwrap().get(sync.as_str()).cloned().unwrap_or_default();
        if lying.iter().any(|what| what == "unreadable") {
            return Err("as the test wants".to_owned());
        }
        let mark = (!lying.is_empty()).then(|| lying.join(" "));
        Ok(Some(Arrivals { mark, count: lying.len() as u64, settling: None }))
    }
}

impl ScriptedJobs {
    fn end(&self, sync: &SyncName, from: Timestamp, end: End) -> (JobEnd, String) {
        let now = self.clock.now();
        let of_state = |state: RunState| (ran(record(sync, from, now, state), None), state.as_str().to_owned());
        match end {
            End::State(state) => of_state(state),
            End::Record(run) => (ran(RunRecord { ended_at: Some(now), ..*run }, None), "recorded".to_owned()),
            End::Quota(seconds) => {
                let retry_at = now.after(Duration::from_secs(seconds));
                let state = RunState::WaitingForQuota;
                (ran(record(sync, from, now, state), Some(retry_at)), state.as_str().to_owned())
            }
            End::Busy => (JobEnd::Busy { message: "held by the test".to_owned() }, "busy".to_owned()),
            End::Panic => panic!("as the test wants"),
            End::Deaf => of_state(RunState::Succeeded),
        }
    }
}

fn ran(run: RunRecord, retry_at: Option<Timestamp>) -> JobEnd {
    JobEnd::Ran(Box::new(Ran { run, resumed: None, retry_at }))
}

/// A run without figures.
pub(crate) fn record(sync: &SyncName, from: Timestamp, to: Timestamp, state: RunState) -> RunRecord {
    RunRecord {
        id: RunId::parse("0195f0aa-0000-7000-8000-000000000001").unwrap(),
        sync: sync.clone(),
        started_at: from,
        ended_at: Some(to),
        state,
        plan: PlanId::parse("0195f0aa-0000-7000-8000-000000000002"),
        message: None,
        counts: None,
        delivery: None,
        ledger: None,
        enrichment: None,
    }
}

/// Facts as the test says, and how often they were asked for.
#[derive(Default)]
pub(crate) struct ScriptedFacts {
    pub(crate) of_sync: Mutex<SyncFacts>,
    pub(crate) quotas: Mutex<Vec<Quota>>,
    pub(crate) asked: Mutex<u32>,
}

#[async_trait]
impl Facts for ScriptedFacts {
    async fn of_sync(&self, _sync: &SyncName) -> Result<SyncFacts, StateError> {
        *self.asked.lock().unwrap() += 1;
        Ok(*self.of_sync.lock().unwrap())
    }

    async fn quotas(&self) -> Vec<Quota> {
        self.quotas.lock().unwrap().clone()
    }
}
