//! Folds what was acknowledged into the ledger, in one transaction of the checkpoint store.

use std::sync::Mutex;

use convoke_core::AudienceKey;
use convoke_core::StateError;
use convoke_core::boundary::Boundary;
use convoke_core::journal::{Entry, EntryId};
use convoke_core::ledger::LedgerIdentity;
use convoke_core::plan::{LedgerCounts, PlanManifest};
use convoke_core::state::{PlanRecord, StateStore};
use convoke_engine::{AbsentRows, Confirmed, ConfirmedRecords, FoldRequest};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::Pipeline;
use crate::error::Error;
use crate::lease::LeaseKeeper;

/// Entries taken from the journal at once: about 2 MB of packed rows at 500 rows an entry, which SQLite's allocator
/// gives back and takes again without asking the system.
const ENTRIES_PER_PAGE: u32 = 32;

impl Pipeline {
    /// Folds the audience's closed entries; returns how the ledger moved. Nothing to fold: it did not.
    pub(crate) async fn fold(&self, audience: &AudienceKey, keeper: &LeaseKeeper) -> Result<LedgerCounts, Error> {
        self.fold_with(audience, None, keeper).await
    }

    /// [`Pipeline::fold`], with what a plan of this sync has confirmed.
    pub(crate) async fn fold_with(
        &self,
        audience: &AudienceKey,
        confirmed: Option<ConfirmedRecords>,
        keeper: &LeaseKeeper,
    ) -> Result<LedgerCounts, Error> {
        let state = &self.services.state;
        let ledger = state.ledger(audience).await?;
        let nothing_confirmed = confirmed.is_none() || ledger.is_none();
        if nothing_confirmed && state.unfolded(audience, None, 1).await?.is_empty() {
            let live = ledger.map_or(0, |ledger| ledger.live);
            return Ok(LedgerCounts { live_before: live, live_after: live, ..LedgerCounts::default() });
        }
        self.reached(Boundary::BeforeFold);
        let identity = match &ledger {
            // Entries were hashed as the ledger was; a new identity is dealt with when planning.
            Some(ledger) => ledger.identity.clone(),
            None => self.identity_of_entries(audience).await?,
        };
        let request = FoldRequest {
            audience,
            manifest: ledger.as_ref(),
            identity: &identity,
            segments: self.services.segments.as_ref(),
        };
        let last = Mutex::new(None);
        let entries = unfolded_entries(state.as_ref(), audience, &last);
        let confirmed = confirmed.map(|records| Confirmed { sync: &self.sync.spec.name, records });
        let folded = self.services.engine.fold(request, entries, confirmed).await?;
        if !folded.counts.is_balanced() {
            let message = format!("the ledger of {audience} does not balance: {:?}", folded.counts);
            return Err(Error::Unbalanced { message });
        }
        let folded_to = last.into_inner().expect("nobody panics while holding it");
        state.commit_fold(&folded.manifest, folded_to, &keeper.lease()).await?;
        self.reached(Boundary::AfterFold);
        self.services.segments.remove(&folded.obsolete).await?;
        Ok(folded.counts)
    }

    /// Tells the ledger which rows a plan found to be gone. From here on they are made again, by this plan or by the next.
    pub(crate) async fn end_absent(&self, plan: &PlanRecord, keeper: &LeaseKeeper) -> Result<(), Error> {
        let PlanManifest { id, basis, files, .. } = &plan.manifest;
        let Some(audience) = &basis.audience else { return Ok(()) };
        let (folder, files) = (self.services.folders.plan(*id), files.clone());
        let opening = tokio::task::spawn_blocking(move || AbsentRows::open(&folder, &files));
        let Some(absent) = opening.await.expect("opening plan files does not panic")? else { return Ok(()) };
        let ledger = self.services.state.ledger(audience).await?;
        let request = FoldRequest {
            audience,
            manifest: ledger.as_ref(),
            identity: &basis.ledger_identity,
            segments: self.services.segments.as_ref(),
        };
        let folded = self.services.engine.end_absent(request, absent).await?;
        if !folded.counts.is_balanced() {
            let message = format!("the ledger of {audience} does not balance: {:?}", folded.counts);
            return Err(Error::Unbalanced { message });
        }
        self.reached(Boundary::BeforeFold);
        self.services.state.commit_fold(&folded.manifest, None, &keeper.lease()).await?;
        self.reached(Boundary::AfterFold);
        Ok(self.services.segments.remove(&folded.obsolete).await?)
    }

    /// What the unfolded entries were hashed under: that of the plan they belong to. The configuration may name another
    /// key by now, so it is not asked.
    pub(crate) async fn identity_of_entries(&self, audience: &AudienceKey) -> Result<LedgerIdentity, Error> {
        let state = &self.services.state;
        let entries = state.unfolded(audience, None, 1).await?;
        let first = entries.first().expect("a first fold is asked for only when there is an entry to fold");
        let id = first.intent.plan;
        let plan = state.plan(id).await?.ok_or_else(|| StateError::Missing {
            message: format!(
                "plan {id} is gone, and with it the key under which the journal of {audience} was written; choose one: adopt what the audience holds (`convoke adopt {}`), or restore a backup",
                self.sync.spec.name
            ),
        })?;
        Ok(plan.manifest.basis.ledger_identity)
    }

    /// The newest unfolded entry.
    pub(crate) async fn last_unfolded(&self, audience: &AudienceKey) -> Result<Option<EntryId>, Error> {
        let last = Mutex::new(None);
        let entries = unfolded_entries(self.services.state.as_ref(), audience, &last);
        entries.try_for_each(|_| std::future::ready(Ok(()))).await?;
        Ok(last.into_inner().expect("nobody panics while holding it"))
    }

    /// Removes segments that a crash left behind between sealing and committing.
    ///
    /// A process that was paused may have a successor, whose segments it must not take for orphans. Those it lists were there
    /// before the ledger is read; and the lease is asked for in the store last, so that what is neither in the ledger nor ours
    /// to come was left behind.
    pub(crate) async fn remove_orphan_segments(
        &self,
        audience: &AudienceKey,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        let mut orphans = self.services.segments.list(audience).await?;
        let ledger = self.services.state.ledger(audience).await?;
        let live: Vec<_> = ledger.into_iter().flat_map(|ledger| ledger.segments).map(|segment| segment.name).collect();
        orphans.retain(|name| !live.contains(name));
        if orphans.is_empty() {
            return Ok(());
        }
        keeper.confirm().await?;
        Ok(self.services.segments.remove(&orphans).await?)
    }
}

/// The audience's unfolded entries, oldest first, a page at a time. `last` learns the id of the last one handed out.
fn unfolded_entries<'a>(
    state: &'a dyn StateStore,
    audience: &'a AudienceKey,
    last: &'a Mutex<Option<EntryId>>,
) -> BoxStream<'a, Result<Entry, StateError>> {
    let pages = stream::try_unfold((), move |()| async move {
        let after = *last.lock().expect("nobody panics while holding it");
        let page = state.unfolded(audience, after, ENTRIES_PER_PAGE).await?;
        let Some(newest) = page.last().map(|entry| entry.id) else {
            return Ok::<_, StateError>(None);
        };
        *last.lock().expect("nobody panics while holding it") = Some(newest);
        Ok(Some((stream::iter(page.into_iter().map(Ok)), ())))
    });
    pages.try_flatten().boxed()
}
