//! How enrichments stand, under the names of the metrics.

use convoke_core::enrichment::JobCounts;

use crate::facts::CellCounts;

/// Each state of a job, with how many stand there.
pub(super) fn jobs(counts: &JobCounts) -> [(&'static str, u64); 10] {
    [
        ("succeeded", counts.succeeded),
        ("partially_succeeded", counts.partially_succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("nothing_to_do", counts.nothing_to_do),
        ("no_credits", counts.no_credits),
        ("refused", counts.refused),
        ("unclear", counts.unclear),
        ("running", counts.running),
        ("not_started", counts.not_started),
    ]
}

/// Each state of a cell, with how many are in it.
pub(super) fn cells(counts: &CellCounts) -> [(&'static str, u64); 6] {
    [
        ("result", counts.result),
        ("no_result", counts.no_result),
        ("error", counts.error),
        ("loading", counts.loading),
        ("blank", counts.blank),
        ("other", counts.other),
    ]
}
