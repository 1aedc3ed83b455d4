//! Reads that are repeated while the destination is unavailable: the one place for that.
//!
//! A read changes nothing, so it may be made again after every failure that says nothing about what was asked: no
//! connection, a lost or unreadable answer, an overload. Each attempt passes the gate like any other request. Writes
//! are never repeated here: whether one may be is the protocol's to say.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::enrichment::{EnrichmentAnswer, EnrichmentJob, EnrichmentScope, RowStates};
use convoke_core::sink::{
    Answer, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, Destination, FoundRow, JobId, JobState,
    LookUp, Provision, ProvisionAnswer, Request, ScanPage, Sink, Survey,
};
use convoke_core::{Clock, SinkError};
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::protocol::{LONGEST_RETRY_AFTER, backoff};

/// Attempts at one read. With the back-off they last a quarter of a minute, at most half: longer outages end the run.
pub const READ_ATTEMPTS: u32 = 6;

/// A destination whose reads are repeated, and whose writes are passed on as they are.
pub struct PatientReads {
    destination: Arc<dyn Destination>,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
}

/// How long a read is repeated: until the attempts are used up, or somebody cancels.
pub(crate) struct Patience<'a> {
    pub(crate) clock: &'a dyn Clock,
    /// Ends waiting; an attempt under way is finished.
    pub(crate) cancel: &'a CancellationToken,
    /// Chooses how much of a back-off's range is waited for, 0 to 1.
    pub(crate) choose: &'a (dyn Fn() -> f64 + Sync),
}

impl PatientReads {
    /// Repeats the reads of `destination` until `cancel`.
    pub fn new(destination: Arc<dyn Destination>, clock: Arc<dyn Clock>, cancel: CancellationToken) -> Self {
        Self { destination, clock, cancel }
    }

    fn patience(&self) -> Patience<'_> {
        Patience { clock: &*self.clock, cancel: &self.cancel, choose: &by_chance }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "a default method would pass the destination's own by")]
impl AudienceSetup for PatientReads {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        let what = looking_at(target);
        self.patience().read(&what, || self.destination.survey(target, known_id)).await
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.destination.provision(step).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "a default method would pass the destination's own by")]
impl Sink for PatientReads {
    fn capabilities(&self) -> Capabilities {
        self.destination.capabilities()
    }

    async fn send(&self, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        self.destination.send(audience, request).await
    }

    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        let what = asking_about_a_job(audience);
        self.patience().read(&what, || self.destination.poll(audience, job)).await
    }

    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        let what = looking_rows_up(audience);
        self.patience().read(&what, || self.destination.look_up(audience, query)).await
    }

    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        let what = format!("reading the rows of audience `{}`", audience.name);
        self.patience().read(&what, || self.destination.scan(audience, cursor)).await
    }

    async fn enrich(&self, audience: &AudienceBinding, scope: &EnrichmentScope) -> Result<EnrichmentAnswer, SinkError> {
        self.destination.enrich(audience, scope).await
    }

    async fn enrichment(&self, audience: &AudienceBinding, job: &JobId) -> Result<EnrichmentJob, SinkError> {
        let what = format!("asking about an enrichment of audience `{}`", audience.name);
        self.patience().read(&what, || self.destination.enrichment(audience, job)).await
    }

    async fn cell_states(
        &self,
        audience: &AudienceBinding,
        column_ids: &[String],
        scope: &EnrichmentScope,
        limit: usize,
    ) -> Result<Vec<RowStates>, SinkError> {
        let what = format!("reading what was enriched in audience `{}`", audience.name);
        self.patience().read(&what, || self.destination.cell_states(audience, column_ids, scope, limit)).await
    }
}

/// How long to wait before something is asked for once more, by chance: up to twice as long each time.
pub fn random_backoff(attempts: u32) -> Duration {
    backoff(attempts).mul_f64(by_chance())
}

/// Any part, each as likely as the others.
pub(crate) fn by_chance() -> f64 {
    rand::rng().random_range(0.0..=1.0)
}

/// Names a survey in messages.
pub(crate) fn looking_at(target: &AudienceTarget) -> String {
    format!("looking at audience `{}`", target.spec.name)
}

/// Names a look-up in messages.
pub(crate) fn looking_rows_up(audience: &AudienceBinding) -> String {
    format!("looking rows up in audience `{}`", audience.name)
}

/// Names a poll in messages.
pub(crate) fn asking_about_a_job(audience: &AudienceBinding) -> String {
    format!("asking about a delete job of audience `{}`", audience.name)
}

impl Patience<'_> {
    /// Makes a read, again and again while the destination is unavailable; `what` names it in the error.
    pub(crate) async fn read<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(at_least) = worth_repeating(&error) else { return Err(error) };
            if attempts >= READ_ATTEMPTS || at_least > LONGEST_RETRY_AFTER {
                return Err(given_up(what, attempts, error));
            }
            tracing::info!(what, attempts, error = %error, "a read failed and is repeated");
            if !self.wait(at_least, backoff(attempts)).await {
                return Err(given_up(what, attempts, error));
            }
        }
    }

    /// Waits, for a random part of `spread` more; false if that was cut short.
    async fn wait(&self, at_least: Duration, spread: Duration) -> bool {
        let jitter = spread.mul_f64((self.choose)());
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = self.clock.sleep(at_least + jitter) => true,
        }
    }
}

/// How long to wait at least before a failed read is repeated; none if that is of no use.
fn worth_repeating(error: &SinkError) -> Option<Duration> {
    match error {
        // What was given up already is not begun anew by whoever else repeats reads.
        SinkError::Unavailable { cause: Some(cause), .. } if cause.is::<SinkError>() => None,
        SinkError::Unavailable { retry_after, .. } => Some(retry_after.unwrap_or_default()),
        SinkError::Unauthorized { .. }
        | SinkError::Forbidden { .. }
        | SinkError::NotFound { .. }
        | SinkError::Protocol { .. }
        | SinkError::Quota(_) => None,
    }
}

fn given_up(what: &str, attempts: u32, last: SinkError) -> SinkError {
    let retry_after = match &last {
        SinkError::Unavailable { retry_after, .. } => *retry_after,
        _ => None,
    };
    let times = if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    let message = format!("gave up {what} after {times}; try again once the destination answers");
    SinkError::Unavailable { message, retry_after, cause: Some(Box::new(last)) }
}
