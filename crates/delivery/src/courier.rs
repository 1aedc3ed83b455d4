//! Brings the changes of a plan to an audience, and finds out what became of those in doubt.
//!
//! A thin layer: what to do next about a batch is decided by [`crate::protocol`]; here it is done. All requests of a
//! delivery run inside the returned future, at most `requests_in_flight` at once: dropping it stops everything, and
//! leaves behind what a crash would, which [`Courier::settle_open`] settles. A batch holds one of these slots from its
//! intent to its answer; the next batch's intent and the noting of that answer then share a commit.

mod batch;
mod desk;
mod portions;
mod reject;
mod resume;
mod settle;
mod sweep;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::boundary::BoundaryObserver;
use convoke_core::plan::{DeliveryCounts, PlannedBatch};
use convoke_core::sink::{AttemptTag, AudienceBinding, Capabilities, Destination};
use convoke_core::spec::Limit;
use convoke_core::state::StateStore;
use convoke_core::{Clock, KeyHash, PlanId, RowId, RunId, StateError, SyncName, Timestamp};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::batch::{BatchEnd, BatchOutcome, BatchRun, Errand};
use self::desk::Desk;
use self::reject::RejectTally;
use crate::lease::LeaseView;
use crate::protocol::{Assumptions, BatchTask, Machine, Resume};
use crate::report::{DeliveryEnd, DeliveryError, DeliveryProgress, DeliveryReport, SettleReport, SweepReport};

/// The rest of the world, as delivery needs it.
#[derive(Clone)]
pub struct Ports {
    pub sink: Arc<dyn Destination>,
    pub state: Arc<dyn StateStore>,
    pub clock: Arc<dyn Clock>,
    pub boundaries: Arc<dyn BoundaryObserver>,
    pub cancel: CancellationToken,
}

/// On whose behalf a plan is delivered, and within which bounds.
#[derive(Clone, Debug)]
pub struct Terms {
    pub sync: SyncName,
    pub plan: PlanId,
    pub run: RunId,
    /// Number of changes of the plan: the base of `reject_limit`.
    pub changes: u64,
    /// `guards.max_reject`; passing it stops delivery.
    pub reject_limit: Limit,
    /// Consent to creating rows where they cannot be looked up.
    pub allow_blind_creates: bool,
}

/// Writes one audience, under its lease.
pub struct Courier {
    ports: Ports,
    audience: AudienceBinding,
    lease: Arc<dyn LeaseView>,
}

impl Courier {
    /// A courier for one audience; `lease` tells whether it may still write.
    pub fn new(ports: Ports, audience: AudienceBinding, lease: Arc<dyn LeaseView>) -> Self {
        Self { ports, audience, lease }
    }

    /// Settles every open journal entry of the audience, left by a crash or by another process.
    ///
    /// Needs the journal only. Waits until nothing sent earlier can still commit, so call it before anything else is
    /// written to the audience.
    pub async fn settle_open(&self) -> Result<SettleReport, DeliveryError> {
        match settle::settle_open(&self.desk()).await {
            Err(error) if self.was_cut_short(&error) => {
                Ok(SettleReport { interrupted: true, ..SettleReport::default() })
            }
            settled => settled,
        }
    }

    /// Whether the error is only that a wait was cut short.
    fn was_cut_short(&self, error: &DeliveryError) -> bool {
        self.ports.cancel.is_cancelled() && error.ends_a_wait()
    }

