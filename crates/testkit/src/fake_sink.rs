//! An audience in memory, with faults.
//!
//! Behaves as a destination may at worst within its declared [`Capabilities`]: answers and requests get lost, requests
//! commit late, search lags behind, refusals may leave a part done. What happens to a request is decided when it
//! arrives and holds also if the caller stops listening. Tests read the rows directly, past the API.

mod audience;
mod enriching;
mod faults;
mod setup;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use convoke_core::enrichment::{EnrichmentAnswer, EnrichmentJob, EnrichmentScope, RowStates};
use convoke_core::gate::QuotaExhausted;
use convoke_core::sink::{
    Answer, AppliedRow, AudienceBinding, AudienceSetup, AudienceTarget, BoundColumn, Capabilities, FailedCell,
    FoundRow, JobId, JobState, KEY_COLUMN, KeyCell, KeyLookUp, LookUp, Problem, Provision, ProvisionAnswer, Refusal,
    Request, ScanPage, ScannedRow, Sink, Survey,
};
use convoke_core::{AudienceKey, Clock, ConnectionName, DataType, KeyHash, RowId, SinkError, Timestamp};

pub use audience::LiveRow;
use audience::{Audience, NewRow};
use enriching::{Enriching, contains};
use faults::{Dice, shortened, shuffled};
pub use faults::{Faults, WriteFault};
use setup::Account;

/// A row whose first cell holds this is refused.
pub const POISON: &str = "poison";

/// How long a request is under way.
const LATENCY: Duration = Duration::from_millis(40);

/// A destination in memory.
pub struct FakeSink {
    clock: Arc<dyn Clock>,
    capabilities: Capabilities,
    inner: Mutex<Inner>,
}

struct Inner {
    audience: Audience,
    account: Account,
    /// Surveys to come that show the account as it was when it was empty.
    outdated_surveys: u32,
    dice: Dice,
    /// Requests that arrived.
    sent: Vec<Request>,
    /// When each delete job ends, and how.
    jobs: Vec<(Duration, JobState)>,
    enriching: Enriching,
    deepest: usize,
    under_way: usize,
}

impl FakeSink {
    /// An empty account whose requests meet these faults.
    pub fn new(clock: Arc<dyn Clock>, capabilities: Capabilities, faults: Faults) -> Arc<Self> {
        let inner = Inner {
            audience: Audience::default(),
            account: Account::default(),
            outdated_surveys: 0,
            dice: Dice::new(faults),
            sent: Vec::new(),
            jobs: Vec::new(),
            enriching: Enriching::default(),
            deepest: 0,
            under_way: 0,
        };
        Arc::new(Self { clock, capabilities, inner: Mutex::new(inner) })
    }

    /// Capabilities like those of GTM Studio, at a smaller scale.
    pub fn small_capabilities() -> Capabilities {
        Capabilities {
            upsert_rows: 8,
            delete_rows: 8,
            look_up_ids: 5,
            atomic_refusals: true,
            max_commit_delay: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            requests_in_flight: 3,
            enrich_rows: Some(4),
        }
    }

    /// A binding to the audience, made without any set-up: TEXT columns of these names.
    pub fn binding(columns: &[&str], key_look_up: Option<KeyLookUp>) -> AudienceBinding {
        let bound = |name: &&str| BoundColumn {
            id: format!("column-{name}"),
            name: (*name).to_owned(),
            data_type: DataType::Text,
        };
        AudienceBinding {
            key: AudienceKey { connection: ConnectionName::new("fake"), audience_id: "audience-1".to_owned() },
            name: "Fake audience".to_owned(),
            columns: columns.iter().map(bound).collect(),
            key_column_id: format!("column-{KEY_COLUMN}"),
            key_look_up,
        }
    }

    /// Decides what happens to the next writes, before the dice do.
    pub fn script(&self, faults: impl IntoIterator<Item = WriteFault>) {
        self.inner().dice.script(faults);
    }

