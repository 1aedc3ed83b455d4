//! What a scraper sees.

use std::collections::BTreeMap;
use std::time::Duration;

use convoke_core::enrichment::JobCounts;
use convoke_core::gate::Window;
use convoke_core::plan::{DeliveryCounts, OperationCounts, PlanCounts};
use convoke_core::state::{RunRecord, RunState};
use convoke_core::{ConnectionName, SyncName, Timestamp};
use convoke_server::{CellCounts, EnrichmentFacts, Quota, SyncFacts};

use crate::endpoint::Served;
use crate::scripted_jobs::{End, record};
use crate::world::{HOUR, World, time};

/// Every sample by its name and labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(served: &Served) -> Self {
        let answer = served.get("/metrics").await;
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let text = answer.text().await.unwrap();
        assert!(text.ends_with("# EOF\n"));
        for line in text.lines().filter(|line| line.starts_with("# HELP")) {
            assert!(line.starts_with("# HELP convoke_") && line.ends_with('.'), "{line}");
        }
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no `{name}` in {:#?}", self.0))
    }

    /// Samples other than 0 whose name begins so.
    fn nonzero(&self, prefix: &str) -> Vec<(&str, f64)> {
        let of_prefix = self.0.iter().filter(|(name, value)| name.starts_with(prefix) && **value != 0.0);
        of_prefix.map(|(name, value)| (name.as_str(), *value)).collect()
    }
}

fn figures(state: RunState, acknowledged: u64) -> RunRecord {
    let from = time("2026-01-05T01:00:00Z");
    let creates = OperationCounts { acknowledged, rejected: 2, ..OperationCounts::default() };
    RunRecord {
        counts: Some(PlanCounts { read: 20, invalid: 3, creates: 10, unchanged: 7, ..PlanCounts::default() }),
        delivery: Some(DeliveryCounts { creates, ..DeliveryCounts::default() }),
        ..record(&SyncName::new("people"), from, from, state)
    }
}

