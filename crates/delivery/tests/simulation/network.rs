//! The way to the destination and back, with all that goes wrong on it, as the dice of a seed decide.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::gate::{Closed, Feedback, Gate};
use convoke_core::sink::{
    Answer, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, FoundRow, JobId, JobState, LookUp, Provision,
    ProvisionAnswer, Refusal, Request, ScanPage, Sink, Survey,
};
use convoke_core::{Clock, RowId, SinkError};
use convoke_testkit::clock::TestClock;
use convoke_testkit::fake_sink::{FakeSink, WriteFault};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::chronicle::{Chronicle, Fault};
use crate::story::Bug;

const LATENCY: Duration = Duration::from_millis(40);

/// What may happen to any write.
const OF_WRITES: [Fault; 12] = [
    Fault::ConnectionRefused,
    Fault::LostRequest,
    Fault::LostAnswer,
    Fault::ErrorAfterCommit,
    Fault::AnswerAfterTimeout,
    Fault::TruncatedAnswer,
    Fault::AnswerOutsideTheContract,
    Fault::LateCommit,
    Fault::DuplicatedRequest,
    Fault::TooManyRequests,
    Fault::LongOverload,
    Fault::ExpiredToken,
];
const OF_UPSERTS: [Fault; 4] = [Fault::ShuffledAnswer, Fault::ShortAnswer, Fault::FailedCells, Fault::TooLarge];
const OF_DELETES: [Fault; 4] = [Fault::SlowJob, Fault::PartlyDoneJob, Fault::PartlyDoneJob, Fault::LostJob];

/// What all processes of a story share: the destination, and the dice.
pub(crate) struct Roads {
    pub(crate) sink: Arc<FakeSink>,
    clock: Arc<TestClock>,
    chronicle: Arc<Chronicle>,
    dice: Mutex<Dice>,
}

struct Dice {
    random: StdRng,
    /// Share of requests that something happens to; none while it is calm.
    rate: f64,
    lost_jobs: BTreeSet<String>,
    /// Rows that lacked a cell when a process was cut short: it may have learnt that, or not.
    failed_unheard: BTreeSet<RowId>,
}

impl Roads {
    pub(crate) fn new(sink: Arc<FakeSink>, clock: Arc<TestClock>, chronicle: Arc<Chronicle>, seed: u64) -> Self {
        let (lost_jobs, failed_unheard) = Default::default();
        let dice = Dice { random: StdRng::seed_from_u64(seed), rate: 0.0, lost_jobs, failed_unheard };
        Self { sink, clock, chronicle, dice: Mutex::new(dice) }
    }

    /// From now on so large a share of requests goes wrong.
    pub(crate) fn set_rate(&self, rate: f64) {
        self.dice().rate = rate;
    }

    /// A process was cut short: which answers it had taken in by then is chance.
    pub(crate) fn cut_short(&self) {
        let rows = self.sink.rows_now().into_iter().filter(|row| row.cells == [None]);
        self.dice().failed_unheard.extend(rows.map(|row| row.row_id));
    }

    /// Rows that lack a cell, and of which that may never have been heard.
    pub(crate) fn failed_unheard(&self) -> BTreeSet<RowId> {
        self.dice().failed_unheard.clone()
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_troubled(&self) -> bool {
        self.dice().rate > 0.0
    }

    fn write_fault(&self, request: &Request) -> Option<Fault> {
        let Dice { random, rate, .. } = &mut *self.dice();
        if !random.random_bool(*rate) {
            return None;
        }
        let own: &[Fault] = if matches!(request, Request::Delete { .. }) { &OF_DELETES } else { &OF_UPSERTS };
        let kinds = if random.random_bool(0.35) { own } else { &OF_WRITES[..] };
        kinds.choose(random).copied()
    }

    fn read_fails(&self) -> bool {
        let Dice { random, rate, .. } = &mut *self.dice();
        random.random_bool(*rate / 4.0)
    }

    fn up_to(&self, most: Duration) -> Duration {
        most.mul_f64(self.dice().random.random())
    }

    /// What a refusal says about the rows that it is for: all, nothing, or something wrong.
    fn blur(&self, mut refusal: Refusal, rows: usize) -> Answer {
        let Dice { random, rate, .. } = &mut *self.dice();
        let chance = if *rate > 0.0 { random.random_range(0..4) } else { 3 };
        match chance {
            0 => {
                self.chronicle.fault(Fault::VagueRefusal);
                refusal.problems.iter_mut().for_each(|problem| problem.index = None);
            }
            1 if rows > 1 => {
                self.chronicle.fault(Fault::MisleadingRefusal);
                let wrong = |index: usize| (index + 1) % rows;
                refusal.problems.iter_mut().for_each(|problem| problem.index = problem.index.map(wrong));
            }
            _ => {}
        }
        Answer::Refused(refusal)
    }
}

/// The destination as one process reaches it.
pub(crate) struct Network {
    pub(crate) roads: Arc<Roads>,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) bug: Option<Bug>,
}

