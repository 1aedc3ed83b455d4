//! What refused records mean to the next plan: which are sent again, which are held back, which rejects are closed.
//!
//! A plan is told the keys of the open rejects, in hashes, and which content of them is held back. It tells what became of
//! each. Before its row is written, plans that wait are superseded, since a reject has one mark, and the rejects that it
//! leaves as they are are marked as kept by it; once it is settled, what it neither keeps nor was refused itself is closed.
//! A crash in between leaves marks of a plan that nobody will ever settle.

use std::collections::HashSet;
use std::sync::Arc;

use convoke_core::plan::PlanManifest;
use convoke_core::reject::{KeptRejects, NotedReject, OpenReject, is_past_resending};
use convoke_core::source::Coverage;
use convoke_core::state::{RejectStage, RunState};
use convoke_core::{KeyHash, RunId, Timestamp};
use convoke_engine::{RefusalFates, Refusals};

use crate::Pipeline;
use crate::error::Error;
use crate::lease::LeaseKeeper;
use crate::run::{Ended, Extent};

/// Open rejects that a plan knows of at most: some 50 MB. What is beyond is sent again by each plan.
const MOST_REFUSALS: usize = 500_000;

/// Open rejects read from the store at once.
const PAGE: u32 = 10_000;

/// Which refused records are asked for; all that are open, if nothing is named.
#[derive(Clone, Debug, Default)]
pub struct RejectChoice {
    /// Those that this run was refused.
    pub run: Option<RunId>,
    /// Those with these keys: each as hash, or as it is typed if the key has one column.
    pub keys: Vec<String>,
}

/// What became of refused records that were asked for.
#[derive(Debug)]
pub struct Resent {
    /// Records that were asked for.
    pub chosen: u64,
    /// Of these: created or updated by the plan. The others left the source, are in the audience already, or must not be.
    pub planned: u64,
    /// Of these: refused once more.
    pub refused_again: u64,
    pub ended: Ended,
}

impl Resent {
    /// How many were accepted; none if the plan was not delivered to its end.
    pub fn accepted(&self) -> Option<u64> {
        let is_settled = matches!(self.ended.run.state, RunState::Succeeded | RunState::Partial);
        is_settled.then(|| self.planned.saturating_sub(self.refused_again))
    }
}

impl Pipeline {
    /// Sends refused records once more, whatever their age: a run that reads the source again, because only the source
    /// says what is true now.
    pub async fn resend(&self, choice: &RejectChoice) -> Result<Resent, Error> {
        let keys = Arc::new(self.choose_rejects(choice).await?);
        let extent = Extent { full: true, resend: Some(Arc::clone(&keys)), ..Extent::default() };
        let ended = self.run(extent).await?;
        let mut again = HashSet::new();
        self.each_open_reject(|reject| {
            if reject.run == ended.run.id && reject.content.is_some() && keys.contains(&reject.key) {
                again.insert(reject.key);
            }
        })
        .await?;
        let planned = ended.plan.as_ref().and_then(|plan| plan.manifest.resent).unwrap_or(0);
        Ok(Resent { chosen: keys.len() as u64, planned, refused_again: again.len() as u64, ended })
    }

    /// The keys of what is asked for. Asking for nothing that is there is an error.
    async fn choose_rejects(&self, choice: &RejectChoice) -> Result<HashSet<KeyHash>, Error> {
        let mut named = Vec::with_capacity(choice.keys.len());
        for key in &choice.keys {
            named.push(self.key_forms(key).await?);
        }
        let mut open = HashSet::new();
        self.each_open_reject(|reject| {
            let is_of_run = choice.run.is_none_or(|run| reject.run == run);
            // What was refused while planning is judged anew by each plan, and deletes are made by each.
            if is_of_run && reject.content.is_some() {
                open.insert(reject.key);
            }
        })
        .await?;
        let name = &self.sync.spec.name;
        if open.is_empty() {
            self.refuse_judged_anew(choice).await?;
        }
        let chosen = choose(&open, &named).map_err(|message| Error::Request {
            message: format!("nothing was sent: {message}; `convoke rejects list {name}` shows what is open"),
        })?;
        Ok(chosen)
    }

    /// Says what to do about rejects that are not sent again because each plan judges them anew.
    async fn refuse_judged_anew(&self, choice: &RejectChoice) -> Result<(), Error> {
        let name = &self.sync.spec.name;
        let open = self.services.state.rejects(name, None, None, PAGE).await?;
        let is_meant = |noted: &&NotedReject| choice.run.is_none_or(|run| noted.record.run == run);
        if !open.iter().filter(is_meant).any(|noted| noted.record.stage == RejectStage::Invalid) {
            return Ok(());
        }
        let message = format!(
            "nothing was sent: what is open was invalid while planning, and the destination has not seen it. Each plan judges such records anew: correct them in the source, or the mapping, and `convoke run {name}`; `convoke rejects list {name}` shows them"
        );
        Err(Error::Request { message })
    }

