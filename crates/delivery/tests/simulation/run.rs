//! One process: a run from its lease to its end, in the order of the pipeline and with what delivery gives it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use convoke_core::boundary::Unobserved;
use convoke_core::gate::{Lane, QuotaExhausted};
use convoke_core::journal::{EntryId, Operation};
use convoke_core::ledger::{LedgerIdentity, LedgerManifest, SegmentRef};
use convoke_core::plan::DeliveryCounts;
use convoke_core::spec::Limit;
use convoke_core::state::{Journal, Lease, Leases, Ledgers, audience_resource};
use convoke_core::{Clock, KeyHash, PlanId, RowId, RunId, StateError, SyncName, Timestamp};
use convoke_delivery::courier::tally;
use convoke_delivery::{Courier, DeliveryEnd, DeliveryError, LeaseView, Limiter, Ports, Terms, Unwatched};
use tokio_util::sync::CancellationToken;

use crate::books::{Known, Ledger, Plan, diff, fold_entry};
use crate::network::Network;
use crate::source::key_hash;
use crate::story::{Bug, World};

const LEASE_TTL: Duration = Duration::from_secs(60);

/// How a run ended; told in these words.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The audience holds what the source says.
    NothingToDo,
    Settled {
        /// Whether anything but rejects came of it.
        changed: bool,
    },
    WaitsForQuota(Timestamp),
    Failed(#[expect(dead_code, reason = "for whoever reads a story")] String),
    /// Something does not add up.
    Unbalanced(String),
}

/// Why a run did not come to its end.
enum Stopped {
    Delivery(DeliveryError),
    State(StateError),
    Unbalanced(String),
}

impl From<DeliveryError> for Stopped {
    fn from(error: DeliveryError) -> Self {
        Self::Delivery(error)
    }
}

impl From<StateError> for Stopped {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl Stopped {
    fn ended(self) -> Ended {
        match self {
            Self::Delivery(error) => match error.quota() {
                Some(QuotaExhausted { until }) => Ended::WaitsForQuota(until),
                None => Ended::Failed(format!("{error}: {:?}", std::error::Error::source(&error))),
            },
            Self::State(error) => Ended::Failed(error.to_string()),
            Self::Unbalanced(what) => Ended::Unbalanced(what),
        }
    }
}

/// The lease of a run.
struct Held {
    world: Arc<World>,
    current: Mutex<(Lease, Duration)>,
}

impl Held {
    fn replace(&self, lease: Lease, valid_until: Duration) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (lease, valid_until);
    }
}

