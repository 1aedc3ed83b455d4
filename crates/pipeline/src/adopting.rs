//! Takes over rows that an audience already holds.
//!
//! The way into an audience that was filled by something else, and the way back after state was lost: rows are read,
//! matched by their key columns, and entered into the ledger with their ids. Nothing is written to a row.

use convoke_core::boundary::Boundary;
use convoke_core::error::StateError;
use convoke_core::journal::RowOutcome;
use convoke_core::ledger::LedgerManifest;
use convoke_core::sink::AudienceBinding;
use convoke_core::state::PlanState;
use convoke_core::{AudienceKey, RunId};
use convoke_engine::{AdoptRequest, Adopted, FoldRequest, ledger_identity};
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

/// What is left of what we knew of an audience.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Books {
    Kept,
    Lost,
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
        let known_id = known.as_ref().map(|binding| binding.key.audience_id.as_str());
        let binding = self.ensure_audience(known_id, keeper).await?;
        let own_keeper = self.lease_for(&binding, keeper).await?;
        let writer = own_keeper.as_ref().unwrap_or(keeper);
        let outcome = Box::pin(self.adopt_leased(&binding, writer)).await;
        if let Some(own_keeper) = own_keeper {
            own_keeper.release().await;
        }
        outcome
    }

    async fn adopt_leased(&self, binding: &AudienceBinding, keeper: &LeaseKeeper) -> Result<Adoption, Error> {
        self.claim(binding, keeper).await?;
        self.close_dead_runs(RunId(Uuid::now_v7())).await?;
        let books = self.settle_for_adoption(binding, keeper).await?;
        // First of all: a plan that went on after this would make the rows again that are adopted now.
        for plan in self.services.state.plans_in(&self.sync.spec.name, PlanState::Applying).await? {
            self.abandon(&plan, "the audience was adopted").await?;
        }
        let adopted = self.unless_cancelled(Box::pin(self.scan_into_ledger(binding, books))).await??;
        self.commit_adoption(&adopted, books, keeper).await?;
        Ok(Adoption {
            audience: binding.key.clone(),
            scanned: adopted.scanned,
            adopted: adopted.folded.counts.adopted + adopted.taken_over,
            known: adopted.known,
            duplicates: adopted.duplicate_count,
            duplicate_rows: adopted.duplicates.iter().map(ToString::to_string).collect(),
            unexplained: adopted.unexplained,
        })
    }

    /// Settles and folds what can be, and waits until the rest of what was sent shows in the audience, or never will.
    async fn settle_for_adoption(&self, binding: &AudienceBinding, keeper: &LeaseKeeper) -> Result<Books, Error> {
        let courier = self.courier(binding.clone(), keeper.view());
        // What cannot be looked up is found by the scan, or was never made.
        if self.settle_open(&courier, binding, keeper).await? > 0 {
            self.unless_cancelled(self.services.clock.sleep(self.settling_time(keeper))).await?;
        }
        self.wait_until_quiet(binding).await?;
        if self.are_books_lost(&binding.key).await? {
            self.notice(format!("the ledger of audience `{}` is lost; it begins anew", binding.name));
            return Ok(Books::Lost);
        }
        self.sweep(&courier, binding).await?;
        self.fold(&binding.key, keeper).await?;
        Ok(Books::Kept)
    }

    /// Whether segments of the ledger are gone, or what tells how the journal is to be read.
    async fn are_books_lost(&self, audience: &AudienceKey) -> Result<bool, Error> {
        let state = &self.services.state;
        let found = match state.ledger(audience).await? {
            Some(ledger) => self.open_segments(&ledger).await.map(drop),
            None if state.unfolded(audience, None, 1).await?.is_empty() => Ok(()),
            None => self.identity_of_entries(audience).await.map(drop),
        };
        match found {
            Ok(()) => Ok(false),
            Err(Error::State(StateError::Missing { .. })) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Puts the adopted rows in force, and only then ends what they settle: a crash in between is as if nothing was done,
    /// or leaves entries and segments that the next command finds.
    async fn commit_adoption(&self, adopted: &Adopted, books: Books, keeper: &LeaseKeeper) -> Result<(), Error> {
        let state = &self.services.state;
        let manifest = &adopted.folded.manifest;
        let audience = &manifest.audience;
        let folded_to = match books {
            Books::Kept => None,
            // The scan has seen what they led to.
            Books::Lost => self.last_unfolded(audience).await?,
        };
        self.reached(Boundary::BeforeFold);
        state.commit_fold(manifest, folded_to, &keeper.lease()).await?;
        self.reached(Boundary::AfterFold);
        for entry in state.open_entries(audience).await? {
            let outcomes = vec![RowOutcome::NotApplied; entry.intent.rows.len()];
            state.close(entry.id, &outcomes, &keeper.lease()).await?;
        }
        self.services.segments.remove(&adopted.folded.obsolete).await?;
        self.remove_orphan_segments(audience, keeper).await
    }

    async fn scan_into_ledger(&self, binding: &AudienceBinding, books: Books) -> Result<Adopted, Error> {
        let identity = ledger_identity(&self.sync.spec, &self.services.hash_key);
        let ledger = self.services.state.ledger(&binding.key).await?.map(|ledger| {
            if ledger.identity == identity && books == Books::Kept {
                return ledger;
            }
            // Hashes that are lost, or made under another key or key specification, say nothing any more: begin anew from
            // what is there.
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
        self.services.engine.adopt(request, self.scanned_rows(binding)).await.map_err(Error::of_scan)
    }
}