    /// The hashes that a key may stand for.
    async fn key_forms(&self, key: &str) -> Result<Vec<KeyHash>, Error> {
        if let Some(hash) = KeyHash::from_hex(key) {
            return Ok(vec![hash]);
        }
        let columns = &self.sync.spec.key;
        if columns.len() > 1 {
            let message = format!(
                "the key has {} parts ({}); name it by its hash, which `convoke rejects list {} --json` tells",
                columns.len(),
                columns.join(", "),
                self.sync.spec.name
            );
            return Err(Error::Request { message });
        }
        self.keys_of(&[key.to_owned()]).await
    }

    /// What a plan has to know of earlier refusals.
    pub(crate) async fn refusals(&self, extent: &Extent, now: Timestamp) -> Result<Refusals, Error> {
        let resend_for = self.sync.spec.resend_for;
        let (mut refusals, mut beyond) = (Refusals::default(), 0_u64);
        self.each_open_reject(|reject| {
            if refusals.len() == MOST_REFUSALS {
                beyond += 1;
                return;
            }
            let is_asked_for = extent.resend.as_ref().is_some_and(|keys| keys.contains(&reject.key));
            let is_held = !is_asked_for && is_past_resending(reject.first_at, now, resend_for);
            refusals.add(reject.key, reject.content.filter(|_| is_held));
        })
        .await?;
        if beyond > 0 {
            self.notice(format!(
                "more than {MOST_REFUSALS} refused records are open; {beyond} of them are sent again whatever their age"
            ));
        }
        Ok(refusals)
    }

    /// Marks what the plan leaves as it is. Before its row is written: whoever finds the row finds the marks.
    pub(crate) async fn keep_rejects(
        &self,
        manifest: &PlanManifest,
        fates: RefusalFates,
        keeper: &LeaseKeeper,
    ) -> Result<(), Error> {
        if !closes_rejects(manifest) {
            return Ok(());
        }
        let kept = kept(manifest, fates);
        Ok(self.services.state.keep_rejects(&manifest.sync, manifest.id, &kept, &keeper.lease()).await?)
    }

    /// Closes the rejects that a settled plan has an answer to.
    pub(crate) async fn close_rejects(&self, manifest: &PlanManifest, keeper: &LeaseKeeper) -> Result<(), Error> {
        if closes_rejects(manifest) {
            self.services.state.close_rejects(&manifest.sync, manifest.id, &keeper.lease()).await?;
        }
        Ok(())
    }

    async fn each_open_reject(&self, mut take: impl FnMut(OpenReject)) -> Result<(), Error> {
        let mut last = None;
        loop {
            let page = self.services.state.open_rejects(&self.sync.spec.name, last, PAGE).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.id);
            page.into_iter().for_each(&mut take);
        }
    }
}

/// How many of the records that were asked for a plan sends; none if nobody asked.
pub(crate) fn count_resent(extent: &Extent, fates: &RefusalFates) -> Option<u64> {
    let asked_for = extent.resend.as_ref()?;
    Some(fates.sent.iter().filter(|key| asked_for.contains(key)).count() as u64)
}

/// Whether a plan says anything about what was refused before: not one that read nothing, nor a canary, which leaves out
/// what is over its limit, nor a backfill, whose records may be older than what was refused.
fn closes_rejects(manifest: &PlanManifest) -> bool {
    manifest.source.proposed.is_some() && manifest.limit.is_none() && manifest.backfill.is_none()
}

/// What a plan leaves as it is. Absence means something in a whole snapshot only.
fn kept(manifest: &PlanManifest, fates: RefusalFates) -> KeptRejects {
    let is_whole = manifest.source.coverage == Coverage::Snapshot && manifest.source.complete;
    if is_whole {
        return KeptRejects::Only(fates.held);
    }
    KeptRejects::AllBut([fates.sent, fates.settled].concat())
}

/// Those of the open keys that are named, each by its forms; all if none is.
fn choose(open: &HashSet<KeyHash>, named: &[Vec<KeyHash>]) -> Result<HashSet<KeyHash>, String> {
    if open.is_empty() {
        return Err("no such record that the destination refused is open".to_owned());
    }
    if named.is_empty() {
        return Ok(open.clone());
    }
    let mut chosen = HashSet::with_capacity(named.len());
    for (index, forms) in named.iter().enumerate() {
        let found = forms.iter().find(|form| open.contains(form));
        chosen.insert(*found.ok_or_else(|| format!("no open reject has the key given as number {}", index + 1))?);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> KeyHash {
        KeyHash([number; 16])
    }

    #[test]
    fn what_is_named_must_be_open() {
        let open = HashSet::from([key(1), key(2), key(3)]);
        assert_eq!(choose(&open, &[]), Ok(open.clone()));
        assert_eq!(choose(&open, &[vec![key(9), key(2)], vec![key(3)]]), Ok(HashSet::from([key(2), key(3)])));
        assert!(choose(&open, &[vec![key(1)], vec![key(9)]]).unwrap_err().contains("number 2"));
        assert!(choose(&HashSet::new(), &[]).is_err());
    }
}
