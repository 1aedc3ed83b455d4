//! Facts of a real store.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::enrichment::{EnrichedColumn, EnrichmentReport, JobCounts};
use convoke_core::hash::{ContentHash, KeyHash};
use convoke_core::journal::{Intent, IntentRow, Operation, RowOutcome};
use convoke_core::ledger::{LedgerIdentity, LedgerManifest};
use convoke_core::plan::PlanManifest;
use convoke_core::sink::{AttemptTag, AudienceBinding};
use convoke_core::state::{PlanState, RunRecord, RunState, StateStore, audience_resource};
use convoke_core::{AudienceKey, ConnectionName, PlanId, RunId, SyncName, Timestamp};
use convoke_server::{CellCounts, SyncFacts, unfinished};
use convoke_state::{OpenMode, SqliteState};
use serde_json::json;

use crate::scripted_jobs::record;

struct Stored {
    state: Arc<dyn StateStore>,
    _folder: tempfile::TempDir,
}

impl Stored {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = SqliteState::open(&folder.path().join("convoke.db"), OpenMode::ReadWrite).await.unwrap();
        Self { state: Arc::new(state), _folder: folder }
    }

    async fn add_run(&self, number: u8, minutes: i64, state: RunState, plan: Option<PlanId>) {
        let (from, to) = (Timestamp(minutes * 60_000), Timestamp((minutes + 1) * 60_000));
        let run = record(&people(), from, to, state);
        let ended_at = run.ended_at.filter(|_| state != RunState::Running);
        self.state.start_run(&RunRecord { id: run_id(number), plan, ended_at, ..run }).await.unwrap();
    }

    async fn add_plan(&self, number: u8, state: PlanState) -> PlanId {
        let plan = manifest(number);
        self.state.add_plan(&plan, "cafe").await.unwrap();
        if state != PlanState::Waiting {
            self.state.move_plan(plan.id, PlanState::Waiting, state).await.unwrap();
        }
        plan.id
    }
}

fn people() -> SyncName {
    SyncName::new("people")
}

fn run_id(number: u8) -> RunId {
    RunId::parse(&format!("0195f0aa-0000-7000-8000-0000000001{number:02}")).unwrap()
}

fn manifest(number: u8) -> PlanManifest {
    let manifest = json!({
        "format": 1,
        "id": format!("0195f0aa-0000-7000-8000-0000000002{number:02}"),
        "run": run_id(number).to_string(),
        "sync": "people",
        "created_at": 1,
        "basis": {
            "audience": null, "audience_name": "People", "ledger_version": 0, "ledger_identity": identity(),
            "config_hash": "cafe", "checkpoint_version": 0
        },
        "files": [], "first_load": true, "limit": null, "upsert_rows": 1, "delete_rows": 1,
        "counts": serde_json::to_value(convoke_core::plan::PlanCounts::default()).unwrap(),
        "source": {
            "coverage": serde_json::to_value(convoke_core::source::Coverage::Snapshot).unwrap(),
            "complete": true, "proposed": null, "outcomes": [], "notices": []
        },
        "setup": [], "forecast": {"requests": 0, "seconds": 0}, "guard_hits": [], "samples": []
    });
    serde_json::from_value(manifest).unwrap()
}

fn identity() -> LedgerIdentity {
    LedgerIdentity {
        hash_key_id: "0123456789abcdef".to_owned(),
        key_spec: "Email:EMAIL".to_owned(),
        normalizer_version: 1,
        encoding_version: 1,
    }
}

fn intent(sync: &SyncName, audience: &AudienceKey, rows: u8) -> Intent {
    let row = |number: u8| IntentRow {
        key: KeyHash([number; 16]),
        content: ContentHash([number; 16]),
        order: convoke_core::ledger::OrderValue::new(),
        row_id: None,
    };
    Intent {
        plan: manifest(1).id,
        sync: sync.clone(),
        audience: audience.clone(),
        batch: 1,
        operation: Operation::Create,
        attempt: 1,
        tag: AttemptTag(1),
        intended_at: Timestamp(1),
        rows: (0..rows).map(row).collect(),
    }
}