    /// From now on nothing goes wrong.
    pub fn calm_down(&self) {
        self.inner().dice = Dice::new(Faults::none());
    }

    /// Puts a row there that somebody else made.
    pub fn add_foreign_row(&self, cells: &[&str]) -> RowId {
        let cells = cells.iter().map(|cell| Some((*cell).to_owned())).collect();
        self.inner().audience.create(NewRow { key_cell: None, cells }, Duration::ZERO, Duration::ZERO)
    }

    /// Puts a row there that was made by an earlier plan.
    pub fn add_row(&self, key_cell: KeyCell, cells: &[&str]) -> RowId {
        let cells = cells.iter().map(|cell| Some((*cell).to_owned())).collect();
        self.inner().audience.create(NewRow { key_cell: Some(key_cell), cells }, Duration::ZERO, Duration::ZERO)
    }

    /// Takes a row away, as a person might.
    pub fn remove_row(&self, row_id: &RowId) {
        let now = self.clock.elapsed();
        self.inner().audience.delete(row_id, now);
    }

    /// What the audience holds once everything on its way has committed.
    pub fn rows(&self) -> Vec<LiveRow> {
        self.inner().audience.live(Duration::MAX)
    }

    /// What the audience holds now, whether search shows it or not.
    pub fn rows_now(&self) -> Vec<LiveRow> {
        self.inner().audience.live(self.clock.elapsed())
    }

    /// Key cells of the live rows of a key.
    pub fn key_cells_of(&self, key: KeyHash) -> Vec<KeyCell> {
        self.rows().iter().filter_map(|row| row.key_cell).filter(|cell| cell.key == key).collect()
    }

    /// Requests that arrived so far, applied or not.
    pub fn sent(&self) -> Vec<Request> {
        self.inner().sent.clone()
    }

    /// Decides what the next requests for enrichments are answered, in place of a job.
    pub fn script_enrichments(&self, answers: impl IntoIterator<Item = EnrichmentAnswer>) {
        self.inner().enriching.script(answers);
    }

    /// Decides how long the next enrichments take, and how they end.
    pub fn script_enrichment_ends(&self, ends: impl IntoIterator<Item = (Duration, EnrichmentJob)>) {
        self.inner().enriching.script_ends(ends);
    }

    /// Requests for enrichments that arrived so far, whatever they were answered.
    pub fn enrichments_asked_for(&self) -> Vec<EnrichmentScope> {
        self.inner().enriching.asked.clone()
    }

    /// The most writes that were under way at once.
    pub fn most_in_flight(&self) -> usize {
        self.inner().deepest
    }

    /// Number of folders, audiences and columns of the account, to see that nothing was littered.
    pub fn made(&self) -> (usize, usize, usize) {
        self.inner().account.made()
    }

    /// From now on names lose the spaces around them, as at a destination that tidies them.
    pub fn trim_names(&self) {
        self.inner().account.trim_names();
    }

    /// The next surveys see nothing, as if they had looked before anything was made.
    pub fn outdate_surveys(&self, count: u32) {
        self.inner().outdated_surveys = count;
    }

