//! What would become of the first records of a source.

use convoke_core::hash::encode_part;
use convoke_core::spec::SyncSpec;
use convoke_core::{HashKey, Timestamp};

use crate::cell::CellProblem;
use crate::engine::{Engine, Prepared};
use crate::error::EngineError;
use crate::mapping::{CanonicalColumns, Failed};
use crate::spool::{GroupRecords, MalformedOrigin, Spool};
use crate::suppression::{Suppressed, SuppressionList, hash_lists};
use crate::text_column::{as_text, text_at};

/// What a preview is made from.
#[derive(Clone, Copy)]
pub struct PreviewRequest<'a> {
    pub spec: &'a SyncSpec,
    pub spool: &'a Spool,
    pub suppressions: &'a [SuppressionList],
    /// How many records to show, from the start of the spool.
    pub count: usize,
    pub now: Timestamp,
}

/// A source record and what would become of it. Personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewRecord {
    /// `file:line`.
    pub origin: String,
    /// Source column and text; of a record that could not be carried there are none.
    pub source: Vec<(String, Option<String>)>,
    pub outcome: PreviewOutcome,
}

/// What would become of a source record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviewOutcome {
    /// Column and canonical text.
    Mapped(Vec<(String, Option<String>)>),
    Filtered,
    Invalid(CellProblem),
    Suppressed,
    /// It says that it is deleted.
    Deleted,
    /// The record could not be carried at all.
    Malformed {
        reason: String,
    },
}

/// Carried records first, then malformed ones, `count` in all.
pub(crate) async fn preview(engine: &Engine, request: &PreviewRequest<'_>) -> Result<Vec<PreviewRecord>, EngineError> {
    let prepared = engine.prepare(request.spec, request.spool.schema(), request.now)?;
    // These hashes never leave this function, so any key will do.
    let hash_key = HashKey::from_bytes([0; 32]);
    let lists = hash_lists(request.suppressions, &prepared.mapping, &hash_key)?;
    let viewer = Viewer { request, prepared, hash_key, lists };
    let mut shown = Vec::with_capacity(request.count.min(1_000));
    for group in request.spool.groups() {
        let wanted = (request.count - shown.len()).min(usize::try_from(group.rows).unwrap_or(usize::MAX));
        let offsets: Vec<_> = (0..wanted).collect();
        group.read(request.spool.schema(), &offsets, |fetched, _| viewer.show(&fetched, &mut shown)).await?;
        if shown.len() == request.count {
            return Ok(shown);
        }
    }
    for malformed in request.spool.malformed_records().take(request.count - shown.len()) {
        let MalformedOrigin { origin, reason } = malformed?;
        shown.push(PreviewRecord { origin, source: Vec::new(), outcome: PreviewOutcome::Malformed { reason } });
    }
    Ok(shown)
}

struct Viewer<'a> {
    request: &'a PreviewRequest<'a>,
    prepared: Prepared,
    hash_key: HashKey,
    lists: Vec<Suppressed>,
}

impl Viewer<'_> {
    fn show(&self, fetched: &GroupRecords, shown: &mut Vec<PreviewRecord>) -> Result<(), EngineError> {
        let mapping = &self.prepared.mapping;
        let failed = |failed: Failed| EngineError::Evaluation {
            sync: self.request.spec.name.clone(),
            place: failed.place,
            origin: fetched.origin(failed.row),
        };
        let read =
            mapping.input.fields().iter().filter_map(|field| fetched.records.schema().index_of(field.name()).ok());
        let input = fetched.records.project(&read.collect::<Vec<_>>()).expect("the columns are those of the source");
        let passes = mapping.passes(&input).map_err(failed)?;
        let deleted = mapping.deleted(&input).map_err(failed)?;
        let canonical = mapping.canonical_columns(&mapping.evaluate(&input).map_err(failed)?);
        let source: Vec<_> = fetched.records.columns().iter().map(as_text).collect();
        for (row, passes) in passes.into_iter().enumerate() {
            let outcome = match (passes, deleted[row]) {
                (false, _) => PreviewOutcome::Filtered,
                (true, true) => PreviewOutcome::Deleted,
                (true, false) => self.outcome(&canonical, row),
            };
            let names = fetched.records.schema_ref().fields().iter();
            // A column without a text form shows as NULL.
            let texts = source.iter().map(|column| column.as_ref().ok().and_then(|texts| text_at(texts, row)));
            let source =
                names.zip(texts).map(|(field, text)| (field.name().clone(), text.map(str::to_owned))).collect();
            shown.push(PreviewRecord { origin: fetched.origin(row), source, outcome });
        }
        Ok(())
    }

    fn outcome(&self, canonical: &CanonicalColumns, row: usize) -> PreviewOutcome {
        if let Some(problem) = canonical.problems.get(&row) {
            return PreviewOutcome::Invalid(problem.clone());
        }
        let cell = |column: usize| text_at(&canonical.columns[column], row);
        let is_listed = |list: &Suppressed| {
            let mut encoded = Vec::new();
            encode_part(&mut encoded, cell(list.column));
            list.names_part(&encoded, &self.hash_key)
        };
        if self.lists.iter().any(is_listed) {
            return PreviewOutcome::Suppressed;
        }
        let columns = self.prepared.mapping.active.columns.iter().enumerate();
        PreviewOutcome::Mapped(
            columns.map(|(index, column)| (column.name.clone(), cell(index).map(str::to_owned))).collect(),
        )
    }
}