/// Moves on by some hours, and waits for the run that begins at the end and for its own end.
async fn run_next(served: &Served, runs: usize) {
    served.world.clock.advance(HOUR);
    while served.world.script.made().len() < runs {
        tokio::task::yield_now().await;
    }
    served.world.clock.advance(Duration::from_secs(90));
    while served.world.script.made()[runs - 1].to.is_none() {
        tokio::task::yield_now().await;
    }
    while Scrape::of(served).await.get(r#"convoke_sync_running{sync="people"}"#) != 0.0 {}
}

#[tokio::test]
async fn every_counter_of_a_sync_is_there_from_the_start() {
    let served = Served::start(World::new()).await;
    served.until(None).await;
    let scrape = Scrape::of(&served).await;
    for name in [
        r#"convoke_runs_total{sync="people",state="succeeded"}"#,
        r#"convoke_runs_total{sync="people",state="waiting_for_quota"}"#,
        r#"convoke_changes_total{sync="people",operation="delete",outcome="rejected"}"#,
        r#"convoke_records_total{sync="people",fate="removed_respected"}"#,
        r#"convoke_unbalanced_runs_total{sync="people"}"#,
        r#"convoke_skipped_times_total{sync="people"}"#,
        r#"convoke_run_duration_seconds_bucket{le="+Inf",sync="people"}"#,
        r#"convoke_sync_running{sync="people"}"#,
        "convoke_leases_lost_total",
        "convoke_store_errors_total",
    ] {
        assert_eq!(scrape.get(name), 0.0, "{name}");
    }
    assert_eq!(scrape.get(&format!(r#"convoke_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"))), 1.0);
    let next_run = time("2026-01-05T01:00:00Z").0 as f64 / 1_000.0;
    assert_eq!(scrape.get(r#"convoke_next_run_timestamp_seconds{sync="people"}"#), next_run);
}

#[tokio::test]
async fn a_plan_counts_once_however_many_runs_it_takes() {
    let world = World::new();
    let of = |run| End::Record(Box::new(run));
    let acts = [of(figures(RunState::Failed, 4)), of(figures(RunState::Partial, 8)), End::State(RunState::Unbalanced)];
    world.script.plan("people", acts.map(|end| (90, end)));
    let served = Served::start(world).await;
    served.until(None).await;

    run_next(&served, 1).await;
    let scrape = Scrape::of(&served).await;
    let created =
        |outcome: &str| format!(r#"convoke_changes_total{{sync="people",operation="create",outcome="{outcome}"}}"#);
    assert_eq!(scrape.nonzero("convoke_runs"), [(r#"convoke_runs_total{sync="people",state="failed"}"#, 1.0)]);
    assert_eq!((scrape.get(&created("acknowledged")), scrape.get(&created("rejected"))), (4.0, 2.0));

    run_next(&served, 2).await;
    run_next(&served, 3).await;
    let scrape = Scrape::of(&served).await;
    assert_eq!((scrape.get(&created("acknowledged")), scrape.get(&created("rejected"))), (8.0, 2.0));
    let fate = |name: &str, value| (format!(r#"convoke_records_total{{sync="people",fate="{name}"}}"#), value);
    let records = scrape.nonzero("convoke_records").into_iter().map(|(name, value)| (name.to_owned(), value));
    let expected = [fate("create", 10.0), fate("invalid", 3.0), fate("unchanged", 7.0)];
    assert_eq!(records.collect::<Vec<_>>(), expected);
    assert_eq!(scrape.get(r#"convoke_unbalanced_runs_total{sync="people"}"#), 1.0);
    assert_eq!(scrape.get(r#"convoke_run_duration_seconds_count{sync="people"}"#), 3.0);
    assert_eq!(scrape.get(r#"convoke_run_duration_seconds_sum{sync="people"}"#), run_seconds(&served));
}

/// As the scripted records tell it: the first two began when the test says.
fn run_seconds(served: &Served) -> f64 {
    let made = served.world.script.made();
    let told_from = [Some(time("2026-01-05T01:00:00Z")), Some(time("2026-01-05T01:00:00Z")), None];
    let runs = made.iter().zip(told_from);
    runs.map(|(made, from)| made.to.unwrap().since(from.unwrap_or(made.from)).as_secs_f64()).sum()
}

#[tokio::test]
async fn facts_come_from_the_store_and_are_asked_for_once_in_a_while() {
    let world = World::new();
    let (last_success_at, last_run_at) = (Some(Timestamp(1_500)), Some(Timestamp(2_000)));
    *world.facts.of_sync.lock().unwrap() =
        SyncFacts { last_success_at, last_run_at, rows_in_doubt: 7, ledger_rows: 9, ..SyncFacts::default() };
    let quota = Quota { connection: ConnectionName::new("zoominfo"), window: Window::Day, left: 40, limit: 100 };
    *world.facts.quotas.lock().unwrap() = vec![quota];
    let served = Served::start(world).await;
    let scrape = Scrape::of(&served).await;
    let facts = [
        (r#"convoke_sync_last_success_timestamp_seconds{sync="people"}"#, 1.5),
        (r#"convoke_sync_last_run_timestamp_seconds{sync="people"}"#, 2.0),
        (r#"convoke_rows_in_doubt{sync="people"}"#, 7.0),
        (r#"convoke_ledger_rows{sync="people"}"#, 9.0),
        (r#"convoke_quota_left{connection="zoominfo",window="day"}"#, 40.0),
        (r#"convoke_quota_limit{connection="zoominfo",window="day"}"#, 100.0),
    ];
    facts.iter().for_each(|(name, value)| assert_eq!(scrape.get(name), *value, "{name}"));

    *served.world.facts.of_sync.lock().unwrap() = SyncFacts { last_run_at, rows_in_doubt: 1, ..SyncFacts::default() };
    let in_doubt = r#"convoke_rows_in_doubt{sync="people"}"#;
    assert_eq!(Scrape::of(&served).await.get(in_doubt), 7.0);
    assert_eq!(*served.world.facts.asked.lock().unwrap(), 1);
    served.world.clock.advance(Duration::from_secs(10));
    let scrape = Scrape::of(&served).await;
    assert_eq!(scrape.get(in_doubt), 1.0);
    assert_eq!(scrape.get(facts[0].0), 1.5, "a success that is no longer among the newest runs stays");
}

#[tokio::test]
async fn enrichments_are_told_by_state_once_a_run_has_looked_at_some() {
    let world = World::new();
    let served = Served::start(world).await;
    let of_none = Scrape::of(&served).await.0.into_keys().filter(|name| name.contains("enrichment")).count();
    assert_eq!(of_none, 0, "a sync that enriches nothing has no such series");

    let jobs = JobCounts { succeeded: 3, no_credits: 1, running: 2, ..JobCounts::default() };
    let cells = CellCounts { result: 40, error: 5, ..CellCounts::default() };
    let enrichment = Some(EnrichmentFacts { jobs, cells });
    *served.world.facts.of_sync.lock().unwrap() = SyncFacts { enrichment, ..SyncFacts::default() };
    served.world.clock.advance(Duration::from_secs(10));
    let scrape = Scrape::of(&served).await;
    let told =
        |kind: &str, state: &str| scrape.get(&format!(r#"convoke_enrichment_{kind}{{sync="people",state="{state}"}}"#));
    assert_eq!(["succeeded", "no_credits", "running"].map(|state| told("jobs", state)), [3.0, 1.0, 2.0]);
    let zero = ["partially_succeeded", "failed", "cancelled", "nothing_to_do", "refused", "unclear", "not_started"];
    assert!(zero.iter().all(|state| told("jobs", state) == 0.0));
    let cells = ["result", "no_result", "error", "loading", "blank", "other"];
    assert_eq!(cells.map(|state| told("cells", state)), [40.0, 0.0, 5.0, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn a_run_under_way_and_one_that_nobody_makes_are_told_apart() {
    let served = Served::start(World::new()).await;
    served.until(None).await;
    let (running, overdue) =
        (r#"convoke_sync_running{sync="people"}"#, r#"convoke_due_overdue_seconds{sync="people"}"#);
    served.world.store.set_down(true);
    served.world.clock.advance(HOUR + Duration::from_secs(30));
    served.until(Some("store")).await;
    while Scrape::of(&served).await.get(overdue) != 30.0 {}
    assert_eq!(Scrape::of(&served).await.get(running), 0.0);
    assert!(Scrape::of(&served).await.get("convoke_store_errors_total") >= 1.0);
    served.world.store.set_down(false);
    served.world.clock.advance(Duration::from_secs(11));
    while Scrape::of(&served).await.get(running) != 1.0 {}
    while Scrape::of(&served).await.get(overdue) != 0.0 {}
}
