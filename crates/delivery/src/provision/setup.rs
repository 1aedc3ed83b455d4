//! Takes the steps that [`next_step`] names, each journalled first, until the audience is ready.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::sink::{AudienceBinding, AudienceTarget, Destination, Provision, ProvisionAnswer, Survey};
use convoke_core::state::StateStore;
use convoke_core::{Clock, SinkError, StateError};
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::{ProvisionError, Step, next_step};
use crate::protocol::{LONGEST_RETRY_AFTER, backoff};

/// Attempts at one thing, and at one survey.
const MAX_ATTEMPTS: u32 = 6;

/// Steps of one set-up. Folder, audience, columns, match columns, hiding and criteria are six; the rest are repeats.
const MAX_STEPS: u32 = 60;

/// The rest of the world, as setting up needs it.
#[derive(Clone)]
pub struct SetupPorts {
    pub sink: Arc<dyn Destination>,
    pub state: Arc<dyn StateStore>,
    pub clock: Arc<dyn Clock>,
    pub cancel: CancellationToken,
}

/// Makes what is missing, once, and returns the audience that is ready for rows. Storing it is the caller's.
///
/// The caller holds the lease on the audience, or on its name while it has no id.
pub async fn ensure(
    ports: &SetupPorts,
    target: &AudienceTarget,
    known_id: Option<&str>,
) -> Result<AudienceBinding, ProvisionError> {
    let mut setup = Setup { ports, target, known_id, attempts: HashMap::new() };
    for _ in 0..MAX_STEPS {
        match setup.next_step().await? {
            Step::Ready(binding) => return Ok(binding),
            Step::Make(provision) => setup.make(&provision).await?,
        }
    }
    Err(ProvisionError::GaveUp {
        what: format!("audience `{}`", target.spec.name),
        attempts: MAX_STEPS,
        reason: "what was made does not stay".to_owned(),
    })
}

struct Setup<'a> {
    ports: &'a SetupPorts,
    target: &'a AudienceTarget,
    known_id: Option<&'a str>,
    /// Attempts at each thing, by its description.
    attempts: HashMap<String, u32>,
}

impl Setup<'_> {
    async fn next_step(&self) -> Result<Step, ProvisionError> {
        let survey = self.survey().await?;
        Ok(next_step(self.target, &survey, self.known_id)?)
    }

    async fn survey(&self) -> Result<Survey, ProvisionError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.ports.sink.survey(self.target, self.known_id).await {
                Ok(survey) => return Ok(survey),
                Err(error) => error,
            };
            let SinkError::Unavailable { retry_after, .. } = &error else { return Err(self.sink_error(error)) };
            let at_least = retry_after.unwrap_or_default();
            if attempts >= MAX_ATTEMPTS || at_least > LONGEST_RETRY_AFTER {
                return Err(self.sink_error(error));
            }
            self.back_off(at_least, attempts).await?;
        }
    }

    /// Takes one step, once. When this returns it was taken, or certainly was not and never will be.
    async fn make(&mut self, provision: &Provision) -> Result<(), ProvisionError> {
        let what = provision.describe();
        if !provision.is_idempotent() && self.intend(&what).await?.is_some() {
            // An attempt that a crash cut off may yet succeed: wait it out, then look again before making anything.
            self.wait_out().await?;
            return self.close(&what).await;
        }
        let attempts = self.attempts.entry(what.clone()).or_default();
        *attempts += 1;
        let attempts = *attempts;
        match self.ports.sink.provision(provision).await {
            Ok(ProvisionAnswer::Applied) => self.await_visible(provision, attempts).await?,
            Ok(ProvisionAnswer::NotApplied { reason, retry_after }) => {
                self.close(&what).await?;
                self.bound(&what, attempts, reason)?;
                return self.back_off(retry_after.unwrap_or_default(), attempts).await;
            }
            Ok(ProvisionAnswer::Unknown { reason }) => self.unknown(provision, attempts, reason).await?,
            Err(error @ (SinkError::Unavailable { .. } | SinkError::Protocol { .. })) => {
                self.unknown(provision, attempts, error.to_string()).await?;
            }
            Err(error) => {
                self.close(&what).await?;
                return Err(self.sink_error(error));
            }
        }
        self.close(&what).await
    }

    async fn unknown(&self, provision: &Provision, attempts: u32, reason: String) -> Result<(), ProvisionError> {
        if provision.is_idempotent() {
            self.bound(&provision.describe(), attempts, reason)?;
            return self.back_off(Duration::ZERO, attempts).await;
        }
        self.wait_out().await?;
        self.bound(&provision.describe(), attempts, reason)
    }

    /// Waits until a survey shows what was made: made again because search lags behind, it would be there twice.
    async fn await_visible(&self, provision: &Provision, attempts: u32) -> Result<(), ProvisionError> {
        let capabilities = self.ports.sink.capabilities();
        for wait in [Duration::ZERO, capabilities.settle, capabilities.max_commit_delay] {
            self.wait(wait).await?;
            if self.next_step().await? != Step::Make(provision.clone()) {
                return Ok(());
            }
        }
        let reason = "it was made, but the destination does not show it".to_owned();
        Err(ProvisionError::GaveUp { what: provision.describe(), attempts, reason })
    }

    fn bound(&self, what: &str, attempts: u32, reason: String) -> Result<(), ProvisionError> {
        if attempts < MAX_ATTEMPTS {
            return Ok(());
        }
        Err(ProvisionError::GaveUp { what: what.to_owned(), attempts, reason })
    }

    async fn intend(&self, what: &str) -> Result<Option<convoke_core::Timestamp>, ProvisionError> {
        let connection = &self.target.spec.connection;
        let earlier = self.ports.state.intend_provision(connection, what, self.ports.clock.now()).await;
        earlier.map_err(|error| self.state_error(error))
    }

    async fn close(&self, what: &str) -> Result<(), ProvisionError> {
        let closed = self.ports.state.close_provision(&self.target.spec.connection, what).await;
        closed.map_err(|error| self.state_error(error))
    }

    /// Waits until whatever was sent up to now is done and shows, or never will.
    async fn wait_out(&self) -> Result<(), ProvisionError> {
        let capabilities = self.ports.sink.capabilities();
        self.wait(capabilities.max_commit_delay + capabilities.settle).await
    }

    async fn back_off(&self, at_least: Duration, attempts: u32) -> Result<(), ProvisionError> {
        let spread = backoff(attempts).mul_f64(rand::rng().random_range(0.0..=1.0));
        self.wait(at_least + spread).await
    }

    async fn wait(&self, duration: Duration) -> Result<(), ProvisionError> {
        tokio::select! {
            biased;
            () = self.ports.cancel.cancelled() => {
                Err(ProvisionError::Interrupted { audience: self.target.spec.name.clone() })
            }
            () = self.ports.clock.sleep(duration) => Ok(()),
        }
    }

    fn sink_error(&self, source: SinkError) -> ProvisionError {
        ProvisionError::Sink { audience: self.target.spec.name.clone(), source }
    }

    fn state_error(&self, source: StateError) -> ProvisionError {
        ProvisionError::State { audience: self.target.spec.name.clone(), source }
    }
}
