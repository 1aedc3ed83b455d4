//! How records are read back from the columns of a row, whichever database it stands in.
//!
//! The tuples name the columns in the order in which queries give them.

use convoke_core::backfill::{BackfillRecord, BackfillState, OpenBackfill};
use convoke_core::enrichment::{EnrichmentId, EnrichmentScope, EnrichmentStage, OpenEnrichment};
use convoke_core::hash::KeyHash;
use convoke_core::ids::{BackfillId, ConnectionName};
use convoke_core::journal::{Entry, EntryId, Intent, Operation, unpack_outcomes, unpack_rows};
use convoke_core::sink::{AttemptTag, JobId};
use convoke_core::state::{AuditRecord, Checkpoint, PlanRecord, PlanState, Recreated, RunRecord, RunState};
use convoke_core::{AudienceKey, RowId, SyncName, Timestamp};

use crate::fault::Fault;
use crate::stored;

pub(crate) const COUNTS: &str = "the counts of a run";
pub(crate) const ENRICHMENT: &str = "the enrichments of a run";
pub(crate) const PLAN_MANIFEST: &str = "the manifest of a plan";
pub(crate) const POSITION: &str = "the position of a source";
pub(crate) const CHECKPOINT_COUNTS: &str = "the counts of a checkpoint";
pub(crate) const LEDGER_MANIFEST: &str = "the manifest of a ledger";
pub(crate) const BINDING: &str = "the audience binding of a sync";
pub(crate) const SPENT: &str = "the budget of a credential";
const ENTRY: &str = "a damaged journal entry";
const KEY: &str = "a key hash";
const SELECTION: &str = "what a backfill reads";
const WINDOWS: &str = "the windows of a backfill";
const ROW_IDS: &str = "the rows of an enrichment";

/// Id, plan, sync, connection, audience id, batch, operation, attempt, tag, time of the intent, number of rows, packed
/// rows, packed outcomes.
pub(crate) type EntryColumns =
    (i64, String, String, String, String, i64, String, i64, i64, i64, i64, Vec<u8>, Option<Vec<u8>>);

pub(crate) fn entry_from(columns: EntryColumns) -> Result<Entry, Fault> {
    let (id, plan, sync, connection, audience_id, batch, operation, attempt, tag, intended_at, count, rows, outcomes) =
        columns;
    let rows = stored::known(unpack_rows(&rows), ENTRY)?;
    let outcomes = outcomes.map(|packed| stored::known(unpack_outcomes(&packed), ENTRY)).transpose()?;
    let is_whole = usize::try_from(count) == Ok(rows.len())
        && outcomes.as_ref().is_none_or(|outcomes| outcomes.len() == rows.len());
    stored::known(is_whole.then_some(()), ENTRY)?;
    let intent = Intent {
        plan: stored::plan_id(&plan)?,
        sync: SyncName::new(sync),
        audience: AudienceKey { connection: ConnectionName::new(connection), audience_id },
        batch: stored::small(batch, ENTRY)?,
        operation: stored::known(Operation::parse(&operation), ENTRY)?,
        attempt: stored::small(attempt, ENTRY)?,
        tag: AttemptTag(stored::small(tag, ENTRY)?),
        intended_at: Timestamp(intended_at),
        rows,
    };
    Ok(Entry { id: EntryId(id), intent, outcomes })
}

/// Brings the tags of each key together; rows of key, sweeps and tag come ordered by key.
pub(crate) fn recreated_from(rows: Vec<(Vec<u8>, i64, i64)>) -> Result<Vec<Recreated>, Fault> {
    let mut found: Vec<Recreated> = Vec::new();
    for (key, sweeps, tag) in rows {
        let key = KeyHash(stored::hash(&key, KEY)?);
        let tag = AttemptTag(stored::small(tag, "the tag of an attempt")?);
        match found.last_mut() {
            Some(last) if last.key == key => last.tags.push(tag),
            _ => found.push(Recreated { key, tags: vec![tag], sweeps: stored::small(sweeps, "a number of sweeps")? }),
        }
    }
    Ok(found)
}