    /// Delivers a plan's batches, but for what earlier attempts already settled.
    ///
    /// Call [`Courier::settle_open`] before: rows of entries that are still open are not sent, and count as in doubt.
    pub async fn deliver<E>(
        &self,
        batches: impl Stream<Item = Result<PlannedBatch, E>> + Send,
        terms: &Terms,
        progress: &dyn DeliveryProgress,
    ) -> Result<DeliveryReport, DeliveryError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let desk = self.desk();
        let resume = resume::load(&*self.ports.state, terms.plan).await.map_err(|error| desk.state_error(error))?;
        let recreated = desk.recreated().await?;
        let recreated = recreated.into_iter().map(|known| (known.key, known.tags)).collect();
        for operation in convoke_core::journal::Operation::ALL {
            progress.settled(operation, resume.counts.of(operation).settled());
        }
        await_quiet(&desk, progress).await?;
        let rejects = RejectTally::new(resume.counts.rejected() + resume.counts.failed(), terms);
        if rejects.passed().is_some() {
            desk.halt.cancel();
        }
        let slots = Semaphore::new(desk.ports.sink.capabilities().requests_in_flight.max(1));
        let errand = Errand { desk, terms, progress, rejects, slots };
        let mut delivery = Delivery {
            errand: &errand,
            counts: resume.counts,
            in_doubt: resume.in_doubt(),
            resume,
            recreated,
            error: None,
            was_cut: false,
        };
        delivery.run(batches).await;
        let Delivery { mut counts, in_doubt, error, was_cut, .. } = delivery;
        counts.requests += errand.desk.requests();
        let end = end_of(&errand, error, was_cut)?;
        Ok(DeliveryReport { counts, in_doubt, reject_samples: errand.rejects.into_samples(), end })
    }

    /// Looks keys that were created again up once more, and removes late doubles that are provably ours.
    ///
    /// `named` tells which row the ledger names for a key. Rows acknowledged in the journal and not folded yet are
    /// known here and go before it. Call [`Courier::settle_open`] before: keys of open entries are left out.
    pub async fn sweep(&self, named: &(dyn Fn(KeyHash) -> Option<RowId> + Sync)) -> Result<SweepReport, DeliveryError> {
        match sweep::sweep(&self.desk(), named).await {
            // The keys stay noted: the next run sweeps them.
            Err(error) if self.was_cut_short(&error) => Ok(SweepReport::default()),
            swept => swept,
        }
    }

    /// Keys that the next [`Courier::sweep`] will ask `named` about.
    pub async fn keys_to_sweep(&self) -> Result<Vec<KeyHash>, DeliveryError> {
        Ok(self.desk().recreated().await?.into_iter().map(|key| key.key).collect())
    }

    fn desk(&self) -> Desk<'_> {
        Desk::new(&self.ports, &self.audience, &*self.lease)
    }
}

/// Counts from the journal what became of a plan's changes; `cancelled` and `doubles_removed` are left at zero.
///
/// Updates that may not have been applied count as acknowledged and incomplete: the next plan sends them again.
pub async fn tally(state: &dyn StateStore, plan: PlanId) -> Result<DeliveryCounts, StateError> {
    Ok(resume::load(state, plan).await?.into_counts())
}

/// How long to wait for the moment after which no earlier request can commit.
///
/// What is noted for an unclear answer is the time of the answer, a `max_commit_delay` and a `settle`. The request left
/// before its answer, so the delay alone would do on one clock; `settle` is room for wall clocks of two machines that
/// differ, and keeps what is sent next from meeting a commit at the very bound. More is left only if the wall clock was
/// set back since.
pub fn until_quiet(capabilities: &Capabilities, until: Timestamp, now: Timestamp) -> Duration {
    until.since(now).min(capabilities.max_commit_delay + capabilities.settle)
}

/// Waits until no request of an earlier plan can commit any more.
async fn await_quiet(desk: &Desk<'_>, progress: &dyn DeliveryProgress) -> Result<(), DeliveryError> {
    let quiet = desk.ports.state.quiet_until(&desk.audience.key).await;
    let Some(until) = quiet.map_err(|error| desk.state_error(error))? else { return Ok(()) };
    let now = desk.ports.clock.now();
    let left = until_quiet(&desk.ports.sink.capabilities(), until, now);
    if !left.is_zero() {
        progress.waiting("an earlier request may still commit", now.after(left));
        desk.wait(left, Duration::ZERO).await;
    }
    Ok(())
}

fn end_of(errand: &Errand<'_>, error: Option<DeliveryError>, was_cut: bool) -> Result<DeliveryEnd, DeliveryError> {
    if let Some(error) = error {
        return match error.quota() {
            _ if errand.desk.ports.cancel.is_cancelled() && error.ends_a_wait() => Ok(DeliveryEnd::Interrupted),
            Some(exhausted) => Ok(DeliveryEnd::WaitingForQuota { until: exhausted.until }),
            None => Err(error),
        };
    }
    if let Some(rejected) = errand.rejects.passed() {
        return Ok(DeliveryEnd::RejectLimit { rejected });
    }
    Ok(if was_cut { DeliveryEnd::Interrupted } else { DeliveryEnd::Complete })
}

