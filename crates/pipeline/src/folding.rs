//! Folds what was acknowledged into the ledger, in one transaction of the checkpoint store.

use std::sync::Mutex;

use convoke_core::AudienceKey;
use convoke_core::StateError;
use convoke_core::boundary::Boundary;
use convoke_core::journal::{Entry, EntryId};
use convoke_core::plan::LedgerCounts;
use convoke_core::state::StateStore;
use convoke_engine::{FoldRequest, ledger_identity};
use futures::stream::{self, BoxStream, StreamExt};

use crate::Pipeline;
use crate::error::Error;
use crate::lease::LeaseKeeper;

/// Entries taken from the journal at once: about 2 MB of packed rows at 500 rows an entry, which SQLite's allocator
/// gives back and takes again without asking the system.
const ENTRIES_PER_PAGE: u32 = 32;

impl Pipeline {
    /// Folds the audience's closed entries; returns how the ledger moved. Nothing to fold: it did not.
    pub(crate) async fn fold(&self, audience: &AudienceKey, keeper: &LeaseKeeper) -> Result<LedgerCounts, Error> {
        let state = &self.services.state;
        let ledger = state.ledger(audience).await?;
        if state.unfolded(audience, None, 1).await?.is_empty() {
            let live = ledger.map_or(0, |ledger| ledger.live);
            return Ok(LedgerCounts { live_before: live, live_after: live, ..LedgerCounts::default() });
        }
        self.reached(Boundary::BeforeFold);
        let identity = match &ledger {
            // Entries were hashed as the ledger was; a new identity is dealt with when planning.
            Some(ledger) => ledger.identity.clone(),
            None => ledger_identity(&self.sync.spec, &self.services.hash_key),
        };
        let request = FoldRequest {
            audience,
            manifest: ledger.as_ref(),
            identity: &identity,
            segments: self.services.segments.as_ref(),
        };
        let last = Mutex::new(None);
        let entries = unfolded_entries(state.as_ref(), audience, &last);
        let folded = self.services.engine.fold(request, entries).await?;
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

    /// Removes segments that a crash left behind between sealing and committing.
    pub(crate) async fn remove_orphan_segments(&self, audience: &AudienceKey) -> Result<(), Error> {
        let ledger = self.services.state.ledger(audience).await?;
        let live: Vec<_> = ledger.into_iter().flat_map(|ledger| ledger.segments).map(|segment| segment.name).collect();
        let mut orphans = self.services.segments.list(audience).await?;
        orphans.retain(|name| !live.contains(name));
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
    futures::TryStreamExt::try_flatten(pages).boxed()
}