    /// Makes an audience of this id, as a person might: with no columns, visible at once.
    pub fn add_audience(&self, id: &str, name: &str, kind: &str) {
        self.inner().account.add_audience(id, name, kind);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one attempt at a request to which this happens, whatever script and dice say.
    pub async fn send_with(&self, fault: WriteFault, request: &Request) -> Result<Answer, SinkError> {
        self.send_once(Some(fault), request).await
    }

    async fn send_once(&self, fault: Option<WriteFault>, request: &Request) -> Result<Answer, SinkError> {
        self.clock.sleep(LATENCY).await;
        {
            let mut inner = self.inner();
            inner.under_way += 1;
            inner.deepest = inner.deepest.max(inner.under_way);
        }
        let _under_way = UnderWay(self);
        let answer = self.take_in(fault, request);
        self.clock.sleep(LATENCY).await;
        answer
    }

    /// Decides what becomes of a request, unless that is known, and does it.
    fn take_in(&self, fault: Option<WriteFault>, request: &Request) -> Result<Answer, SinkError> {
        let now = self.clock.elapsed();
        let mut inner = self.inner();
        inner.sent.push(request.clone());
        let fault = fault.unwrap_or_else(|| inner.dice.write_fault(&self.capabilities));
        match fault {
            WriteFault::LostRequest => return Ok(Answer::Unknown { reason: "connection reset".to_owned() }),
            WriteFault::Unavailable => return Err(unavailable()),
            WriteFault::NotApplied { retry_after } => {
                return Ok(Answer::NotApplied { reason: "too many requests".to_owned(), retry_after });
            }
            WriteFault::UsedUp => return Err(used_up(self.clock.now())),
            WriteFault::Forbidden => {
                let applied = if self.capabilities.atomic_refusals { 0 } else { request.row_count() / 2 };
                inner.apply(request, applied, now, Duration::ZERO);
                return Err(forbidden());
            }
            _ => {}
        }
        let commit_at = now
            + match fault {
                WriteFault::LateCommit { by } | WriteFault::SlowJob { by } | WriteFault::PartJob { by } => by,
                _ => Duration::ZERO,
            };
        let lag = inner.dice.search_lag(self.capabilities.settle);
        let answer = match refusal_of(&inner.audience, request, now) {
            Some(refusal) => {
                if !self.capabilities.atomic_refusals {
                    let good = refusal.problems.iter().filter_map(|problem| problem.index).min().unwrap_or(0);
                    inner.apply(request, good, commit_at, lag);
                }
                inner.dice.blur(refusal)
            }
            None if matches!(fault, WriteFault::PartJob { .. }) => {
                let answer = inner.apply(request, request.row_count() / 2, commit_at, lag);
                inner.cut_job(answer)
            }
            None => inner.apply(request, usize::MAX, commit_at, lag),
        };
        Ok(match fault {
            WriteFault::LostAnswer | WriteFault::LateCommit { .. } => {
                Answer::Unknown { reason: "no answer in time".to_owned() }
            }
            WriteFault::ShortAnswer => shortened(answer),
            WriteFault::Shuffled => shuffled(answer),
            WriteFault::IncompleteJob => inner.cut_job(answer),
            WriteFault::FailedCells => inner.fail_cells(answer, now),
            _ => answer,
        })
    }
}

impl Inner {
    /// Applies the first `count` rows of a request.
    fn apply(&mut self, request: &Request, count: usize, commit_at: Duration, lag: Duration) -> Answer {
        let applied = |index, row_id| AppliedRow { index, row_id, failed_cells: Vec::new() };
        match request {
            Request::Create { cells, key_cells } => {
                let rows = key_cells.iter().enumerate().take(count).map(|(index, key_cell)| {
                    let row = NewRow { key_cell: Some(*key_cell), cells: cells_of(cells, index) };
                    applied(index, self.audience.create(row, commit_at, lag))
                });
                Answer::Applied(rows.collect())
            }
            Request::Update { cells, row_ids } => {
                for (index, row_id) in row_ids.iter().enumerate().take(count) {
                    self.audience.update(row_id, cells_of(cells, index), commit_at);
                }
                Answer::Applied(row_ids.iter().cloned().enumerate().map(|(index, id)| applied(index, id)).collect())
            }
            Request::Delete { row_ids } => {
                let is_cut = self.dice.next_job_is_cut();
                let done = if is_cut { row_ids.len() / 2 } else { row_ids.len() };
                row_ids.iter().take(done.min(count)).for_each(|row_id| self.audience.delete(row_id, commit_at));
                self.jobs.push((commit_at, if is_cut { JobState::Incomplete } else { JobState::Succeeded }));
                Answer::Accepted(JobId((self.jobs.len() - 1).to_string()))
            }
        }
    }