/// One delivery under way.
struct Delivery<'a> {
    errand: &'a Errand<'a>,
    resume: Resume,
    /// Keys that an earlier attempt may yet turn up for, with the tags of such attempts.
    recreated: HashMap<KeyHash, Vec<AttemptTag>>,
    counts: DeliveryCounts,
    in_doubt: u64,
    /// The first error; it ends the delivery.
    error: Option<DeliveryError>,
    /// Whether something was left undone for a halt.
    was_cut: bool,
}

impl<'a> Delivery<'a> {
    /// Keeps `requests_in_flight` requests going until the plan or the wish to go on ends. As many batches more may be
    /// noting their answers, or waiting to send what is left of them.
    async fn run<E>(&mut self, batches: impl Stream<Item = Result<PlannedBatch, E>> + Send)
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let errand = self.errand;
        let most_batches = 2 * errand.slots.available_permits();
        let mut batches = pin!(batches);
        let mut running = FuturesUnordered::new();
        let mut handed_over = 0;
        let mut has_more = true;
        loop {
            let may_start = has_more && !errand.desk.halt.is_cancelled() && running.len() < most_batches;
            let next = async { (errand.slot().await, batches.next().await) };
            tokio::select! {
                biased;
                Some(outcome) = running.next(), if !running.is_empty() => self.add(outcome),
                (slot, next) = next, if may_start => {
                    has_more = next.is_some();
                    let Some(batch) = next else { continue };
                    match self.prepare(batch.map_err(Into::into), handed_over) {
                        Ok(Some(run)) => running.push(Box::pin(run.run(slot))),
                        Ok(None) => {}
                        Err(error) => self.fail(error),
                    }
                    handed_over += 1;
                }
                else => break,
            }
        }
        self.was_cut |= has_more;
    }

    /// The work on a batch; none if nothing of it is left.
    fn prepare(
        &self,
        batch: Result<PlannedBatch, Box<dyn std::error::Error + Send + Sync>>,
        number: u64,
    ) -> Result<Option<BatchRun<'a>>, DeliveryError> {
        let batch = batch.map_err(|source| DeliveryError::Plan { number, source })?;
        let Errand { desk, terms, .. } = self.errand;
        let rows = self.resume.left_of(batch.number, &batch.rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let is_create = batch.operation == convoke_core::journal::Operation::Create;
        let key_look_up = desk.audience.key_look_up.is_some();
        if is_create && !key_look_up && !terms.allow_blind_creates {
            return Err(DeliveryError::NeedsConsent { audience: desk.audience.name.clone() });
        }
        let tags_of = |row: &u32| self.recreated.get(&batch.rows[*row as usize].key).filter(|_| is_create);
        let tag_seed = tag_seed(terms.plan, batch.number);
        let attempts_before = self.resume.attempts_of(batch.number);
        let noted = rows.iter().filter_map(tags_of).flatten().copied();
        let task = BatchTask {
            operation: batch.operation,
            attempts_swept: BatchTask::swept(noted, tag_seed, attempts_before),
            recreated: rows.iter().copied().filter(|row| tags_of(row).is_some()).collect(),
            rows,
            attempts_before,
            tag_seed,
        };
        let assumptions = Assumptions::of(&desk.ports.sink.capabilities(), key_look_up);
        Ok(Some(BatchRun::new(self.errand, batch, Machine::new(assumptions, task))))
    }

    fn add(&mut self, outcome: BatchOutcome) {
        let counts = self.counts.of_mut(outcome.operation);
        counts.acknowledged += outcome.counts.acknowledged;
        counts.incomplete += outcome.counts.incomplete;
        counts.failed += outcome.counts.failed;
        counts.rejected += outcome.counts.rejected;
        counts.found_removed += outcome.counts.found_removed;
        self.in_doubt += outcome.in_doubt;
        match outcome.result {
            Ok(end) => self.was_cut |= end == BatchEnd::Cancelled,
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: DeliveryError) {
        self.errand.desk.halt.cancel();
        self.error.get_or_insert(error);
    }
}

/// Where a batch's tags begin: spread over all values, so that a key has another tag in each plan.
///
/// FNV-1a: the tags of one key must differ between plans, not be hard to guess.
fn tag_seed(plan: PlanId, batch: u32) -> u32 {
    let bytes = plan.0.as_bytes().iter().copied().chain(batch.to_le_bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
