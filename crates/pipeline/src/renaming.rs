//! A sync gets another name: what was the old name's is the new one's.
//!
//! The owners of rows stand in the ledger's segments, all else in the checkpoint store. The ledger is written anew beside
//! the old one, and one transaction puts everything in force: a crash before it leaves the old name and a segment that
//! nothing names, a crash after it the new name and segments that nothing needs. Nothing is sent.

use convoke_core::boundary::Boundary;
use convoke_core::ledger::LedgerManifest;
use convoke_core::lifecycle::{self, RenamedCheckpoint, Renaming};
use convoke_core::sink::AudienceBinding;
use convoke_core::spec::SyncSpec;
use convoke_core::state::{Checkpoint, PlanState};
use convoke_core::{AudienceKey, SyncName};
use convoke_engine::{FoldRequest, Folded, NewOwner};
use serde::Serialize;

use crate::Pipeline;
use crate::error::Error;
use crate::lease::LeaseKeeper;

/// Deeds of the audit trail that are looked through, newest first.
pub(crate) const DEEDS_LOOKED_THROUGH: u32 = 10_000;

/// A sync under its new name.
#[derive(Clone, Debug, Serialize)]
pub struct Renamed {
    pub from: SyncName,
    pub to: SyncName,
    pub audience: Option<AudienceKey>,
    /// Live rows that are the new name's.
    pub rows: u64,
    /// Set if this was done before, and nothing was left to do.
    pub was_done: bool,
}

impl Pipeline {
    /// Gives everything of `from` to this sync. After a crash the same call does what is left.
    pub async fn rename_from(&self, from: &SyncName, actor: &str) -> Result<Renamed, Error> {
        let keeper = self.take_lease_of(from).await?;
        let outcome = Box::pin(self.rename_leased(from, actor, &keeper)).await;
        keeper.release().await;
        outcome
    }

    async fn rename_leased(&self, from: &SyncName, actor: &str, keeper: &LeaseKeeper) -> Result<Renamed, Error> {
        let state = &self.services.state;
        let to = self.sync.spec.name.clone();
        let binding = state.binding(from).await?;
        let checkpoint = state.checkpoint(from).await?;
        if binding.is_none() && checkpoint.version == 0 {
            self.remember_renaming(from).await?;
            return self.renamed(from, true).await;
        }
        self.refuse_renaming(from, binding.as_ref()).await?;
        let reassigned = match &binding {
            Some(binding) => self.reassign(&binding.key, (from, &to), keeper).await?,
            None => None,
        };
        let renaming = Renaming {
            from: from.clone(),
            to,
            ledger: reassigned.as_ref().map(|(_, folded)| folded.manifest.clone()),
            checkpoint: (checkpoint.version > 0)
                .then(|| self.renamed_checkpoint(from, &checkpoint, reassigned.as_ref())),
            actor: actor.to_owned(),
        };
        self.reached(Boundary::BeforeFold);
        state.rename_sync(&renaming, &keeper.lease()).await?;
        self.reached(Boundary::AfterFold);
        self.remove_obsolete(reassigned).await?;
        self.renamed(from, false).await
    }

    /// What is not there under the old name was moved before, or never was.
    async fn remember_renaming(&self, from: &SyncName) -> Result<(), Error> {
        let detail = lifecycle::renamed(from, &self.sync.spec.name);
        let trail = self.services.state.audit_trail(DEEDS_LOOKED_THROUGH).await?;
        if trail.iter().any(|deed| deed.action == lifecycle::RENAME && deed.detail == detail) {
            return Ok(());
        }
        let message =
            format!("there is nothing to rename: no sync `{from}` has filled an audience or settled a source");
        Err(Error::Request { message })
    }

    async fn refuse_renaming(&self, from: &SyncName, binding: Option<&AudienceBinding>) -> Result<(), Error> {
        let state = &self.services.state;
        let to = &self.sync.spec.name;
        let has_begun = state.binding(to).await?.is_some()
            || state.checkpoint(to).await?.version > 0
            || !state.plans_in(to, PlanState::Applying).await?.is_empty();
        if has_begun {
            let message =
                format!("sync `{to}` has run itself; choose another name for `{from}`, or retire `{to}` first");
            return Err(Error::Request { message });
        }
        let open_entries = match binding {
            Some(binding) => state.open_entries(&binding.key).await?,
            None => Vec::new(),
        };
        let is_unfinished = !state.plans_in(from, PlanState::Applying).await?.is_empty()
            || open_entries.iter().any(|entry| entry.intent.sync == *from);
        if is_unfinished {
            return Err(Error::Stopped {
                message: format!(
                    "a run of `{from}` was interrupted; give the sync its old name back in the configuration, let `convoke run {from}` finish it, and rename it then"
                ),
            });
        }
        match binding {
            Some(binding) => self.refuse_other_audience(from, binding).await,
            None => Ok(()),
        }
    }

