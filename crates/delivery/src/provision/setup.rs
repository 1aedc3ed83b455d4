//! Takes the steps that [`next_step`] names, each journalled first, until the audience is ready.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use convoke_core::sink::{
    AudienceBinding, AudienceTarget, Destination, Provision, ProvisionAnswer, RemoteFolder, Survey,
};
use convoke_core::state::{OpenProvision, StateStore};
use convoke_core::{Clock, SinkError, StateError, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{ProvisionError, SetupProblem, Step, folder_name, lacks, new_audience, next_step};
use crate::lease::{LeaseView, while_leased, writable};
use crate::patience::{Patience, by_chance, looking_at};
use crate::protocol::backoff;

/// Attempts at one thing.
const MAX_ATTEMPTS: u32 = 6;

/// Steps of one set-up. Folder, audience, columns, match columns, hiding and criteria are six; the rest are repeats.
const MAX_STEPS: u32 = 60;

/// The rest of the world, as setting up needs it.
#[derive(Clone)]
pub struct SetupPorts {
    pub sink: Arc<dyn Destination>,
    pub state: Arc<dyn StateStore>,
    pub clock: Arc<dyn Clock>,
    /// On the audience, or on its name while it has no id.
    pub lease: Arc<dyn LeaseView>,
    pub cancel: CancellationToken,
}

/// Makes what is missing, once, and returns the audience that is ready for rows. Storing it is the caller's.
///
/// `known_id` is the audience that the sync is bound to. What was made for it before it was bound is known by the id
/// that the destination told: its name there need not be the one it was made under.
pub async fn ensure(
    ports: &SetupPorts,
    target: &AudienceTarget,
    known_id: Option<&str>,
) -> Result<AudienceBinding, ProvisionError> {
    let known_id = target.spec.id.as_deref().or(known_id).map(str::to_owned);
    let mut setup = Setup { ports, target, known_id, folder: None, attempts: HashMap::new() };
    setup.recall().await?;
    for _ in 0..MAX_STEPS {
        match setup.next_step().await? {
            Step::Ready(binding) => {
                setup.forget_folder().await?;
                return Ok(binding);
            }
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
    /// The audience's id: given, bound, or told when it was made.
    known_id: Option<String>,
    /// The folder that was made for the audience.
    folder: Option<MadeFolder>,
    /// Attempts at each thing, by its description.
    attempts: HashMap<String, u32>,
}

/// A folder whose intent stays open until the audience is ready: until then only the intent knows its id.
struct MadeFolder {
    id: String,
    intended_at: Timestamp,
}

impl Setup<'_> {
    /// Takes up what an earlier run made and did not live to bind.
    async fn recall(&mut self) -> Result<(), ProvisionError> {
        let audience = new_audience(self.target, "");
        let what = audience.describe();
        let open = self.open(&what).await?;
        match (open, &self.known_id) {
            (Some(open), Some(known)) if open.made_id.as_ref() == Some(known) => {
                // It is bound: nothing is left to remember.
                return self.close(&what, open.intended_at).await;
            }
            (_, Some(_)) => return Ok(()),
            (Some(open), None) => self.take_up(&audience, open).await?,
            (None, None) => {}
        }
        let folder = Provision::Folder { name: folder_name(self.target).to_owned() };
        match self.open(&folder.describe()).await? {
            Some(open) => self.take_up(&folder, open).await,
            None => Ok(()),
        }
    }

    /// Goes on with what was made under an open intent, if that is known to have been made.
    async fn take_up(&mut self, provision: &Provision, open: OpenProvision) -> Result<(), ProvisionError> {
        let OpenProvision { intended_at, made_id: Some(id) } = open else { return Ok(()) };
        if matches!(provision, Provision::Folder { .. }) {
            self.folder = Some(MadeFolder { id, intended_at });
            return Ok(());
        }
        self.known_id = Some(id);
        if self.is_there().await? {
            return Ok(());
        }
        self.wait_out().await?;
        if self.is_there().await? {
            return Ok(());
        }
        // Somebody deleted it since.
        self.known_id = None;
        self.close(&provision.describe(), intended_at).await
    }

    /// Whether the audience with the known id shows.
    async fn is_there(&self) -> Result<bool, ProvisionError> {
        match self.survey().await {
            Ok(survey) => Ok(!survey.audiences.is_empty()),
            Err(ProvisionError::Sink { source: SinkError::NotFound { .. }, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn forget_folder(&mut self) -> Result<(), ProvisionError> {
        let Some(folder) = self.folder.take() else { return Ok(()) };
        let what = Provision::Folder { name: folder_name(self.target).to_owned() }.describe();
        self.close(&what, folder.intended_at).await
    }

    async fn next_step(&self) -> Result<Step, ProvisionError> {
        let mut survey = self.survey().await?;
        if let Some(folder) = &self.folder {
            let name = folder_name(self.target).to_owned();
            survey.folders = vec![RemoteFolder { id: folder.id.clone(), name }];
        }
        Ok(next_step(self.target, &survey, self.known_id.as_deref())?)
    }

    async fn survey(&self) -> Result<Survey, ProvisionError> {
        let SetupPorts { sink, clock, cancel, .. } = self.ports;
        let patience = Patience { clock: &**clock, cancel, choose: &by_chance };
        let look = || sink.survey(self.target, self.known_id.as_deref());
        patience.read(&looking_at(self.target), look).await.map_err(|error| self.sink_error(error))
    }

    /// Takes one step, once. When this returns it was taken, or certainly was not and never will be.
    async fn make(&mut self, provision: &Provision) -> Result<(), ProvisionError> {
        let what = provision.describe();
        let intended_at = self.ports.clock.now();
        if !provision.is_idempotent() {
            if let Some(earlier) = self.intend(&what, intended_at).await? {
                return self.settle_earlier(provision, earlier).await;
            }
            // Another run may have made it, and closed its intent, after it was found missing.
            if self.next_step().await? != Step::Make(provision.clone()) {
                return self.close(&what, intended_at).await;
            }
        }
        let attempts = self.attempts.entry(what.clone()).or_default();
        *attempts += 1;
        let attempts = *attempts;
        match self.send(provision).await? {
            Ok(ProvisionAnswer::Applied { id }) => return self.made(provision, intended_at, id, attempts).await,
            Ok(ProvisionAnswer::Refused { reason }) => self.refused(provision, intended_at, reason).await?,
            Ok(ProvisionAnswer::NotApplied { reason, retry_after }) => {
                self.close(&what, intended_at).await?;
                self.bound(&what, attempts, reason)?;
                return self.back_off(retry_after.unwrap_or_default(), attempts).await;
            }
            Ok(ProvisionAnswer::Unknown { reason }) => self.unknown(provision, attempts, reason).await?,
            Err(error @ SinkError::Unavailable { .. }) => {
                self.unknown(provision, attempts, error.to_string()).await?;
            }
            // In doubt, and asking again is no use: the intent stays open, for the next run to wait out and look.
            Err(error @ SinkError::Protocol { .. }) => return Err(self.sink_error(error)),
            Err(error) => {
                self.close(&what, intended_at).await?;
                if matches!(error, SinkError::NotFound { .. }) {
                    // Perhaps the folder was deleted since it was made.
                    self.forget_folder().await?;
                }
                return Err(self.sink_error(error));
            }
        }
        self.close(&what, intended_at).await
    }

    /// Makes one request, only while the lease holds. If that ends meanwhile, the intent stays open.
    async fn send(&self, provision: &Provision) -> Result<Result<ProvisionAnswer, SinkError>, ProvisionError> {
        let SetupPorts { sink, clock, lease, .. } = self.ports;
        writable(&**lease).map_err(|lost| self.state_error(lost))?;
        let making = while_leased(&**lease, &**clock, sink.provision(provision));
        making.await.map_err(|lost| self.state_error(lost))
    }

    /// Deals with an intent that a crash cut off, or that another run has open.
    async fn settle_earlier(&mut self, provision: &Provision, earlier: OpenProvision) -> Result<(), ProvisionError> {
        if earlier.made_id.is_some() {
            return self.take_up(provision, earlier).await;
        }
        // It may yet succeed: wait it out, then look again before making anything.
        self.wait_out().await?;
        let what = provision.describe();
        match self.open(&what).await? {
            Some(open) if open.made_id.is_some() => self.take_up(provision, open).await,
            Some(open) if open.intended_at == earlier.intended_at => self.close(&what, open.intended_at).await,
            _ => Ok(()),
        }
    }

    /// What was made under an id of its own is remembered by it: until the audience is bound, or the folder used.
    async fn made(
        &mut self,
        provision: &Provision,
        intended_at: Timestamp,
        id: Option<String>,
        attempts: u32,
    ) -> Result<(), ProvisionError> {
        let what = provision.describe();
        match (provision, id) {
            (Provision::Folder { .. }, Some(id)) => {
                self.note_made(&what, intended_at, &id).await?;
                self.folder = Some(MadeFolder { id, intended_at });
                Ok(())
            }
            (Provision::Audience { .. }, Some(id)) => {
                self.note_made(&what, intended_at, &id).await?;
                self.known_id = Some(id);
                self.await_visible(provision, attempts).await
            }
            _ => {
                self.await_visible(provision, attempts).await?;
                self.close(&what, intended_at).await
            }
        }
    }

    /// A refusal may have done a part. What it did shows soon; if the thing is missing then, asking again is no use.
    async fn refused(
        &self,
        provision: &Provision,
        intended_at: Timestamp,
        reason: String,
    ) -> Result<(), ProvisionError> {
        self.wait(self.ports.sink.capabilities().settle).await?;
        if !self.is_missing(provision).await? {
            return Ok(());
        }
        let what = provision.describe();
        self.close(&what, intended_at).await?;
        Err(SetupProblem::Refused { what, reason }.into())
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
            if !self.is_missing(provision).await? {
                return Ok(());
            }
        }
        let reason = "it was made, but the destination does not show it".to_owned();
        Err(ProvisionError::GaveUp { what: provision.describe(), attempts, reason })
    }

    async fn is_missing(&self, provision: &Provision) -> Result<bool, ProvisionError> {
        match self.next_step().await {
            Ok(step) => Ok(lacks(&step, provision)),
            // A new audience that is known by its id and does not show yet.
            Err(ProvisionError::Sink { source: SinkError::NotFound { .. }, .. })
                if matches!(provision, Provision::Audience { .. }) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn bound(&self, what: &str, attempts: u32, reason: String) -> Result<(), ProvisionError> {
        if attempts < MAX_ATTEMPTS {
            return Ok(());
        }
        Err(ProvisionError::GaveUp { what: what.to_owned(), attempts, reason })
    }

    async fn intend(&self, what: &str, at: Timestamp) -> Result<Option<OpenProvision>, ProvisionError> {
        let earlier = self.ports.state.intend_provision(&self.target.spec.connection, what, at).await;
        earlier.map_err(|error| self.state_error(error))
    }

    async fn open(&self, what: &str) -> Result<Option<OpenProvision>, ProvisionError> {
        let open = self.ports.state.open_provision(&self.target.spec.connection, what).await;
        open.map_err(|error| self.state_error(error))
    }

    async fn note_made(&self, what: &str, intended_at: Timestamp, id: &str) -> Result<(), ProvisionError> {
        let noted = self.ports.state.note_made(&self.target.spec.connection, what, intended_at, id).await;
        noted.map_err(|error| self.state_error(error))
    }

    /// Closes the intent of this time, and no other.
    async fn close(&self, what: &str, intended_at: Timestamp) -> Result<(), ProvisionError> {
        let closed = self.ports.state.close_provision(&self.target.spec.connection, what, intended_at).await;
        closed.map_err(|error| self.state_error(error))
    }

    /// Waits until whatever was sent up to now is done and shows, or never will.
    async fn wait_out(&self) -> Result<(), ProvisionError> {
        let capabilities = self.ports.sink.capabilities();
        let taken_over = self.ports.lease.current().taken_over;
        let under_way = if taken_over { capabilities.request_timeout } else { Duration::ZERO };
        self.wait(under_way + capabilities.max_commit_delay + capabilities.settle).await
    }

    async fn back_off(&self, at_least: Duration, attempts: u32) -> Result<(), ProvisionError> {
        let spread = backoff(attempts).mul_f64(by_chance());
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
        let ends_a_wait = matches!(source, SinkError::Quota(_) | SinkError::Unavailable { .. });
        if self.ports.cancel.is_cancelled() && ends_a_wait {
            // Only a wait for the rate budget, or for the destination to answer, was cut short.
            return ProvisionError::Interrupted { audience: self.target.spec.name.clone() };
        }
        ProvisionError::Sink { audience: self.target.spec.name.clone(), source }
    }

    fn state_error(&self, source: StateError) -> ProvisionError {
        ProvisionError::State { audience: self.target.spec.name.clone(), source }
    }
}
