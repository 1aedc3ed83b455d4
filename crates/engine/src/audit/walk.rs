//! Goes over rows and entries in the order of keys: counts, names a few, and tells the ledger what it has to learn.

use convoke_core::audit::{AuditCounts, AuditSample, Finding};
use convoke_core::sink::AttemptTag;
use convoke_core::{ContentHash, KeyHash, RowId, SinkError};

use super::AuditRequest;
use super::absent::Absent;
use super::describe::Probe;
use super::doubles::Doubles;
use super::scan::{ACTION, PlacedBatch, Sorted};
use super::standing::{Group, Mend, MissingRows, Standing};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::event::{Event, EventKind};
use crate::ledger::fold::Events;

/// A row or an entry, with how it stands.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) standing: Standing,
    /// The row's, or the one that the entry names.
    pub(super) row_id: &'a str,
    /// Unknown if there is no row.
    pub(super) content: ContentHash,
    /// Of the row's cells; empty if there is no row, or it is as it should be.
    pub(super) digests: &'a [u8],
    pub(super) tag: Option<AttemptTag>,
}

/// What was found so far.
pub(super) struct Findings {
    pub(super) counts: AuditCounts,
    pub(super) samples: Vec<AuditSample>,
    pub(super) probes: Vec<Probe>,
    pub(super) doubles: Doubles,
    pub(super) absent: Absent,
    /// Samples of each finding.
    wanted: usize,
    named: [usize; Finding::COUNT],
}

impl Findings {
    pub(super) fn new(request: &AuditRequest<'_>) -> Self {
        Self {
            counts: AuditCounts::default(),
            samples: Vec::new(),
            probes: Vec::new(),
            doubles: Doubles::new(request.folder, request.hash_key),
            absent: Absent::new(request.folder, &request.spec.name),
            wanted: request.samples,
            named: [0; Finding::COUNT],
        }
    }

    /// Notes a row that has no key.
    pub(super) fn note_without_key(&mut self, seen: Seen<'_>) {
        self.note(Finding::ExtraOfOthers, None, &seen, None);
    }

    fn note(&mut self, finding: Finding, key: Option<KeyHash>, seen: &Seen<'_>, ledger_row: Option<&RowId>) {
        *self.counts.of_mut(finding) += 1;
        let named = &mut self.named[finding as usize];
        if *named == self.wanted {
            return;
        }
        *named += 1;
        if let Some(key) = key {
            self.probes.push(Probe { key, sample: self.samples.len(), digests: seen.digests.to_vec() });
        }
        self.samples.push(AuditSample {
            finding,
            row_id: seen.owned_id(),
            ledger_row: ledger_row.cloned(),
            attempt: seen.tag,
            origin: None,
            columns: Vec::new(),
        });
    }

    fn count(&mut self, standing: Standing) {
        match standing {
            Standing::InStep => self.counts.in_step += 1,
            Standing::OtherSync => self.counts.other_syncs += 1,
            _ => {}
        }
        let is_named = !matches!(standing, Standing::Ours | Standing::Foreign);
        self.counts.ledger_rows += u64::from(is_named);
    }
}

/// The rows and entries of one key.
struct Open {
    key: KeyHash,
    group: Group,
    /// The row that the ledger names, or will.
    named: Option<RowId>,
    last: Option<RowId>,
}

impl Open {
    fn new(key: KeyHash) -> Self {
        Self { key, group: Group::default(), named: None, last: None }
    }
}

/// Takes everything that was sorted.
pub(super) async fn walk(
    engine: &Engine,
    request: &AuditRequest<'_>,
    mut sorted: Sorted,
    findings: &mut Findings,
    events: &mut Events,
) -> Result<(), EngineError> {
    let mut ledger = Lessons { request, events, unseen: Vec::new() };
    let mut open: Option<Open> = None;
    while let Some(batch) = sorted.next().await {
        let batch = PlacedBatch::of(&batch.map_err(|cause| engine.query_failed(ACTION, &cause))?);
        for row in 0..batch.rows() {
            let (key, seen) = batch.at(row);
            if open.as_ref().is_none_or(|open| open.key != key) {
                ledger.close(open.take(), findings).await?;
            }
            let open = open.get_or_insert_with(|| Open::new(key));
            take(open, &seen, findings, &mut ledger).await?;
        }
    }
    ledger.close(open, findings).await?;
    ledger.confirm_unseen().await
}