/// Id, sync, start, end, state, plan, message, counts, delivery, ledger, enrichment.
pub(crate) type RunColumns = (
    String,
    String,
    i64,
    Option<i64>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

pub(crate) fn run_from(columns: RunColumns) -> Result<RunRecord, Fault> {
    let (id, sync, started_at, ended_at, state, plan, message, counts, delivery, ledger, enrichment) = columns;
    Ok(RunRecord {
        id: stored::run_id(&id)?,
        sync: SyncName::new(sync),
        started_at: Timestamp(started_at),
        ended_at: ended_at.map(Timestamp),
        state: stored::known(RunState::parse(&state), "the state of a run")?,
        plan: plan.as_deref().map(stored::plan_id).transpose()?,
        message,
        counts: stored::optional_from_json(counts, COUNTS)?,
        delivery: stored::optional_from_json(delivery, COUNTS)?,
        ledger: stored::optional_from_json(ledger, COUNTS)?,
        enrichment: stored::optional_from_json(enrichment, ENRICHMENT)?,
    })
}

/// Manifest, hash, state.
pub(crate) type PlanColumns = (String, String, String);

pub(crate) fn plan_from((manifest, hash, state): PlanColumns) -> Result<PlanRecord, Fault> {
    Ok(PlanRecord {
        manifest: stored::from_json(&manifest, PLAN_MANIFEST)?,
        hash,
        state: stored::known(PlanState::parse(&state), "the state of a plan")?,
    })
}

/// Version, position, configuration hash, ledger version, counts, records of the last snapshot, whether it is clean.
pub(crate) type CheckpointColumns = (i64, Option<String>, Option<String>, i64, Option<String>, Option<i64>, bool);

/// A sync without a row has settled nothing yet.
pub(crate) fn checkpoint_from(columns: Option<CheckpointColumns>) -> Result<Checkpoint, Fault> {
    let (version, position, config_hash, ledger_version, counts, snapshot_records, clean) =
        columns.unwrap_or((0, None, None, 0, None, None, false));
    Ok(Checkpoint {
        version: version.cast_unsigned(),
        position: stored::optional_from_json(position, POSITION)?,
        config_hash,
        ledger_version: ledger_version.cast_unsigned(),
        counts: stored::optional_from_json(counts, CHECKPOINT_COUNTS)?,
        snapshot_records: snapshot_records.map(i64::cast_unsigned),
        clean,
    })
}

/// Time, actor, action, detail.
pub(crate) type AuditColumns = (i64, String, String, String);

pub(crate) fn audit_from((at, actor, action, detail): AuditColumns) -> AuditRecord {
    AuditRecord { at: Timestamp(at), actor, action, detail }
}

/// Id, sync, selection, number of windows, settled windows, whether one was partial, configuration hash, state, start.
pub(crate) type BackfillColumns = (String, String, String, i64, i64, bool, String, String, i64);

pub(crate) fn backfill_from(columns: BackfillColumns) -> Result<BackfillRecord, Fault> {
    let (id, sync, selection, window_count, settled, is_partial, config_hash, state, started_at) = columns;
    Ok(BackfillRecord {
        id: stored::known(BackfillId::parse(&id), "the id of a backfill")?,
        sync: SyncName::new(sync),
        selection: stored::from_json(&selection, SELECTION)?,
        window_count: stored::small(window_count, WINDOWS)?,
        settled: stored::small(settled, WINDOWS)?,
        is_partial,
        config_hash,
        state: stored::known(BackfillState::parse(&state), "the state of a backfill")?,
        started_at: Timestamp(started_at),
    })
}

pub(crate) fn backfill_selection(backfill: &BackfillRecord) -> Result<String, Fault> {
    stored::to_json(&backfill.selection, SELECTION)
}

/// The columns of a backfill, and its windows.
pub(crate) type OpenBackfillColumns = (String, String, String, i64, i64, bool, String, String, i64, String);

pub(crate) fn open_backfill_from(columns: OpenBackfillColumns) -> Result<OpenBackfill, Fault> {
    let (id, sync, selection, count, settled, is_partial, config_hash, state, started_at, windows) = columns;
    let record = backfill_from((id, sync, selection, count, settled, is_partial, config_hash, state, started_at))?;
    Ok(OpenBackfill { record, windows: stored::from_json(&windows, WINDOWS)? })
}

pub(crate) fn backfill_windows(backfill: &OpenBackfill) -> Result<String, Fault> {
    stored::to_json(&backfill.windows, WINDOWS)
}

/// Id, run, connection, audience id, stage, job.
pub(crate) type EnrichmentColumns = (i64, String, String, String, String, Option<String>);

pub(crate) fn enrichment_from(columns: EnrichmentColumns) -> Result<OpenEnrichment, Fault> {
    let (id, run, connection, audience_id, stage, job) = columns;
    Ok(OpenEnrichment {
        id: EnrichmentId(id),
        run: stored::run_id(&run)?,
        audience: AudienceKey { connection: ConnectionName::new(connection), audience_id },
        stage: stored::known(EnrichmentStage::parse(&stage, job), "the stage of an enrichment")?,
    })
}

pub(crate) fn job_of(stage: &EnrichmentStage) -> Option<String> {
    match stage {
        EnrichmentStage::Started(JobId(job)) => Some(job.clone()),
        EnrichmentStage::Noted | EnrichmentStage::Starting => None,
    }
}

pub(crate) fn scope_to_json(scope: &EnrichmentScope) -> Result<Option<String>, Fault> {
    let row_ids: Option<Vec<&str>> = scope.rows().map(|rows| rows.iter().map(RowId::as_str).collect());
    stored::optional_to_json(row_ids.as_ref(), ROW_IDS)
}

pub(crate) fn scope_from(row_ids: Option<String>) -> Result<EnrichmentScope, Fault> {
    let row_ids: Option<Vec<String>> = stored::optional_from_json(row_ids, ROW_IDS)?;
    Ok(row_ids
        .map_or(EnrichmentScope::Audience, |ids| EnrichmentScope::Rows(ids.into_iter().map(RowId::new).collect())))
}
