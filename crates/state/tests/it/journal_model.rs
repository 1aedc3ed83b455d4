//! Random sequences of journal operations, with reopening in between, against a model in memory.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::hash::{ContentHash, KeyHash};
use convoke_core::ids::{ConnectionName, PlanId};
use convoke_core::journal::{Entry, EntryId, Intent, IntentRow, Operation, RowOutcome};
use convoke_core::ledger::{LedgerIdentity, LedgerManifest};
use convoke_core::sink::AttemptTag;
use convoke_core::state::{Lease, StateStore};
use convoke_core::{AudienceKey, RowId, StateError, SyncName, Timestamp};
use convoke_testkit::contract::state::StateFixture;
use proptest::prelude::*;
use uuid::Uuid;

use crate::postgres::PostgresFixture;
use crate::sqlite::SqliteFixture;

#[derive(Clone, Debug)]
enum Step {
    Intend {
        plan: u8,
        audience: u8,
        rows: u8,
    },
    /// Closes one of the entries made so far, also one that is closed or forgotten.
    Close {
        entry: usize,
    },
    Fold {
        audience: u8,
        to: usize,
    },
    Forget {
        plan: u8,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, 0..2u8, 0..4u8).prop_map(|(plan, audience, rows)| Step::Intend { plan, audience, rows }),
        4 => (0..30usize).prop_map(|entry| Step::Close { entry }),
        2 => (0..2u8, 0..30usize).prop_map(|(audience, to)| Step::Fold { audience, to }),
        1 => (0..2u8).prop_map(|plan| Step::Forget { plan }),
        1 => Just(Step::Reopen),
    ]
}

struct ModelEntry {
    entry: Entry,
    folded: bool,
    forgotten: bool,
}

#[derive(Default)]
struct Model {
    entries: Vec<ModelEntry>,
    ledger_versions: [u64; 2],
}

impl Model {
    fn matching(&self, filter: impl Fn(&ModelEntry) -> bool) -> Vec<Entry> {
        let kept = self.entries.iter().filter(|known| !known.forgotten && filter(known));
        kept.map(|known| known.entry.clone()).collect()
    }

    fn id(&self, index: usize) -> EntryId {
        self.entries.get(index).map_or(EntryId(i64::MAX), |known| known.entry.id)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_on_sqlite_agrees_with_a_model_over_reopening(steps in prop::collection::vec(step(), 1..60)) {
        block_on(async { agrees_with_model(&SqliteFixture::new(), &steps).await });
    }
}

proptest! {
    // Each case takes a database of its own.
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_on_postgres_agrees_with_a_model_over_reopening(steps in prop::collection::vec(step(), 1..60)) {
        block_on(async { agrees_with_model(&PostgresFixture::new().await, &steps).await });
    }
}

fn block_on(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case);
}

async fn agrees_with_model(fixture: &dyn StateFixture, steps: &[Step]) {
    let mut state: Arc<dyn StateStore> = fixture.open().await;
    let lease = state.acquire("audience/all", "worker", Duration::from_secs(600)).await.unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Reopen => state = fixture.open().await,
            other => apply(other, &*state, &lease, &mut model).await,
        }
    }
    assert_same(&*state, &model).await;
    assert_same(&*fixture.open().await, &model).await;
}

async fn apply(step: &Step, state: &dyn StateStore, lease: &Lease, model: &mut Model) {
    match *step {
        Step::Intend { plan, audience, rows } => {
            let intent = intent(plan, audience, rows);
            let id = state.intend(&intent, lease).await.unwrap();
            let entry = Entry { id, intent, outcomes: None };
            model.entries.push(ModelEntry { entry, folded: false, forgotten: false });
        }
        Step::Close { entry } => close(entry, state, lease, model).await,
        Step::Fold { audience, to } => {
            let version = &mut model.ledger_versions[usize::from(audience)];
            *version += 1;
            let manifest = manifest(audience, *version);
            let last = model.id(to);
            state.commit_fold(&manifest, Some(last), lease).await.unwrap();
            for known in &mut model.entries {
                let is_covered = known.entry.intent.audience == manifest.audience && known.entry.id <= last;
                known.folded |= is_covered && known.entry.outcomes.is_some();
            }
        }
        Step::Forget { plan } => {
            state.forget_entries(plan_id(plan)).await.unwrap();
            for known in &mut model.entries {
                known.forgotten |= known.folded && known.entry.intent.plan == plan_id(plan);
            }
        }
        Step::Reopen => {}
    }
}