impl LeaseView for Held {
    fn current(&self) -> Lease {
        if self.world.bug == Some(Bug::WritesWithoutItsLease) {
            return self.world.newest_lease().expect("there was one");
        }
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn remaining(&self) -> Duration {
        if self.world.bug == Some(Bug::WritesWithoutItsLease) {
            return Duration::from_secs(1_000_000_000);
        }
        let valid_until = self.current.lock().unwrap_or_else(PoisonError::into_inner).1;
        valid_until.saturating_sub(self.world.clock.elapsed())
    }
}

/// Lives from taking the lease to giving it back.
pub(crate) async fn live(world: Arc<World>, name: String) -> Ended {
    let (lease, asked_at) = acquire(&world, &name).await;
    world.chronicle.tell(format!("{name} has lease {}, taken over: {}", lease.fence, lease.taken_over));
    world.note_lease(&lease);
    let number = lease.fence;
    let held = Arc::new(Held { world: Arc::clone(&world), current: Mutex::new((lease, asked_at + LEASE_TTL)) });
    let ended = tokio::select! {
        biased;
        ended = run(&world, &held, number) => ended.unwrap_or_else(Stopped::ended),
        () = keep(&world, &held) => unreachable!("a lease is kept for as long as the run goes on"),
    };
    // Whoever has lost it has nothing to give back.
    let _ = world.state.release(&held.current()).await;
    world.chronicle.tell(format!("{name} ends: {ended:?}"));
    ended
}

async fn acquire(world: &World, name: &str) -> (Lease, Duration) {
    loop {
        let asked_at = world.clock.elapsed();
        match world.state.acquire(&audience_resource(&world.binding.key), name, LEASE_TTL).await {
            Ok(lease) => return (lease, asked_at),
            Err(_) => world.clock.sleep(LEASE_TTL / 10).await,
        }
    }
}

async fn keep(world: &World, held: &Held) {
    loop {
        world.clock.sleep(LEASE_TTL / 3).await;
        let asked_at = world.clock.elapsed();
        match world.state.renew(&held.current(), LEASE_TTL).await {
            Ok(lease) => held.replace(lease, asked_at + LEASE_TTL),
            Err(_) => {
                held.replace(held.current(), Duration::ZERO);
                return std::future::pending().await;
            }
        }
    }
}

async fn run(world: &Arc<World>, held: &Arc<Held>, number: u64) -> Result<Ended, Stopped> {
    let run = Run { world: Arc::clone(world), held: Arc::clone(held), courier: courier(world, held, number).await? };
    run.recover().await?;
    let plan = match run.leftover_plan().await? {
        Some(plan) => plan,
        None => match run.plan().await? {
            Some(plan) => plan,
            None => return Ok(Ended::NothingToDo),
        },
    };
    run.apply(&plan).await
}

async fn courier(world: &Arc<World>, held: &Arc<Held>, number: u64) -> Result<Courier, StateError> {
    let (budgets, clock) = (Arc::clone(&world.state) as _, Arc::clone(&world.clock) as _);
    let limiter = Limiter::open_as(number, "fake", world.limits, budgets, clock).await?;
    let gate = limiter.gate(Lane::Live);
    let ports = Ports {
        sink: Arc::new(Network { roads: Arc::clone(&world.roads), gate, bug: world.bug }),
        state: Arc::clone(&world.state) as _,
        clock: Arc::clone(&world.clock) as _,
        boundaries: Arc::new(Unobserved),
        cancel: CancellationToken::new(),
    };
    Ok(Courier::new(ports, world.binding.clone(), Arc::clone(held) as _))
}

struct Run {
    world: Arc<World>,
    held: Arc<Held>,
    courier: Courier,
}

impl Run {
    async fn recover(&self) -> Result<(), Stopped> {
        let settled = self.courier.settle_open().await?;
        if settled.entries > 0 {
            self.world.chronicle.tell(format!("  settled: {settled:?}"));
        }
        self.sweep().await?;
        if self.world.bug != Some(Bug::ForgetsTheFold) {
            self.fold().await?;
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<(), Stopped> {
        if self.world.bug == Some(Bug::NeverSweeps) {
            return Ok(());
        }
        let (_, ledger) = self.ledger().await?;
        let named: BTreeMap<KeyHash, RowId> = ledger.into_iter().map(|(key, known)| (key, known.row)).collect();
        let is_blind = self.world.bug == Some(Bug::SweepsWithoutTheLedger);
        let swept = self.courier.sweep(&|key| named.get(&key).filter(|_| !is_blind).cloned()).await?;
        if swept.keys > 0 {
            self.world.chronicle.tell(format!("  swept: {swept:?}"));
        }
        Ok(())
    }

    async fn ledger(&self) -> Result<(u64, Ledger), StateError> {
        let manifest = self.world.state.ledger(&self.world.binding.key).await?;
        Ok(manifest.map_or((0, Ledger::new()), |manifest| {
            let segment = manifest.segments.last().expect("a ledger has a segment");
            (manifest.version, self.world.books.segment(&segment.name))
        }))
    }

    async fn fold(&self) -> Result<(), Stopped> {
        let World { state, books, binding, .. } = &*self.world;
        let (version, mut ledger) = self.ledger().await?;
        let mut last: Option<EntryId> = None;
        loop {
            let page = state.unfolded(&binding.key, last, 3).await?;
            let Some(entry) = page.last() else { break };
            last = Some(entry.id);
            page.iter().for_each(|entry| fold_entry(&mut ledger, entry));
        }
        if last.is_none() {
            return Ok(());
        }
        let live = ledger.values().filter(|known| known.is_live).count() as u64;
        let name = books.add_segment(ledger);
        let manifest = LedgerManifest {
            audience: binding.key.clone(),
            version: version + 1,
            segments: vec![SegmentRef { name, entries: live, bytes: 0, digest: String::new() }],
            live,
            live_by_owner: Vec::new(),
            identity: LedgerIdentity {
                hash_key_id: "key".to_owned(),
                key_spec: "Email:EMAIL".to_owned(),
                normalizer_version: 1,
                encoding_version: 1,
            },
        };
        Ok(state.commit_fold(&manifest, last, &self.held.current()).await?)
    }

    /// The plan to go on with; others are given up.
    async fn leftover_plan(&self) -> Result<Option<Arc<Plan>>, Stopped> {
        let mut resumable = None;
        for plan in self.world.books.applying() {
            let is_current = plan.source_version == self.world.source().0 && !self.was_overtaken(&plan).await?;
            if resumable.is_none() && is_current {
                self.world.chronicle.tell(format!("  goes on with plan {}", plan.id));
                resumable = Some(plan);
                continue;
            }
            let mut counts = tally(&*self.world.state, plan.id).await?;
            for operation in Operation::ALL {
                counts.of_mut(operation).cancel_rest(plan.changes(operation));
            }
            check(&plan, &counts)?;
            self.world.chronicle.tell(format!("  gives plan {} up", plan.id));
            self.world.books.end(plan.id);
        }
        Ok(resumable)
    }

    /// Whether the ledger has moved for another reason than this plan.
    async fn was_overtaken(&self, plan: &Plan) -> Result<bool, StateError> {
        let has_entries = !self.world.state.entries_of(plan.id, None, 1).await?.is_empty();
        let (version, _) = self.ledger().await?;
        Ok(version < plan.ledger_version || (version > plan.ledger_version && !has_entries))
    }

    async fn plan(&self) -> Result<Option<Arc<Plan>>, Stopped> {
        let (ledger_version, mut ledger) = self.ledger().await?;
        let (source_version, source) = self.world.source();
        if self.world.bug == Some(Bug::DeletesRowsOfOthers) {
            let row = self.world.roads.sink.rows_now().into_iter().find(|row| row.key_cell.is_none());
            if let Some(row) = row {
                ledger.insert(key_hash(9_999), Known { row: row.row_id, content: None, is_live: true });
            }
        }
        let batches = diff(&source, &ledger);
        if batches.is_empty() {
            return Ok(None);
        }
        let id = PlanId::parse(&uuid(self.world.books.next_number())).expect("it is a UUID");
        let plan = Plan { id, source_version, ledger_version, batches };
        let changes = Operation::ALL.map(|operation| plan.changes(operation));
        self.world.chronicle.tell(format!("  plan {id}: {changes:?}"));
        Ok(Some(self.world.books.begin(plan)))
    }

    async fn apply(&self, plan: &Arc<Plan>) -> Result<Ended, Stopped> {
        let terms = Terms {
            sync: SyncName::new("people"),
            plan: plan.id,
            run: RunId::parse(&uuid(self.held.current().fence)).expect("it is a UUID"),
            changes: Operation::ALL.iter().map(|operation| plan.changes(*operation)).sum(),
            reject_limit: Limit::unlimited(),
            allow_blind_creates: false,
        };
        let batches = futures::stream::iter(plan.batches.iter().cloned().map(Ok::<_, Infallible>));
        let report = match self.courier.deliver(batches, &terms, &Unwatched).await {
            Ok(report) => report,
            Err(error) => {
                // What cannot be folded now is folded by the next run.
                let _ = self.fold().await;
                return Err(error.into());
            }
        };
        if report.end != DeliveryEnd::Complete || report.in_doubt > 0 {
            self.fold().await?;
            return Ok(match report.end {
                DeliveryEnd::WaitingForQuota { until } => Ended::WaitsForQuota(until),
                end => Ended::Failed(format!("{end:?}, {} in doubt", report.in_doubt)),
            });
        }
        self.sweep().await?;
        self.fold().await?;
        check(plan, &report.counts)?;
        // Stands for the transaction that settles a run: it asks for the fence.
        self.world.state.renew(&self.held.current(), LEASE_TTL).await?;
        self.world.books.end(plan.id);
        self.world.state.forget_entries(plan.id).await?;
        let is_change = |operation: &Operation| {
            let counts = report.counts.of(*operation);
            counts.acknowledged + counts.found_removed > 0
        };
        Ok(Ended::Settled { changed: Operation::ALL.iter().any(is_change) })
    }
}

/// Every change of the plan is settled.
fn check(plan: &Plan, counts: &DeliveryCounts) -> Result<(), Stopped> {
    for operation in Operation::ALL {
        let (planned, settled) = (plan.changes(operation), counts.of(operation).settled());
        if planned != settled {
            let what = format!("plan {}: {planned} of kind {}, {settled} settled", plan.id, operation.as_str());
            return Err(Stopped::Unbalanced(what));
        }
    }
    Ok(())
}

fn uuid(number: u64) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}