async fn take(
    open: &mut Open,
    seen: &Seen<'_>,
    findings: &mut Findings,
    ledger: &mut Lessons<'_, '_>,
) -> Result<(), EngineError> {
    let row_id = seen.owned_id();
    if open.last.as_ref() == Some(&row_id) {
        return Err(changed("a row showed twice"));
    }
    findings.count(seen.standing);
    let (finding, mend) = open.group.take(seen.standing);
    if let Some(finding) = finding {
        let other = open.named.as_ref().filter(|named| **named != row_id);
        findings.note(finding, Some(open.key), seen, other);
    }
    match mend {
        Mend::Nothing => {}
        Mend::Note(kind) => ledger.learn(kind, open.key, seen.content, seen.row_id).await?,
        Mend::Adopt => ledger.learn(EventKind::Adopted, open.key, seen.content, seen.row_id).await?,
        Mend::Replace => {
            ledger.learn(EventKind::Deleted, open.key, ContentHash::UNKNOWN, seen.row_id).await?;
            ledger.learn(EventKind::Adopted, open.key, seen.content, seen.row_id).await?;
        }
        Mend::Delete => findings.doubles.push(row_id.clone())?,
    }
    if finding == Some(Finding::Missing) {
        ledger.unseen.push(row_id.clone());
        if ledger.unseen.len() >= ledger.request.find_rows.max(1) {
            ledger.confirm_unseen().await?;
        }
    }
    if open.named.is_none() || matches!(mend, Mend::Adopt | Mend::Replace) {
        open.named = Some(row_id.clone()).filter(|_| seen.standing != Standing::Foreign);
    }
    open.last = Some(row_id);
    Ok(())
}

/// What the ledger has to learn.
struct Lessons<'a, 'r> {
    request: &'a AuditRequest<'r>,
    events: &'a mut Events,
    /// Rows that the scan did not show, to be asked for.
    unseen: Vec<RowId>,
}

impl Lessons<'_, '_> {
    async fn learn(
        &mut self,
        kind: EventKind,
        key: KeyHash,
        content: ContentHash,
        row_id: &str,
    ) -> Result<(), EngineError> {
        let owner = &self.request.spec.name;
        self.events.push(Event { key, kind, content, order: &[], row_id, owner }).await
    }

    /// Decides about a missing row once all rows of its key are known.
    async fn close(&mut self, open: Option<Open>, findings: &mut Findings) -> Result<(), EngineError> {
        let Some(Open { key, group, .. }) = open else { return Ok(()) };
        match group.finish(self.request.missing) {
            Some(MissingRows::Removed) => self.learn(EventKind::FoundRemoved, key, ContentHash::UNKNOWN, "").await,
            Some(MissingRows::MadeAgain) => findings.absent.push(key),
            None => Ok(()),
        }
    }

    /// Asks for rows that the scan did not show. One that is there means that the scan cannot be trusted.
    async fn confirm_unseen(&mut self) -> Result<(), EngineError> {
        let unseen = std::mem::take(&mut self.unseen);
        if unseen.is_empty() {
            return Ok(());
        }
        let found = (self.request.find)(unseen).await.map_err(|cause| EngineError::Scan { cause })?;
        if found.is_empty() { Ok(()) } else { Err(changed("a row that is there was not shown")) }
    }
}

fn changed(what: &str) -> EngineError {
    let message =
        format!("{what}: the audience changed while it was read; try again once nobody else adds or removes rows");
    EngineError::Scan { cause: SinkError::Unavailable { message, retry_after: None, cause: None } }
}
