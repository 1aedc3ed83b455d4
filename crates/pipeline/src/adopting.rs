//! Takes over rows that an audience already holds.
//!
//! The way into an audience that was filled by something else, and the way back after state was lost: rows are read,
//! matched by their key columns, and entered into the ledger with their ids. Nothing is written to a row.

use convoke_core::error::SinkError;
use convoke_core::journal::RowOutcome;
use convoke_core::ledger::LedgerManifest;
use convoke_core::sink::{AudienceBinding, ScannedRow};
use convoke_core::state::PlanState;
use convoke_core::{AudienceKey, RunId};
use convoke_engine::{AdoptRequest, Adopted, FoldRequest, ledger_identity};
use futures::stream::{self, BoxStream, StreamExt};
use serde::Serialize;
use uuid::Uuid;

use crate::Pipeline;
use crate::error::Error;
use crate::lease::LeaseKeeper;

/// What was found and taken over.
#[derive(Clone, Debug, Serialize)]
pub struct Adoption {
    pub audience: AudienceKey,
    pub scanned: u64,
    pub adopted: u64,
    /// Rows the ledger knew already.
    pub known: u64,
    /// Rows whose key another row has; the first seen was taken.
    pub duplicates: u64,
    /// Ids of the first of them.
    pub duplicate_rows: Vec<String>,
    /// Rows without a usable key; left alone.
    pub unexplained: u64,
}

impl Pipeline {
    /// Enters the audience's rows into the ledger.
    pub async fn adopt(&self) -> Result<Adoption, Error> {
        let keeper = self.take_lease().await?;
        let outcome = Box::pin(self.adopt_named(&keeper)).await;
        keeper.release().await;
        outcome
    }

    async fn adopt_named(&self, keeper: &LeaseKeeper) -> Result<Adoption, Error> {
        let known = self.services.state.binding(&self.sync.spec.name).await?;
        let survey = self.survey(known.as_ref()).await?;
        if survey.audiences.is_empty() {
            let name = &self.sync.spec.audience.name;
            let message = format!("there is no audience `{name}` to take over; `convoke run` makes it");
            return Err(Error::Request { message });
        }
        let binding = self.ensure_audience(known.as_ref().map(|binding| binding.key.audience_id.as_str())).await?;
        let own_keeper = self.lease_for(&binding, keeper).await?;
        let writer = own_keeper.as_ref().unwrap_or(keeper);
        let outcome = Box::pin(self.adopt_leased(&binding, writer)).await;
        if let Some(own_keeper) = own_keeper {
            own_keeper.release().await;
        }
        outcome
    }

    async fn adopt_leased(&self, binding: &AudienceBinding, keeper: &LeaseKeeper) -> Result<Adoption, Error> {
        let state = &self.services.state;
        state.bind(&self.sync.spec.name, binding, &keeper.lease()).await?;
        match Box::pin(self.recover(RunId(Uuid::now_v7()), keeper)).await {
            // What cannot be looked up is found by the scan, or was never made.
            Ok(()) | Err(Error::Unbalanced { .. }) => {}
            Err(error) => return Err(error),
        }
        let adopted = self.scan_into_ledger(binding).await?;
        state.commit_fold(&adopted.folded.manifest, None, &keeper.lease()).await?;
        self.services.segments.remove(&adopted.folded.obsolete).await?;
        for entry in state.open_entries(&binding.key).await? {
            let outcomes = vec![RowOutcome::NotApplied; entry.intent.rows.len()];
            state.close(entry.id, &outcomes, &keeper.lease()).await?;
        }
        for plan in state.plans_in(&self.sync.spec.name, PlanState::Applying).await? {
            self.abandon(&plan, "the audience was adopted").await?;
        }
        Ok(Adoption {
            audience: binding.key.clone(),
            scanned: adopted.scanned,
            adopted: adopted.folded.counts.adopted,
            known: adopted.known,
            duplicates: adopted.duplicate_count,
            duplicate_rows: adopted.duplicates.iter().map(ToString::to_string).collect(),
            unexplained: adopted.unexplained,
        })
    }

    async fn scan_into_ledger(&self, binding: &AudienceBinding) -> Result<Adopted, Error> {
        let identity = ledger_identity(&self.sync.spec, &self.services.hash_key);
        let ledger = self.services.state.ledger(&binding.key).await?.map(|ledger| {
            if ledger.identity == identity {
                return ledger;
            }
            // Hashes under another key or key specification say nothing any more: begin anew from what is there.
            LedgerManifest {
                segments: Vec::new(),
                live: 0,
                live_by_owner: Vec::new(),
                identity: identity.clone(),
                ..ledger
            }
        });
        let request = AdoptRequest {
            ledger: FoldRequest {
                audience: &binding.key,
                manifest: ledger.as_ref(),
                identity: &identity,
                segments: self.services.segments.as_ref(),
            },
            spec: &self.sync.spec,
            hash_key: &self.services.hash_key,
        };
        Ok(self.services.engine.adopt(request, self.scanned_rows(binding)).await?)
    }

    fn scanned_rows<'a>(&'a self, binding: &'a AudienceBinding) -> BoxStream<'a, Result<ScannedRow, SinkError>> {
        /// Where a scan goes on.
        enum Next {
            Page(Option<String>),
            End,
        }
        let pages = stream::try_unfold(Next::Page(None), move |next| async move {
            let Next::Page(cursor) = next else { return Ok(None) };
            let page = self.sync.destination.scan(binding, cursor.as_deref()).await?;
            let following = page.next.map_or(Next::End, |cursor| Next::Page(Some(cursor)));
            Ok::<_, SinkError>(Some((stream::iter(page.rows.into_iter().map(Ok)), following)))
        });
        futures::TryStreamExt::try_flatten(pages).boxed()
    }
}
