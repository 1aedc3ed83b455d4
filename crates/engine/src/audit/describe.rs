//! Tells of samples what the source says of them: where their records are, and which columns differ.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::AsArray;
use convoke_core::KeyHash;
use convoke_core::audit::{AuditSample, Finding};
use convoke_core::journal::Operation;
use convoke_core::plan::{PlanFile, PlannedBatch};

use super::Audited;
use crate::batches::PlanBatches;
use crate::error::EngineError;
use crate::ledger::scanned::RowHasher;
use crate::text_column::text_at;

/// Changes that are read at once.
const BATCH_ROWS: usize = 4_096;

/// By what a sample is found among a plan's changes.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) key: KeyHash,
    /// Index of the sample.
    pub(super) sample: usize,
    /// Of the row's cells; empty if the scan did not show it.
    pub(super) digests: Vec<u8>,
}

/// Goes over a plan that was computed from the audited ledger. Blocks on files.
pub(crate) fn describe(
    mut audited: Audited,
    hasher: &RowHasher,
    folder: &Path,
    files: &[PlanFile],
) -> Result<Audited, EngineError> {
    // Of several rows with one key, only the one that the ledger names is what the plan speaks of.
    let is_planned = |sample: &AuditSample| {
        matches!(
            sample.finding,
            Finding::Drifted | Finding::Unconfirmed | Finding::Moved | Finding::Missing | Finding::Extra
        )
    };
    let probes = audited.probes.iter().filter(|probe| is_planned(&audited.samples[probe.sample]));
    let mut wanted: HashMap<KeyHash, Vec<&Probe>> = HashMap::new();
    probes.for_each(|probe| wanted.entry(probe.key).or_default().push(probe));
    let samples = &mut audited.samples;
    for batch in PlanBatches::open(folder, files, BATCH_ROWS, BATCH_ROWS)? {
        let batch = batch?;
        if wanted.is_empty() || batch.operation == Operation::Delete {
            break;
        }
        for (row, change) in batch.rows.iter().enumerate() {
            for probe in wanted.remove(&change.key).into_iter().flatten() {
                let sample = &mut samples[probe.sample];
                sample.origin = batch.origin(row).map(str::to_owned);
                if !probe.digests.is_empty() {
                    sample.columns = differing(hasher, &batch, row, &probe.digests);
                }
            }
        }
    }
    Ok(audited)
}

fn differing(hasher: &RowHasher, batch: &PlannedBatch, row: usize, digests: &[u8]) -> Vec<String> {
    let cells = batch.cells.columns().iter().map(|column| text_at(column.as_string(), row));
    let planned = hasher.digests_of(cells);
    hasher.differing(&planned, digests)
}
