//! The metrics: what is counted, under which names, and how they are written down.
//!
//! Only configured syncs have series, and all of a sync's counters are there from the start, so that an increase from
//! nothing is an increase. Counters begin at zero with the process; gauges about the past are read from the store.

mod enrichment;
mod tally;

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use convoke_core::journal::Operation;
use convoke_core::state::{RunRecord, RunState};
use convoke_core::{SyncName, Timestamp};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::agenda::Standing;
use crate::facts::{EnrichmentFacts, Quota, SyncFacts};
use crate::jobs::JobEnd;

use tally::{FATES, OUTCOMES, Tally};

/// From a run that finds nothing new to one of half a day, in seconds.
const RUN_SECONDS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 10_800.0, 21_600.0, 43_200.0];

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSync {
    sync: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    sync: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfChange {
    sync: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFate {
    sync: String,
    fate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWindow {
    connection: String,
    window: &'static str,
}

/// All metrics of a daemon.
pub(crate) struct Figures {
    registry: Registry,
    tally: Mutex<Tally>,
    runs: Family<OfState, Counter>,
    unbalanced: Family<OfSync, Counter>,
    run_seconds: Family<OfSync, Histogram, fn() -> Histogram>,
    changes: Family<OfChange, Counter>,
    records: Family<OfFate, Counter>,
    skipped: Family<OfSync, Counter>,
    arrival_runs: Family<OfSync, Counter>,
    arrival_look_failures: Family<OfSync, Counter>,
    arrivals: Family<OfSync, Gauge>,
    leases_lost: Counter,
    store_errors: Counter,
    running: Family<OfSync, Gauge>,
    next_run: Family<OfSync, Seconds>,
    overdue: Family<OfSync, Seconds>,
    last_success: Family<OfSync, Seconds>,
    last_run: Family<OfSync, Seconds>,
    rows_in_doubt: Family<OfSync, Gauge>,
    ledger_rows: Family<OfSync, Gauge>,
    enrichment_jobs: Family<OfState, Gauge>,
    enrichment_cells: Family<OfState, Gauge>,
    quota_left: Family<OfWindow, Gauge>,
    quota_limit: Family<OfWindow, Gauge>,
}

impl Figures {
    pub(crate) fn new(syncs: &[SyncName]) -> Self {
        let mut figures = Self {
            registry: Registry::with_prefix("convoke"),
            tally: Mutex::default(),
            runs: Family::default(),
            unbalanced: Family::default(),
            run_seconds: Family::new_with_constructor(|| Histogram::new(RUN_SECONDS)),
            changes: Family::default(),
            records: Family::default(),
            skipped: Family::default(),
            arrival_runs: Family::default(),
            arrival_look_failures: Family::default(),
            arrivals: Family::default(),
            leases_lost: Counter::default(),
            store_errors: Counter::default(),
            running: Family::default(),
            next_run: Family::default(),
            overdue: Family::default(),
            last_success: Family::default(),
            last_run: Family::default(),
            rows_in_doubt: Family::default(),
            ledger_rows: Family::default(),
            enrichment_jobs: Family::default(),
            enrichment_cells: Family::default(),
            quota_left: Family::default(),
            quota_limit: Family::default(),
        };
        figures.register_counters();
        figures.register_gauges();
        syncs.iter().for_each(|sync| figures.begin(sync));
        figures
    }

    fn register_counters(&mut self) {
        let registry = &mut self.registry;
        registry.register("runs", "Runs that ended in this process, by how", self.runs.clone());
        let help = "Runs whose figures do not add up; each is a bug or a store that lost something";
        registry.register("unbalanced_runs", help, self.unbalanced.clone());
        let help = "How long runs of this process took";
        registry.register_with_unit("run_duration", help, Unit::Seconds, self.run_seconds.clone());
        let help = "Planned changes of runs of this process, by what became of them; each plan counts once";
        registry.register("changes", help, self.changes.clone());
        let help = "Records that runs of this process planned with, by what became of them; each plan counts once";
        registry.register("records", help, self.records.clone());
        let help = "Times of schedules without a run of their own: a later time stood in, or they were let go";
        registry.register("skipped_times", help, self.skipped.clone());
        let help = "Runs that began because something had come to the source";
        registry.register("arrival_runs", help, self.arrival_runs.clone());
        let help = "Looks at a source that could not tell whether something had come";
        registry.register("arrival_look_failures", help, self.arrival_look_failures.clone());
        let help = "Turns whose lease was lost while a run was under way";
        registry.register("leases_lost", help, self.leases_lost.clone());
        let help = "Times that the checkpoint store failed the scheduler";
        registry.register("store_errors", help, self.store_errors.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", build);
    }

    fn register_gauges(&mut self) {
        let registry = &mut self.registry;
        registry.register("sync_running", "Whether this process runs the sync now", self.running.clone());
        let help = "When the sync's next run starts; past if it is due or under way";
        registry.register_with_unit("next_run_timestamp", help, Unit::Seconds, self.next_run.clone());
        let help = "For how long a run is due that nobody is known to make";
        registry.register_with_unit("due_overdue", help, Unit::Seconds, self.overdue.clone());
        let help = "Files that have come to the source and are not read, as seen at the last look";
        registry.register("arrivals", help, self.arrivals.clone());
        let help = "When the last run ended that brought all records to the audience, by whichever process";
        registry.register_with_unit("sync_last_success_timestamp", help, Unit::Seconds, self.last_success.clone());
        let help = "When the last run ended, whichever way and by whichever process";
        registry.register_with_unit("sync_last_run_timestamp", help, Unit::Seconds, self.last_run.clone());
        let help = "Rows of requests that have no known outcome, those in flight among them";
        registry.register("rows_in_doubt", help, self.rows_in_doubt.clone());
        let help = "Rows of the audience that the sync owns, as far as is known";
        registry.register("ledger_rows", help, self.ledger_rows.clone());
        let help = "Enrichment jobs that the last run with any looked at, by how they ended or stand";
        registry.register("enrichment_jobs", help, self.enrichment_jobs.clone());
        let help = "Cells that enrichment fills, of the rows that the last run with any looked at, by their state";
        registry.register("enrichment_cells", help, self.enrichment_cells.clone());
        registry.register("quota_left", "Requests that the rate budget still allows", self.quota_left.clone());
        registry.register("quota_limit", "Requests that the rate budget allows at most", self.quota_limit.clone());
    }

    /// Every series of a sync that does not wait for a fact.
    fn begin(&self, sync: &SyncName) {
        let of_sync = of(sync);
        for state in RunState::ALL.into_iter().filter(|state| *state != RunState::Running) {
            self.runs.get_or_create(&of_state(sync, state)).inc_by(0);
        }
        for (operation, outcome) in Operation::ALL.iter().flat_map(|one| OUTCOMES.map(|outcome| (one, outcome))) {
            self.count_changes(sync, *operation, outcome, 0);
        }
        FATES.iter().for_each(|fate| self.count_records(sync, fate, 0));
        self.unbalanced.get_or_create(&of_sync).inc_by(0);
        self.skipped.get_or_create(&of_sync).inc_by(0);
        self.running.get_or_create(&of_sync).set(0);
        drop(self.run_seconds.get_or_create(&of_sync));
    }

    pub(crate) fn run_began(&self, sync: &SyncName) {
        self.running.get_or_create(&of(sync)).set(1);
    }

    pub(crate) fn job_ended(&self, sync: &SyncName, end: &JobEnd) {
        self.running.get_or_create(&of(sync)).set(0);
        match end {
            JobEnd::Busy { .. } | JobEnd::Nothing => {}
            JobEnd::Failed { .. } => {
                self.runs.get_or_create(&of_state(sync, RunState::Failed)).inc();
            }
            JobEnd::Ran(ran) => {
                let runs = ran.resumed.iter().chain([&ran.run]);
                runs.for_each(|run| self.run_ended(sync, run));
            }
        }
    }

    fn run_ended(&self, sync: &SyncName, run: &RunRecord) {
        self.runs.get_or_create(&of_state(sync, run.state)).inc();
        if run.state == RunState::Unbalanced {
            self.unbalanced.get_or_create(&of(sync)).inc();
        }
        if let Some(ended_at) = run.ended_at {
            self.run_seconds.get_or_create(&of(sync)).observe(ended_at.since(run.started_at).as_secs_f64());
        }
        let new = self.tally.lock().expect("nobody panics while holding it").add(sync, run);
        for (operation, outcome, count) in new.changes {
            self.count_changes(sync, operation, outcome, count);
        }
        for (fate, count) in new.records {
            self.count_records(sync, fate, count);
        }
    }

    fn count_changes(&self, sync: &SyncName, operation: Operation, outcome: &'static str, count: u64) {
        let labels = OfChange { sync: sync.to_string(), operation: operation.as_str(), outcome };
        self.changes.get_or_create(&labels).inc_by(count);
    }

    fn count_records(&self, sync: &SyncName, fate: &'static str, count: u64) {
        self.records.get_or_create(&OfFate { sync: sync.to_string(), fate }).inc_by(count);
    }

    pub(crate) fn times_skipped(&self, sync: &SyncName, times: u64) {
        self.skipped.get_or_create(&of(sync)).inc_by(times);
    }

    pub(crate) fn arrival_run(&self, sync: &SyncName) {
        self.arrival_runs.get_or_create(&of(sync)).inc();
    }

    pub(crate) fn arrival_look_failed(&self, sync: &SyncName) {
        self.arrival_look_failures.get_or_create(&of(sync)).inc();
    }

    pub(crate) fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    pub(crate) fn store_failed(&self) {
        self.store_errors.inc();
    }

    /// Shows how a sync stands in the loop.
    pub(crate) fn show(&self, standing: Standing<'_>) {
        let of_sync = of(standing.sync);
        if let Some(arrived) = standing.arrived {
            self.arrivals.get_or_create(&of_sync).set(gauge(arrived));
            self.arrival_runs.get_or_create(&of_sync).inc_by(0);
            self.arrival_look_failures.get_or_create(&of_sync).inc_by(0);
        }
        match standing.starts_at {
            Some(starts_at) => {
                self.next_run.get_or_create(&of_sync).set(seconds(starts_at));
                self.overdue.get_or_create(&of_sync).set(standing.overdue.as_secs_f64());
            }
            None => {
                self.next_run.remove(&of_sync);
                self.overdue.remove(&of_sync);
            }
        }
    }

    /// Shows what the store knows about a sync. A success that is no longer found among the newest runs stays.
    pub(crate) fn show_facts(&self, sync: &SyncName, facts: &SyncFacts) {
        let of_sync = of(sync);
        if let Some(at) = facts.last_success_at {
            self.last_success.get_or_create(&of_sync).set(seconds(at));
        }
        if let Some(at) = facts.last_run_at {
            self.last_run.get_or_create(&of_sync).set(seconds(at));
        }
        self.rows_in_doubt.get_or_create(&of_sync).set(gauge(facts.rows_in_doubt));
        self.ledger_rows.get_or_create(&of_sync).set(gauge(facts.ledger_rows));
        if let Some(EnrichmentFacts { jobs, cells }) = &facts.enrichment {
            show_states(&self.enrichment_jobs, sync, &enrichment::jobs(jobs));
            show_states(&self.enrichment_cells, sync, &enrichment::cells(cells));
        }
    }

    pub(crate) fn show_quota(&self, quota: &Quota) {
        let window = match quota.window {
            convoke_core::gate::Window::Second => "second",
            convoke_core::gate::Window::Hour => "hour",
            convoke_core::gate::Window::Day => "day",
        };
        let labels = OfWindow { connection: quota.connection.to_string(), window };
        self.quota_left.get_or_create(&labels).set(gauge(quota.left));
        self.quota_limit.get_or_create(&labels).set(gauge(quota.limit));
    }

    /// Everything in the text format of OpenMetrics 1.0.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn of(sync: &SyncName) -> OfSync {
    OfSync { sync: sync.to_string() }
}

fn show_states(family: &Family<OfState, Gauge>, sync: &SyncName, counts: &[(&'static str, u64)]) {
    for (state, count) in counts {
        family.get_or_create(&OfState { sync: sync.to_string(), state }).set(gauge(*count));
    }
}

fn of_state(sync: &SyncName, state: RunState) -> OfState {
    OfState { sync: sync.to_string(), state: state.as_str() }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(time: Timestamp) -> f64 {
    time.0 as f64 / 1_000.0
}