fn unknown(reason: &str) -> Answer {
    Answer::Unknown { reason: reason.to_owned() }
}

impl Network {
    fn fault(&self, fault: Fault) {
        self.roads.chronicle.fault(fault);
    }

    /// Waits for the gate; while it is closed for an outage the request was not sent.
    async fn admit(&self) -> Result<bool, SinkError> {
        match self.gate.admit().await {
            Ok(()) => Ok(true),
            Err(Closed::Down { .. }) => Ok(false),
            Err(Closed::Quota(exhausted)) => {
                self.fault(Fault::UsedUpQuota);
                Err(exhausted.into())
            }
        }
    }

    /// What every read meets on its way.
    async fn go_and_ask(&self) -> Result<(), SinkError> {
        if !self.admit().await? {
            return Err(unavailable());
        }
        let failed = self.roads.read_fails();
        self.report(failed).await;
        if failed {
            self.fault(Fault::FailedRead);
            return Err(unavailable());
        }
        Ok(())
    }

    async fn report(&self, failed: bool) {
        self.gate.report(Feedback { failed, ..Feedback::default() }).await;
    }

    async fn reach(&self, request: &Request) -> Result<Answer, SinkError> {
        self.reach_with(WriteFault::None, request).await
    }

    /// Reaches the destination, where something may be done to the request.
    async fn reach_with(&self, fault: WriteFault, request: &Request) -> Result<Answer, SinkError> {
        let answer = self.roads.sink.send_with(fault, request).await?;
        let Answer::Refused(refusal) = answer else { return Ok(answer) };
        if self.roads.is_troubled() && refusal.problems.iter().any(|problem| problem.code == "POISONED") {
            self.fault(Fault::PoisonRow);
        }
        let first = refusal.problems.iter().filter_map(|problem| problem.index).min();
        let is_troubled = self.roads.is_troubled();
        if is_troubled && first.is_some_and(|first| first > 0) && !self.roads.sink.capabilities().atomic_refusals {
            self.fault(Fault::HalfCommittedRefusal);
        }
        Ok(self.roads.blur(refusal, request.row_count()))
    }

    async fn meet(&self, fault: Fault, request: &Request) -> Result<Answer, SinkError> {
        let Capabilities { max_commit_delay, request_timeout, .. } = self.roads.sink.capabilities();
        let roads = &self.roads;
        match fault {
            Fault::ConnectionRefused | Fault::LongOverload | Fault::TooManyRequests => {
                roads.clock.sleep(LATENCY).await;
                let retry_after = self.put_off(fault).await;
                Ok(Answer::NotApplied { reason: "not now".to_owned(), retry_after })
            }
            Fault::LostRequest => {
                roads.clock.sleep(LATENCY).await;
                Ok(unknown("reset"))
            }
            Fault::LostAnswer | Fault::ErrorAfterCommit | Fault::TruncatedAnswer => {
                self.reach(request).await.map(|_| unknown("lost"))
            }
            Fault::AnswerAfterTimeout => {
                self.reach(request).await?;
                roads.clock.sleep(request_timeout).await;
                Ok(unknown("timed out"))
            }
            Fault::DuplicatedRequest => {
                self.reach(request).await?;
                self.reach(request).await.map(|_| unknown("reset"))
            }
            Fault::AnswerOutsideTheContract => {
                self.reach(request).await?;
                Err(SinkError::Protocol { message: "no such answer is known".to_owned() })
            }
            Fault::ExpiredToken => Err(SinkError::Unauthorized { message: "the token has expired".to_owned() }),
            Fault::TooLarge if request.row_count() > 1 => {
                Ok(Answer::Refused(Refusal { too_large: true, problems: Vec::new() }))
            }
            Fault::LateCommit => {
                let by = roads.up_to(max_commit_delay);
                self.reach_with(WriteFault::LateCommit { by }, request).await
            }
            Fault::ShuffledAnswer => self.reach_with(WriteFault::Shuffled, request).await,
            Fault::ShortAnswer => self.reach_with(WriteFault::ShortAnswer, request).await,
            Fault::FailedCells => self.reach_with(WriteFault::FailedCells, request).await,
            Fault::SlowJob => {
                let by = roads.up_to(Duration::from_secs(900));
                self.reach_with(WriteFault::SlowJob { by }, request).await
            }
            Fault::PartlyDoneJob | Fault::LostJob => {
                let by = roads.up_to(Duration::from_secs(30));
                let answer = self.reach_with(WriteFault::PartJob { by }, request).await?;
                if let (Fault::LostJob, Answer::Accepted(job)) = (fault, &answer) {
                    roads.dice().lost_jobs.insert(job.0.clone());
                }
                Ok(answer)
            }
            _ => self.reach(request).await,
        }
    }

