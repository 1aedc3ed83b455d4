//! A plan, an audience, a checkpoint store and a clock, and the couriers that come and go among them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use convoke_core::boundary::{BoundaryObserver, Unobserved};
use convoke_core::hash::ContentHash;
use convoke_core::journal::{IntentRow, Operation, RowOutcome};
use convoke_core::plan::PlannedBatch;
use convoke_core::sink::{AttemptTag, AudienceBinding, Capabilities, Destination, KeyCell, KeyLookUp};
use convoke_core::spec::Limit;
use convoke_core::state::Lease;
use convoke_core::{Clock, KeyHash, PlanId, RowId, RunId, SyncName, Timestamp};
use convoke_delivery::{Courier, DeliveryError, DeliveryReport, LeaseView, Ports, Terms, Unwatched};
use convoke_testkit::clock::TestClock;
use convoke_testkit::fake_sink::{FakeSink, Faults, POISON};
use tokio_util::sync::CancellationToken;

use crate::memory_state::MemoryState;

/// A lease that is held for as long as the test says.
pub(crate) struct TestLease {
    pub(crate) fence: u64,
    pub(crate) taken_over: bool,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) ends_at: Duration,
}

impl LeaseView for TestLease {
    fn current(&self) -> Lease {
        Lease {
            resource: "audience/fake/audience-1".to_owned(),
            fence: self.fence,
            holder: "this test".to_owned(),
            expires_at: Timestamp(0),
            taken_over: self.taken_over,
        }
    }

    fn remaining(&self) -> Duration {
        self.ends_at.saturating_sub(self.clock.elapsed())
    }
}

pub(crate) const FOREVER: Duration = Duration::from_secs(1_000_000_000);

/// How a plan is made up.
#[derive(Clone, Debug)]
pub(crate) struct Outline {
    pub(crate) creates: u32,
    pub(crate) updates: u32,
    pub(crate) deletes: u32,
    /// Numbers of creates and updates that the destination refuses.
    pub(crate) poisoned: BTreeSet<u32>,
    /// Numbers of updates and deletes whose row somebody removes before delivery.
    pub(crate) removed: BTreeSet<u32>,
}

pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) sink: Arc<FakeSink>,
    pub(crate) state: Arc<MemoryState>,
    pub(crate) binding: AudienceBinding,
    pub(crate) terms: Terms,
    pub(crate) batches: Vec<PlannedBatch>,
    outline: Outline,
    /// Leases handed out so far.
    leases: AtomicU64,
    /// Rows of the ledger: updates and deletes find theirs here.
    ledger: BTreeMap<KeyHash, RowId>,
    /// Rows that delivery has no business with.
    others: Vec<RowId>,
}

