//! Which audience a sync fills: its identity, who else writes it, and rows in it that nobody explains.

use convoke_core::error::SinkError;
use convoke_core::ledger::LedgerManifest;
use convoke_core::plan::{GuardHit, PlanManifest};
use convoke_core::sink::{AudienceBinding, Survey};
use convoke_core::state::{PlanRecord, PlanState};
use convoke_core::{AudienceKey, SyncName};

use crate::Pipeline;
use crate::error::Error;
use crate::guards::{AudienceRows, UNEXPLAINED_ROWS, unexplained};
use crate::lease::LeaseKeeper;

impl Pipeline {
    pub(crate) async fn survey(&self, binding: Option<&AudienceBinding>) -> Result<Survey, Error> {
        let known_id = binding.map(|binding| binding.key.audience_id.as_str());
        let gone = |message: String| {
            let name = &self.sync.spec.audience.name;
            Error::Stopped {
                message: format!(
                    "audience `{name}` is no longer at the destination ({message}); restore it there, or give the sync a new name to fill another audience"
                ),
            }
        };
        match self.unless_cancelled(self.sync.destination.survey(&self.target(), known_id)).await? {
            Ok(survey) if known_id.is_some() && survey.audiences.is_empty() => Err(gone("not found".to_owned())),
            Ok(survey) => Ok(survey),
            Err(SinkError::NotFound { message }) if known_id.is_some() => Err(gone(message)),
            Err(SinkError::Quota(exhausted)) => Err(Error::WaitingForQuota { until: exhausted.until }),
            Err(error) => Err(error.into()),
        }
    }

    /// An audience's identity is its stored id.
    pub(crate) fn refuse_other_id(&self, binding: Option<&AudienceBinding>) -> Result<(), Error> {
        let Some(binding) = binding else { return Ok(()) };
        let wanted = &self.sync.spec.audience;
        let same_id = wanted.id.as_ref().is_none_or(|id| *id == binding.key.audience_id);
        if wanted.connection == binding.key.connection && same_id {
            return Ok(());
        }
        Err(self.other_audience(binding))
    }

    /// Without an id in the configuration, another name there could mean either a rename or another audience, so it is
    /// asked back. The name that the audience has at the destination by now can only mean a rename.
    pub(crate) fn refuse_other_name(&self, binding: Option<&AudienceBinding>, survey: &Survey) -> Result<(), Error> {
        let Some(binding) = binding else { return Ok(()) };
        let wanted = &self.sync.spec.audience;
        let is_named_so = survey.audiences.iter().any(|audience| audience.name == wanted.name);
        if wanted.id.is_some() || wanted.name == binding.name || is_named_so {
            return Ok(());
        }
        Err(self.other_audience(binding))
    }

    fn other_audience(&self, binding: &AudienceBinding) -> Error {
        let wanted = &self.sync.spec.audience;
        let id = wanted.id.as_ref().map_or_else(String::new, |id| format!(" with the id {id}"));
        Error::Stopped {
            message: format!(
                "sync `{}` fills audience `{}` ({}), and its configuration now names `{}`{id} on `{}`; put the old name back, or give the sync a new name to fill another audience",
                self.sync.spec.name, binding.name, binding.key, wanted.name, wanted.connection
            ),
        }
    }

    /// The audience that a survey found, if it found one.
    pub(crate) fn surveyed_audience(&self, survey: &Survey) -> Option<AudienceKey> {
        let [audience] = survey.audiences.as_slice() else { return None };
        let connection = self.sync.spec.audience.connection.clone();
        Some(AudienceKey { connection, audience_id: audience.id.clone() })
    }

    /// Other syncs that write this audience.
    pub(crate) async fn other_syncs(&self, audience: &AudienceKey) -> Result<Vec<SyncName>, Error> {
        let mut syncs = self.services.state.syncs_of(audience).await?;
        syncs.retain(|sync| *sync != self.sync.spec.name);
        Ok(syncs)
    }

    /// Two syncs may write one audience only if both say so. By name and by id they may reach the same one, which the
    /// configuration alone does not tell.
    pub(crate) async fn refuse_unshared(&self, audience: &AudienceKey) -> Result<(), Error> {
        if self.sync.spec.shared {
            return Ok(());
        }
        let Some(other) = self.other_syncs(audience).await?.into_iter().next() else { return Ok(()) };
        Err(Error::Stopped {
            message: format!(
                "sync `{other}` fills audience `{}` ({audience}) as well; set `shared: true` in both syncs, or name another audience. If `{other}` is an old name of this sync, `convoke sync rename {other} {}` gives it what was its own; if it is gone for good, `convoke sync retire {other} --keep-rows | --delete-rows`",
                self.sync.spec.audience.name, self.sync.spec.name
            ),
        })
    }

    /// Binds the sync to the audience, if no other sync stands against it.
    pub(crate) async fn claim(&self, binding: &AudienceBinding, keeper: &LeaseKeeper) -> Result<(), Error> {
        self.refuse_unshared(&binding.key).await?;
        Ok(self.services.state.bind(&self.sync.spec.name, binding, &keeper.lease()).await?)
    }

    /// Rows that came into the audience since the plan was made and that the ledger does not explain; none if such rows
    /// were there already and the plan was approved in their knowledge.
    pub(crate) async fn rows_since(&self, plan: &PlanRecord) -> Result<Option<GuardHit>, Error> {
        let PlanManifest { guard_hits, counts, sync, .. } = &plan.manifest;
        if counts.changes() == 0 || guard_hits.iter().any(|hit| hit.guard == UNEXPLAINED_ROWS) {
            return Ok(None);
        }
        let binding = self.services.state.binding(sync).await?;
        let survey = self.survey(binding.as_ref()).await?;
        let ledger = match &binding {
            Some(binding) => self.services.state.ledger(&binding.key).await?,
            None => None,
        };
        // Once the plan is being applied, the ledger knows which rows are gone.
        let absent = if plan.state == PlanState::Waiting { plan.manifest.absent_rows() } else { 0 };
        let rows = audience_rows(&survey, ledger.as_ref());
        let rows = rows.map(|rows| rows.knowing(absent, plan.manifest.surplus_rows()));
        Ok(rows.and_then(|rows| unexplained(rows, self.sync.spec.guards.max_unexplained)))
    }
}

/// Rows that the audience holds, and those that the ledger names.
pub(crate) fn audience_rows(survey: &Survey, ledger: Option<&LedgerManifest>) -> Option<AudienceRows> {
    let [audience] = survey.audiences.as_slice() else { return None };
    let explained = ledger.map_or(0, |ledger| ledger.live);
    Some(AudienceRows { held: audience.record_count?, explained, is_ours: ledger.is_some() })
}