    /// How long the destination asks to stay away, if it says so.
    async fn put_off(&self, fault: Fault) -> Option<Duration> {
        let after = match fault {
            Fault::TooManyRequests => self.roads.up_to(Duration::from_secs(20)),
            Fault::LongOverload => Duration::from_secs(300),
            _ => return None,
        };
        let rejected = fault == Fault::TooManyRequests;
        if rejected {
            let retry_after = Some(after);
            self.gate.report(Feedback { rejected, retry_after, ..Feedback::default() }).await;
        }
        Some(after)
    }

    fn tell(&self, request: &Request, answer: &Result<Answer, SinkError>) {
        let kind = match request {
            Request::Create { .. } => "create",
            Request::Update { .. } => "update",
            Request::Delete { .. } => "delete",
        };
        let what: Vec<String> = match request {
            Request::Create { key_cells, .. } => {
                key_cells.iter().map(|cell| cell.to_string()[..8].to_owned()).collect()
            }
            Request::Update { row_ids, .. } | Request::Delete { row_ids } => {
                row_ids.iter().map(ToString::to_string).collect()
            }
        };
        let answer = match answer {
            Ok(Answer::Applied(rows)) => format!("applied {}", rows.len()),
            answer => format!("{answer:?}"),
        };
        self.roads.chronicle.tell(format!("  {kind} {} -> {answer}", what.join(",")));
    }

    /// Counts a look-up that misses what is there.
    fn note_lag(&self, query: &LookUp, found: &[FoundRow]) {
        let rows = self.roads.sink.rows_now();
        let there = rows.iter().filter(|row| match query {
            LookUp::KeyCells(cells) => row.key_cell.is_some_and(|cell| cells.contains(&cell)),
            LookUp::Keys(keys) => row.key_cell.is_some_and(|cell| keys.contains(&cell.key)),
            LookUp::RowIds(row_ids) => row_ids.contains(&row.row_id),
        });
        if there.count() > found.len() {
            self.fault(Fault::LaggingSearch);
        }
    }
}

fn unavailable() -> SinkError {
    SinkError::Unavailable { message: "not now".to_owned(), retry_after: None, cause: None }
}

#[async_trait]
impl Sink for Network {
    fn capabilities(&self) -> Capabilities {
        self.roads.sink.capabilities()
    }

    async fn send(&self, _audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        if !self.admit().await? {
            return Ok(Answer::NotApplied { reason: "every request fails".to_owned(), retry_after: None });
        }
        let fault = self.roads.write_fault(request);
        let answer = match fault {
            Some(fault) => {
                self.fault(fault);
                self.meet(fault, request).await
            }
            None => self.reach(request).await,
        };
        let is_refused_connection = fault == Some(Fault::ConnectionRefused);
        self.report(is_refused_connection || matches!(answer, Ok(Answer::Unknown { .. }))).await;
        self.tell(request, &answer);
        match answer {
            Ok(Answer::Unknown { reason }) if self.bug == Some(Bug::SendsAgainWhatIsInDoubt) => {
                Ok(Answer::NotApplied { reason, retry_after: None })
            }
            answer => answer,
        }
    }

    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        self.go_and_ask().await?;
        if self.roads.dice().lost_jobs.contains(&job.0) {
            return Ok(JobState::Incomplete);
        }
        self.roads.sink.poll(audience, job).await
    }

    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        self.go_and_ask().await?;
        let found = self.roads.sink.look_up(audience, query).await?;
        self.note_lag(query, &found);
        self.roads.chronicle.tell(format!("  look-up finds {}", found.len()));
        Ok(found)
    }

    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        self.roads.sink.scan(audience, cursor).await
    }
}

#[async_trait]
impl AudienceSetup for Network {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        self.roads.sink.survey(target, known_id).await
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.roads.sink.provision(step).await
    }
}