async fn close(index: usize, state: &dyn StateStore, lease: &Lease, model: &mut Model) {
    let id = model.id(index);
    let known = model.entries.get_mut(index).filter(|known| known.entry.outcomes.is_none());
    let Some(known) = known else {
        let refused = state.close(id, &[], lease).await;
        assert!(matches!(refused, Err(StateError::Conflict { .. })), "{refused:?}");
        return;
    };
    let outcomes: Vec<_> = (0..known.entry.intent.rows.len()).map(outcome).collect();
    state.close(id, &outcomes, lease).await.unwrap();
    known.entry.outcomes = Some(outcomes);
}

async fn assert_same(state: &dyn StateStore, model: &Model) {
    for number in 0..2 {
        let audience = audience(number);
        let open = model.matching(|known| known.entry.intent.audience == audience && known.entry.outcomes.is_none());
        assert_eq!(state.open_entries(&audience).await.unwrap(), open);
        let unfolded = model.matching(|known| {
            known.entry.intent.audience == audience && known.entry.outcomes.is_some() && !known.folded
        });
        assert_eq!(state.unfolded(&audience, None, 100).await.unwrap(), unfolded);
        let of_plan = model.matching(|known| known.entry.intent.plan == plan_id(number));
        assert_eq!(paged(state, plan_id(number)).await, of_plan);
    }
}

async fn paged(state: &dyn StateStore, plan: PlanId) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let page = state.entries_of(plan, entries.last().map(|last| last.id), 3).await.unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

fn audience(number: u8) -> AudienceKey {
    AudienceKey { connection: ConnectionName::new("zoominfo"), audience_id: format!("audience-{number}") }
}

fn plan_id(number: u8) -> PlanId {
    PlanId(Uuid::from_u128(u128::from(number) + 1))
}

fn intent(plan: u8, audience_number: u8, rows: u8) -> Intent {
    let row = |number: u8| IntentRow {
        key: KeyHash([number; 16]),
        content: ContentHash([number + 1; 16]),
        order: std::iter::repeat_n(number, usize::from(number)).collect(),
        row_id: number.is_multiple_of(2).then(|| RowId::new(format!("row-{number}"))),
    };
    Intent {
        plan: plan_id(plan),
        sync: SyncName::new("booth-scans"),
        audience: audience(audience_number),
        batch: u32::from(rows),
        operation: Operation::ALL[usize::from(rows % 3)],
        attempt: 1,
        tag: AttemptTag(u32::from(plan)),
        intended_at: Timestamp(5),
        rows: (0..rows).map(row).collect(),
    }
}

fn outcome(index: usize) -> RowOutcome {
    match index % 3 {
        0 => RowOutcome::Acknowledged { row_id: RowId::new("made") },
        1 => RowOutcome::Rejected,
        _ => RowOutcome::NotApplied,
    }
}

fn manifest(audience_number: u8, version: u64) -> LedgerManifest {
    LedgerManifest {
        audience: audience(audience_number),
        version,
        segments: Vec::new(),
        live: 0,
        live_by_owner: Vec::new(),
        identity: LedgerIdentity {
            hash_key_id: "0123456789abcdef".to_owned(),
            key_spec: "Email:EMAIL".to_owned(),
            normalizer_version: 1,
            encoding_version: 1,
        },
    }
}