    /// Empties the first row of an answer, which says so.
    fn fail_cells(&mut self, answer: Answer, now: Duration) -> Answer {
        let Answer::Applied(mut rows) = answer else { return answer };
        if let Some(row) = rows.first_mut() {
            self.audience.update(&row.row_id, vec![None], now);
            row.failed_cells =
                vec![FailedCell { column: "Email".to_owned(), summary: "the fake does not take it".to_owned() }];
        }
        Answer::Applied(rows)
    }

    /// Lets a job say that it was not done in full.
    fn cut_job(&mut self, answer: Answer) -> Answer {
        if let (Answer::Accepted(_), Some((_, state))) = (&answer, self.jobs.last_mut()) {
            *state = JobState::Incomplete;
        }
        answer
    }
}

fn used_up(now: Timestamp) -> SinkError {
    SinkError::Quota(QuotaExhausted { until: now.after(Duration::from_secs(3_600)) })
}

fn forbidden() -> SinkError {
    SinkError::Forbidden { message: "the fake does not allow it".to_owned() }
}

fn unavailable() -> SinkError {
    SinkError::Unavailable { message: "the fake is out".to_owned(), retry_after: None, cause: None }
}

fn cells_of(cells: &RecordBatch, row: usize) -> Vec<Option<String>> {
    let cell = |column: &Arc<dyn Array>| {
        let texts = column.as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    cells.columns().iter().map(cell).collect()
}

fn refusal_of(audience: &Audience, request: &Request, now: Duration) -> Option<Refusal> {
    let is_poisoned = |cells: &RecordBatch, row| {
        cells_of(cells, row).first().and_then(Option::as_deref).is_some_and(|text| text.contains(POISON))
    };
    let is_gone = |row_id: &RowId| !audience.exists(row_id, now);
    let problem_of = |index: usize| match request {
        Request::Create { cells, .. } | Request::Update { cells, .. } if is_poisoned(cells, index) => Some("POISONED"),
        Request::Update { row_ids, .. } | Request::Delete { row_ids } if is_gone(&row_ids[index]) => Some("ROW_GONE"),
        _ => None,
    };
    let problems: Vec<Problem> = (0..request.row_count())
        .filter_map(|index| {
            let code = problem_of(index)?.to_owned();
            Some(Problem { index: Some(index), column: None, code, detail: "the row is refused".to_owned() })
        })
        .collect();
    (!problems.is_empty()).then_some(Refusal { too_large: false, problems })
}

#[async_trait]
impl Sink for FakeSink {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn send(&self, _audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        self.send_once(None, request).await
    }

    async fn poll(&self, _audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        self.clock.sleep(LATENCY).await;
        let now = self.clock.elapsed();
        let mut inner = self.inner();
        if inner.dice.read_fails() {
            return Err(unavailable());
        }
        let known = job.0.parse().ok().and_then(|number: usize| inner.jobs.get(number).copied());
        let state = known.map(|(ends_at, state)| if now < ends_at { JobState::Running } else { state });
        state.ok_or_else(|| SinkError::NotFound { message: format!("there is no job `{}`", job.0) })
    }

    async fn look_up(&self, _audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        self.clock.sleep(LATENCY).await;
        let now = self.clock.elapsed();
        let mut inner = self.inner();
        if inner.dice.read_fails() {
            return Err(unavailable());
        }
        let is_wanted = |row: &LiveRow| match query {
            LookUp::KeyCells(cells) => row.key_cell.is_some_and(|cell| cells.contains(&cell)),
            LookUp::Keys(keys) => row.key_cell.is_some_and(|cell| keys.contains(&cell.key)),
            LookUp::RowIds(row_ids) => row_ids.contains(&row.row_id),
        };
        let rows = inner.audience.visible(now).into_iter().filter(is_wanted);
        Ok(rows.map(|row| FoundRow { row_id: row.row_id, key_cell: row.key_cell }).collect())
    }

    async fn scan(&self, _audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        const ROWS_PER_PAGE: usize = 3;
        let start: usize = cursor.and_then(|text| text.parse().ok()).unwrap_or(0);
        let rows = self.inner().audience.visible(self.clock.elapsed());
        let end = rows.len().min(start + ROWS_PER_PAGE);
        let next = (end < rows.len()).then(|| end.to_string());
        let scanned =
            |row: &LiveRow| ScannedRow { row_id: row.row_id.clone(), key_cell: row.key_cell, cells: row.cells.clone() };
        Ok(ScanPage { rows: rows.get(start..end).unwrap_or_default().iter().map(scanned).collect(), next })
    }

    async fn enrich(
        &self,
        _audience: &AudienceBinding,
        scope: &EnrichmentScope,
    ) -> Result<EnrichmentAnswer, SinkError> {
        self.clock.sleep(LATENCY).await;
        let now = self.clock.elapsed();
        let mut inner = self.inner();
        let rows: Vec<RowId> = inner.audience.live(now).into_iter().map(|row| row.row_id).collect();
        Ok(inner.enriching.start(scope, &rows, now))
    }

    async fn enrichment(&self, _audience: &AudienceBinding, job: &JobId) -> Result<EnrichmentJob, SinkError> {
        self.clock.sleep(LATENCY).await;
        let now = self.clock.elapsed();
        let mut inner = self.inner();
        if inner.dice.read_fails() {
            return Err(unavailable());
        }
        Ok(inner.enriching.job(job, now))
    }

    async fn cell_states(
        &self,
        _audience: &AudienceBinding,
        column_ids: &[String],
        scope: &EnrichmentScope,
        limit: usize,
    ) -> Result<Vec<RowStates>, SinkError> {
        self.clock.sleep(LATENCY).await;
        let now = self.clock.elapsed();
        let inner = self.inner();
        let limit = if scope.rows().is_some() { usize::MAX } else { limit };
        let rows = inner.audience.visible(now).into_iter().filter(|row| contains(scope, &row.row_id)).take(limit);
        Ok(rows.map(|row| inner.enriching.states(&row.row_id, column_ids.len(), now)).collect())
    }
}

/// Counts a request as under way until it is dropped.
struct UnderWay<'a>(&'a FakeSink);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.inner().under_way -= 1;
    }
}