pub(crate) fn key_of(operation: Operation, number: u32) -> KeyHash {
    let mut bytes = [operation as u8 + 1; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    KeyHash(bytes)
}

impl World {
    pub(crate) fn new(outline: Outline, capabilities: Capabilities, faults: Faults) -> Self {
        let clock = TestClock::stepping();
        let sink = FakeSink::new(Arc::clone(&clock) as Arc<dyn Clock>, capabilities, faults);
        let look_up = KeyLookUp { values_per_request: 5, by_prefix: true };
        let terms = Terms {
            sync: SyncName::new("booth-scans"),
            plan: PlanId::parse("018f0000-0000-7000-8000-000000000001").expect("it is a UUID"),
            run: RunId::parse("018f0000-0000-7000-8000-000000000002").expect("it is a UUID"),
            changes: u64::from(outline.creates + outline.updates + outline.deletes),
            reject_limit: Limit::unlimited(),
            allow_blind_creates: false,
        };
        let mut world = Self {
            clock,
            state: Arc::default(),
            binding: FakeSink::binding(&["Email"], Some(look_up)),
            terms,
            batches: Vec::new(),
            outline,
            leases: AtomicU64::new(0),
            ledger: BTreeMap::new(),
            others: vec![sink.add_foreign_row(&["somebody@else"]), sink.add_foreign_row(&["somebody@more"])],
            sink,
        };
        world.seed_rows();
        world.cut_batches();
        world
    }

    fn seed_rows(&mut self) {
        for operation in [Operation::Update, Operation::Delete] {
            for number in 0..self.count(operation) {
                let key = key_of(operation, number);
                let row_id = self.sink.add_row(KeyCell { key, tag: AttemptTag(7) }, &["old"]);
                if self.outline.removed.contains(&number) {
                    self.sink.remove_row(&row_id);
                }
                self.ledger.insert(key, row_id);
            }
        }
        let untouched = KeyCell { key: KeyHash([0xee; 16]), tag: AttemptTag(7) };
        self.others.push(self.sink.add_row(untouched, &["stays"]));
    }

    fn count(&self, operation: Operation) -> u32 {
        match operation {
            Operation::Create => self.outline.creates,
            Operation::Update => self.outline.updates,
            Operation::Delete => self.outline.deletes,
        }
    }

    fn cut_batches(&mut self) {
        for operation in Operation::ALL {
            let numbers: Vec<u32> = (0..self.count(operation)).collect();
            for numbers in numbers.chunks(8) {
                let batch = self.batch(operation, numbers);
                self.batches.push(batch);
            }
        }
    }

    fn batch(&self, operation: Operation, numbers: &[u32]) -> PlannedBatch {
        let row = |number: &u32| {
            let key = key_of(operation, *number);
            IntentRow {
                key,
                content: ContentHash([9; 16]),
                order: Default::default(),
                row_id: self.ledger.get(&key).cloned(),
            }
        };
        let texts: StringArray = numbers.iter().map(|number| Some(self.text(operation, *number))).collect();
        let cells = match operation {
            Operation::Delete => RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
            _ => RecordBatch::try_from_iter([("Email", Arc::new(texts) as ArrayRef)]).expect("one column fits itself"),
        };
        PlannedBatch {
            number: self.batches.len() as u32,
            operation,
            rows: numbers.iter().map(row).collect(),
            cells,
            origins: numbers.iter().map(|number| Some(format!("leads.csv:{number}"))).collect::<StringArray>(),
        }
    }

    fn is_poisoned(&self, operation: Operation, number: u32) -> bool {
        operation != Operation::Delete && self.outline.poisoned.contains(&number)
    }

    fn text(&self, operation: Operation, number: u32) -> String {
        let mark = if self.is_poisoned(operation, number) { POISON } else { "new" };
        format!("{mark}-{}-{number}", operation.as_str())
    }

    pub(crate) fn ports(&self, sink: Arc<dyn Destination>, boundaries: Arc<dyn BoundaryObserver>) -> Ports {
        Ports {
            sink,
            state: Arc::clone(&self.state) as _,
            clock: Arc::clone(&self.clock) as _,
            boundaries,
            cancel: CancellationToken::new(),
        }
    }

    pub(crate) fn lease(&self, taken_over: bool) -> Arc<TestLease> {
        let fence = self.leases.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(TestLease { fence, taken_over, clock: Arc::clone(&self.clock), ends_at: FOREVER })
    }

    pub(crate) fn courier(&self) -> Courier {
        let ports = self.ports(Arc::clone(&self.sink) as _, Arc::new(Unobserved));
        Courier::new(ports, self.binding.clone(), self.lease(false))
    }

    pub(crate) async fn deliver(&self, courier: &Courier) -> Result<DeliveryReport, DeliveryError> {
        let batches = futures::stream::iter(self.batches.iter().cloned().map(Ok::<_, Infallible>));
        courier.deliver(batches, &self.terms, &Unwatched).await
    }

    pub(crate) fn named(&self) -> impl Fn(KeyHash) -> Option<RowId> + Sync + '_ {
        |key| self.ledger.get(&key).cloned()
    }

    /// Holds the audience, read directly, against plan, journal and report; returns what is wrong.
    pub(crate) fn violations(&self, report: &DeliveryReport) -> Vec<String> {
        let mut wrong = Vec::new();
        let rows = self.sink.rows();
        for row_id in &self.others {
            if !rows.iter().any(|row| row.row_id == *row_id) {
                wrong.push(format!("{row_id}, which is not ours, is gone"));
            }
        }
        for operation in Operation::ALL {
            self.check_rows(operation, &mut wrong);
            let (settled, planned) = (report.counts.of(operation).settled(), u64::from(self.count(operation)));
            if settled != planned {
                wrong.push(format!("{settled} of {planned} {}s are settled", operation.as_str()));
            }
        }
        if report.in_doubt != 0 {
            wrong.push(format!("{} rows are in doubt", report.in_doubt));
        }
        let expected = Operation::ALL.iter().map(|operation| self.poisoned_of(*operation)).sum::<usize>();
        let stored = self.state.all_rejects().len();
        if stored != expected || report.counts.rejected() != expected as u64 {
            wrong.push(format!("{stored} rejects are stored, {:?} counted, {expected} expected", report.counts));
        }
        wrong
    }

    fn poisoned_of(&self, operation: Operation) -> usize {
        let is_gone = |number: u32| operation == Operation::Update && self.outline.removed.contains(&number);
        (0..self.count(operation)).filter(|number| self.is_poisoned(operation, *number) && !is_gone(*number)).count()
    }

    fn check_rows(&self, operation: Operation, wrong: &mut Vec<String>) {
        let rows = self.sink.rows();
        let named = self.acknowledged();
        for number in 0..self.count(operation) {
            let key = key_of(operation, number);
            let held: Vec<_> = rows.iter().filter(|row| row.key_cell.is_some_and(|cell| cell.key == key)).collect();
            let is_removed = operation != Operation::Create && self.outline.removed.contains(&number);
            let text = match (operation, is_removed, self.is_poisoned(operation, number)) {
                (Operation::Delete, ..) | (_, true, _) | (Operation::Create, _, true) => None,
                (Operation::Update, _, true) => Some("old".to_owned()),
                (_, _, false) => Some(self.text(operation, number)),
            };
            let what = format!("{} {number}", operation.as_str());
            match (text, &held[..]) {
                (None, []) => {}
                (Some(text), [row]) if row.cells == [Some(text.clone())] => {
                    if operation == Operation::Create && named.get(&key) != Some(&row.row_id) {
                        wrong.push(format!("{what} is {}, and the journal names {:?}", row.row_id, named.get(&key)));
                    }
                }
                (text, held) => wrong.push(format!("{what} should hold {text:?}, and there is {held:?}")),
            }
        }
    }

    /// Rows that the journal names.
    fn acknowledged(&self) -> BTreeMap<KeyHash, RowId> {
        let mut named = BTreeMap::new();
        for entry in self.state.entries() {
            let outcomes = entry.outcomes.unwrap_or_default();
            for (row, outcome) in entry.intent.rows.iter().zip(outcomes) {
                if let RowOutcome::Acknowledged { row_id } | RowOutcome::Incomplete { row_id } = outcome {
                    named.insert(row.key, row_id);
                }
            }
        }
        named
    }
}