    /// The rows are in the audience that the old name filled. What the new one names is told by its id or its name, which
    /// the destination may know under another name by now.
    async fn refuse_other_audience(&self, from: &SyncName, binding: &AudienceBinding) -> Result<(), Error> {
        let wanted = &self.sync.spec.audience;
        let is_same = match &wanted.id {
            _ if wanted.connection != binding.key.connection => false,
            Some(id) => *id == binding.key.audience_id,
            None if wanted.name == binding.name => true,
            None => self.survey(Some(binding)).await?.audiences.iter().any(|audience| audience.name == wanted.name),
        };
        if is_same {
            return Ok(());
        }
        let (to, named) = (&self.sync.spec.name, wanted.id.as_ref().unwrap_or(&wanted.name));
        Err(Error::Request {
            message: format!(
                "`{from}` filled audience `{}` ({}), and `{to}` names `{named}` on `{}`, another one: have `{to}` name the audience of `{from}`, and then say this again; or let `{to}` fill the other one as a sync of its own, and retire `{from}`",
                binding.name, binding.key, wanted.connection
            ),
        })
    }

    /// Writes the ledger with one sync's rows as another's; the segments it replaces stay until it is in force.
    pub(crate) async fn reassign(
        &self,
        audience: &AudienceKey,
        (from, to): (&SyncName, &SyncName),
        keeper: &LeaseKeeper,
    ) -> Result<Option<(LedgerManifest, Folded)>, Error> {
        self.remove_orphan_segments(audience, keeper).await?;
        let Some(ledger) = self.services.state.ledger(audience).await? else { return Ok(None) };
        let segments = self.services.segments.as_ref();
        let request = FoldRequest { audience, manifest: Some(&ledger), identity: &ledger.identity, segments };
        let owner = NewOwner { from: from.clone(), to: to.clone() };
        let folded = self.unless_cancelled(Box::pin(self.services.engine.reassign(request, owner))).await??;
        if !folded.counts.is_balanced() || folded.manifest.live != ledger.live {
            let message = format!("the ledger of {audience} does not balance: {:?}", folded.counts);
            return Err(Error::Unbalanced { message });
        }
        Ok(Some((ledger, folded)))
    }

    pub(crate) async fn remove_obsolete(&self, reassigned: Option<(LedgerManifest, Folded)>) -> Result<(), Error> {
        match reassigned {
            Some((_, folded)) => Ok(self.services.segments.remove(&folded.obsolete).await?),
            None => Ok(()),
        }
    }

    /// What is settled stays settled if nothing but the name has changed, in the configuration and in the ledger.
    fn renamed_checkpoint(
        &self,
        from: &SyncName,
        checkpoint: &Checkpoint,
        reassigned: Option<&(LedgerManifest, Folded)>,
    ) -> RenamedCheckpoint {
        let config_hash = checkpoint.config_hash.as_ref().map(|stored| self.renamed_hash(from, stored));
        let ledger_version = match reassigned {
            Some((before, after)) if before.version == checkpoint.ledger_version => after.manifest.version,
            _ => checkpoint.ledger_version,
        };
        RenamedCheckpoint { config_hash, ledger_version }
    }

    /// The hash holds the name too. Where a suppression list cannot be read now, the source is read once more.
    fn renamed_hash(&self, from: &SyncName, stored: &str) -> String {
        let Ok(suppressions) = self.load_suppressions() else { return stored.to_owned() };
        let digests: Vec<_> = suppressions.iter().map(|list| list.digest().to_owned()).collect();
        let spec = &self.sync.spec;
        let before = (self.sync.config_hash)(&SyncSpec { name: from.clone(), ..spec.clone() }, &digests);
        match stored.strip_prefix(&before) {
            Some(day) => format!("{}{day}", (self.sync.config_hash)(spec, &digests)),
            None => stored.to_owned(),
        }
    }

    async fn renamed(&self, from: &SyncName, was_done: bool) -> Result<Renamed, Error> {
        let state = &self.services.state;
        let to = self.sync.spec.name.clone();
        let audience = state.binding(&to).await?.map(|binding| binding.key);
        let ledger = match &audience {
            Some(audience) => state.ledger(audience).await?,
            None => None,
        };
        let rows = ledger.map_or(0, |ledger| ledger.live_of(&to));
        Ok(Renamed { from: from.clone(), to, audience, rows, was_done })
    }
}