#[async_trait]
impl AudienceSetup for FakeSink {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        self.clock.sleep(LATENCY).await;
        let now = self.clock.elapsed();
        let mut inner = self.inner();
        if inner.dice.read_fails() {
            return Err(unavailable());
        }
        if inner.outdated_surveys > 0 {
            inner.outdated_surveys -= 1;
            return Account::default().survey(target, known_id, now);
        }
        inner.account.survey(target, known_id, now)
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.clock.sleep(LATENCY).await;
        let answer = self.make(step);
        self.clock.sleep(LATENCY).await;
        answer
    }
}

impl FakeSink {
    /// Decides what becomes of a set-up step, and does it.
    fn make(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        let now = self.clock.elapsed();
        let mut inner = self.inner();
        let visible_at = now + inner.dice.search_lag(self.capabilities.settle);
        let unknown = ProvisionAnswer::Unknown { reason: "no answer in time".to_owned() };
        match inner.dice.write_fault(&self.capabilities) {
            WriteFault::LostRequest => Ok(unknown),
            WriteFault::Unavailable => Err(unavailable()),
            WriteFault::NotApplied { retry_after } => {
                Ok(ProvisionAnswer::NotApplied { reason: "too many requests".to_owned(), retry_after })
            }
            WriteFault::Forbidden => Err(forbidden()),
            WriteFault::UsedUp => Err(used_up(self.clock.now())),
            WriteFault::Refused => Ok(ProvisionAnswer::Refused { reason: "the fake does not take it".to_owned() }),
            WriteFault::LateCommit { by } => {
                inner.account.make(step, visible_at + by);
                Ok(unknown)
            }
            WriteFault::LostAnswer => {
                inner.account.make(step, visible_at);
                Ok(unknown)
            }
            _ => Ok(ProvisionAnswer::Applied { id: inner.account.make(step, visible_at) }),
        }
    }
}
