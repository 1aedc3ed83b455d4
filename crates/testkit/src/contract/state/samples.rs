//! Facts to store.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::hash::{ContentHash, KeyHash};
use convoke_core::ids::{ConnectionName, PlanId, RunId};
use convoke_core::journal::{Intent, IntentRow, Operation, RowOutcome};
use convoke_core::ledger::{LedgerIdentity, LedgerManifest, SegmentRef};
use convoke_core::plan::{Forecast, PLAN_FORMAT, PlanBasis, PlanCounts, PlanManifest, PlannedSource};
use convoke_core::sink::AttemptTag;
use convoke_core::source::Coverage;
use convoke_core::state::{Lease, RunRecord, RunState, StateStore, audience_resource};
use convoke_core::{AudienceKey, RowId, SyncName, Timestamp};
use uuid::Uuid;

pub(super) const TTL: Duration = Duration::from_secs(60);
pub(super) const PAST_TTL: Duration = Duration::from_secs(61);

pub(super) fn audience(id: &str) -> AudienceKey {
    AudienceKey { connection: ConnectionName::new("zoominfo"), audience_id: id.to_owned() }
}

pub(super) fn sync() -> SyncName {
    SyncName::new("booth-scans")
}

pub(super) fn new_plan_id() -> PlanId {
    PlanId(Uuid::now_v7())
}

pub(super) async fn leased(store: &Arc<dyn StateStore>, audience: &AudienceKey) -> Lease {
    store.acquire(&audience_resource(audience), "worker one", TTL).await.unwrap()
}

pub(super) fn intent(plan: PlanId, audience: &AudienceKey, batch: u32) -> Intent {
    let number = u8::try_from(batch % 200).unwrap();
    let row = |side: u8| IntentRow {
        key: KeyHash([number + side; 16]),
        content: ContentHash([side + 1; 16]),
        order: [0, side, 255].into_iter().collect(),
        row_id: (side == 1).then(|| RowId::new(format!("row-{batch}"))),
    };
    Intent {
        plan,
        sync: sync(),
        audience: audience.clone(),
        batch,
        operation: Operation::Update,
        attempt: 1,
        // Above what a signed column would hold, were it one of 32 bits.
        tag: AttemptTag(u32::MAX - batch),
        intended_at: Timestamp(1_000 + i64::from(batch)),
        rows: vec![row(0), row(1)],
    }
}

pub(super) fn outcomes() -> Vec<RowOutcome> {
    vec![RowOutcome::Acknowledged { row_id: RowId::new("made") }, RowOutcome::NotApplied]
}

pub(super) fn run(started_at: i64) -> RunRecord {
    RunRecord {
        id: RunId(Uuid::now_v7()),
        sync: sync(),
        started_at: Timestamp(started_at),
        ended_at: None,
        state: RunState::Running,
        plan: None,
        message: None,
        counts: None,
        delivery: None,
        ledger: None,
        enrichment: None,
    }
}

pub(super) fn plan(created_at: i64) -> PlanManifest {
    PlanManifest {
        format: PLAN_FORMAT,
        id: new_plan_id(),
        run: RunId(Uuid::now_v7()),
        sync: sync(),
        created_at: Timestamp(created_at),
        basis: PlanBasis {
            audience: Some(audience("one")),
            audience_name: "Booth scans".to_owned(),
            ledger_version: 3,
            ledger_identity: identity(),
            config_hash: "cafe".to_owned(),
            checkpoint_version: 2,
        },
        files: Vec::new(),
        counts: PlanCounts { read: 7, creates: 7, ..PlanCounts::default() },
        first_load: true,
        limit: Some(5),
        backfill: None,
        window: None,
        resent: None,
        upsert_rows: 500,
        delete_rows: 1000,
        source: PlannedSource {
            coverage: Coverage::Snapshot,
            complete: true,
            proposed: None,
            outcomes: Vec::new(),
            notices: vec!["one file is not stable yet".to_owned()],
        },
        setup: Vec::new(),
        forecast: Forecast { requests: 1, seconds: 1, ..Forecast::default() },
        guard_hits: Vec::new(),
        withheld: None,
        samples: Vec::new(),
    }
}

pub(super) fn ledger(audience: &AudienceKey, version: u64) -> LedgerManifest {
    let segment = SegmentRef { name: format!("segment-{version}"), entries: 7, bytes: 700, digest: "f00d".to_owned() };
    LedgerManifest {
        audience: audience.clone(),
        version,
        segments: vec![segment],
        live: 7,
        live_by_owner: vec![(sync(), 7)],
        identity: identity(),
    }
}

fn identity() -> LedgerIdentity {
    LedgerIdentity {
        hash_key_id: "0123456789abcdef".to_owned(),
        key_spec: "Email:EMAIL".to_owned(),
        normalizer_version: 1,
        encoding_version: 1,
    }
}
