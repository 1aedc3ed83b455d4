//! Records by the text in their key columns, whether it is a key or not.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use convoke_core::Timestamp;
use convoke_core::spec::SyncSpec;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::identity::map_cell;
use crate::mapping::Mapping;
use crate::spool::{GroupRecords, Spool};
use crate::text_column::text_at;
use crate::trace::Places;

/// Finds the records of a spool whose key columns hold one of these texts, each with one part per column, once they are
/// mapped; blanks around them do not count. Goes over the whole spool.
pub(crate) async fn find(
    engine: &Engine,
    spec: &SyncSpec,
    spool: &Spool,
    texts: &[Vec<String>],
) -> Result<Places, EngineError> {
    let mut places = Places::default();
    if spool.schema().fields().is_empty() {
        return Ok(places);
    }
    let prepared = engine.prepare(spec, spool.schema(), Timestamp::default())?;
    let mapping = &prepared.mapping;
    for group in spool.groups() {
        let offsets: Vec<_> = (0..usize::try_from(group.rows).unwrap_or(usize::MAX)).collect();
        let take = |fetched: GroupRecords, _: Range<usize>| {
            for row in rows_with(mapping, &fetched.records, texts) {
                places.add(fetched.origin(row));
            }
            Ok(())
        };
        group.read(&Arc::clone(&mapping.input), &offsets, take).await?;
    }
    Ok(places)
}

/// The texts as typed, and as the mapping makes them; without blanks around them.
pub(crate) fn forms(mapping: Option<&Mapping>, cells: &[String]) -> Vec<Vec<String>> {
    let trimmed = |cells: &[String]| -> Vec<_> { cells.iter().map(|cell| cell.trim().to_owned()).collect() };
    let mapped = mapping.and_then(|mapping| {
        let parts = mapping.active.key.iter().zip(cells);
        parts.map(|(column, cell)| map_cell(mapping, *column, cell)).collect::<Option<Vec<_>>>()
    });
    [Some(trimmed(cells)), mapped.as_deref().map(trimmed)].into_iter().flatten().collect()
}

fn rows_with(mapping: &Mapping, records: &RecordBatch, wanted: &[Vec<String>]) -> Vec<usize> {
    let as_whole = key_cells(mapping, records);
    let is_wanted = |cells: &[StringArray], row: usize| {
        let is_same = |(cells, text): (&StringArray, &String)| text_at(cells, row).unwrap_or_default().trim() == text;
        wanted.iter().any(|texts| cells.iter().zip(texts).all(is_same))
    };
    let rows = (0..records.num_rows()).filter(|row| match &as_whole {
        Some(cells) => is_wanted(cells, *row),
        // An expression that fails on one record has a value for the others.
        None => key_cells(mapping, &records.slice(*row, 1)).is_some_and(|cells| is_wanted(&cells, 0)),
    });
    rows.collect()
}

fn key_cells(mapping: &Mapping, records: &RecordBatch) -> Option<Vec<StringArray>> {
    mapping.active.key.iter().map(|column| mapping.evaluate_one(*column, records).ok()).collect()
}