#[tokio::test]
async fn a_sync_that_never_ran_has_no_past() {
    let stored = Stored::new().await;
    assert_eq!(SyncFacts::of(stored.state.as_ref(), &people()).await.unwrap(), SyncFacts::default());
    assert!(unfinished(stored.state.as_ref(), &[people()]).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_last_success_is_the_newest_run_that_left_no_record_out() {
    let stored = Stored::new().await;
    let states = [
        RunState::Succeeded,
        RunState::Succeeded,
        RunState::Partial,
        RunState::Failed,
        RunState::Planned,
        RunState::Unbalanced,
        RunState::Running,
    ];
    for (number, state) in (1..).zip(states) {
        stored.add_run(number, i64::from(number) * 10, state, None).await;
    }
    let facts = SyncFacts::of(stored.state.as_ref(), &people()).await.unwrap();
    assert_eq!(facts.last_success_at, Some(Timestamp(21 * 60_000)));
    assert_eq!(facts.last_run_at, Some(Timestamp(61 * 60_000)), "the one that runs has not ended");
}

#[tokio::test]
async fn enrichments_are_those_of_the_newest_run_that_looked_at_any() {
    let stored = Stored::new().await;
    let column = |name: &str, result, error| EnrichedColumn {
        name: name.to_owned(),
        result,
        error,
        ..EnrichedColumn::default()
    };
    let report = |succeeded, columns| {
        let jobs = JobCounts { succeeded, ..JobCounts::default() };
        Some(EnrichmentReport { jobs, columns, ..EnrichmentReport::default() })
    };
    let reports = [report(9, vec![]), report(2, vec![column("Phone", 5, 1), column("Title", 4, 2)]), None];
    for (number, enrichment) in (1..).zip(reports) {
        stored.add_run(number, i64::from(number) * 10, RunState::Succeeded, None).await;
        let run = stored.state.run(run_id(number)).await.unwrap().unwrap();
        stored.state.update_run(&RunRecord { enrichment, ..run }).await.unwrap();
    }
    let facts = SyncFacts::of(stored.state.as_ref(), &people()).await.unwrap().enrichment.unwrap();
    assert_eq!(facts.jobs, JobCounts { succeeded: 2, ..JobCounts::default() });
    assert_eq!(facts.cells, CellCounts { result: 9, error: 3, ..CellCounts::default() });
}

#[tokio::test]
async fn rows_are_those_of_the_sync_alone() {
    let stored = Stored::new().await;
    let state = &stored.state;
    let audience = AudienceKey { connection: ConnectionName::new("zoominfo"), audience_id: "one".to_owned() };
    let lease = state.acquire(&audience_resource(&audience), "test", Duration::from_secs(60)).await.unwrap();
    let binding = AudienceBinding {
        key: audience.clone(),
        name: "People".to_owned(),
        columns: Vec::new(),
        key_column_id: "column-1".to_owned(),
        key_look_up: None,
    };
    state.bind(&people(), &binding, &lease).await.unwrap();
    state.intend(&intent(&people(), &audience, 3), &lease).await.unwrap();
    state.intend(&intent(&SyncName::new("others"), &audience, 2), &lease).await.unwrap();
    let settled = state.intend(&intent(&people(), &audience, 1), &lease).await.unwrap();
    state.close(settled, &[RowOutcome::NotApplied], &lease).await.unwrap();
    let live_by_owner = vec![(SyncName::new("others"), 5), (people(), 11)];
    let ledger =
        LedgerManifest { audience, version: 1, segments: Vec::new(), live: 16, live_by_owner, identity: identity() };
    state.commit_fold(&ledger, None, &lease).await.unwrap();
    let facts = SyncFacts::of(state.as_ref(), &people()).await.unwrap();
    assert_eq!((facts.rows_in_doubt, facts.ledger_rows), (3, 11));
}

#[tokio::test]
async fn a_plan_is_unfinished_if_it_was_cut_short_and_not_if_its_run_failed() {
    let cases = [
        (RunState::Running, true),
        (RunState::Interrupted, true),
        (RunState::WaitingForQuota, true),
        (RunState::Failed, false),
        (RunState::Stopped, false),
        (RunState::Unbalanced, false),
    ];
    for (state, expected) in cases {
        let stored = Stored::new().await;
        let plan = stored.add_plan(1, PlanState::Applying).await;
        stored.add_run(1, 10, RunState::Failed, Some(plan)).await;
        stored.add_run(2, 20, state, Some(plan)).await;
        // It found the audience held, and has no plan.
        stored.add_run(3, 30, RunState::Failed, None).await;
        let found = unfinished(stored.state.as_ref(), &[people(), SyncName::new("others")]).await.unwrap();
        assert_eq!(found.contains(&people()), expected, "{state:?}");
        assert!(found.len() <= 1);
    }
    let stored = Stored::new().await;
    let plan = stored.add_plan(1, PlanState::Waiting).await;
    stored.add_run(1, 10, RunState::Interrupted, Some(plan)).await;
    assert!(unfinished(stored.state.as_ref(), &[people()]).await.unwrap().is_empty(), "nothing of it was sent");
}
