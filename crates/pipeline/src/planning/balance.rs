//! A plan adds up: every record is accounted for, and what is counted is what its files hold.

use convoke_core::journal;
use convoke_core::plan::{PlanContent, PlanManifest};
use convoke_core::spec::Filter;

use crate::error::Error;

/// Holds a plan's counts against each other and against its files: what is counted is what will be sent.
pub(super) fn check_counts(manifest: &PlanManifest, filter: Option<&Filter>) -> Result<(), Error> {
    let counts = &manifest.counts;
    let unbalanced = |message: String| Err(Error::Unbalanced { message });
    if !counts.is_balanced() {
        return unbalanced(format!("the plan does not account for every record: {counts:?}"));
    }
    if counts.filtered > 0 && filter.is_none() {
        return unbalanced(format!("{} records were filtered by a sync without a filter", counts.filtered));
    }
    let counted = [
        (journal::Operation::Create, counts.creates),
        (journal::Operation::Update, counts.updates),
        (journal::Operation::Delete, counts.deletes),
    ];
    for (operation, count) in counted {
        let files = manifest.files.iter().filter(|file| file.content == PlanContent::Changes(operation));
        let rows: u64 = files.map(|file| file.rows).sum();
        if rows != count {
            let name = operation.as_str();
            return unbalanced(format!("the plan counts {count} changes of kind {name}, and its files hold {rows}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use convoke_core::journal::Operation;
    use convoke_core::ledger::LedgerIdentity;
    use convoke_core::plan::{Forecast, PLAN_FORMAT, PlanBasis, PlanCounts, PlanFile, PlannedSource};
    use convoke_core::source::Coverage;
    use convoke_core::{PlanId, RunId, SyncName, Timestamp};
    use uuid::Uuid;

    use super::*;

    /// A plan of these counts whose files hold so many changes of each kind.
    fn manifest(counts: PlanCounts, rows: [(Operation, u64); 3]) -> PlanManifest {
        let file = |(operation, rows): (Operation, u64)| PlanFile {
            name: format!("{}.parquet", operation.as_str()),
            content: PlanContent::Changes(operation),
            rows,
            digest: String::new(),
        };
        let id = Uuid::nil();
        PlanManifest {
            format: PLAN_FORMAT,
            id: PlanId(id),
            run: RunId(id),
            sync: SyncName::new("people"),
            created_at: Timestamp(0),
            basis: PlanBasis {
                audience: None,
                audience_name: "People".to_owned(),
                ledger_version: 0,
                ledger_identity: LedgerIdentity {
                    hash_key_id: String::new(),
                    key_spec: "Email:EMAIL".to_owned(),
                    normalizer_version: 1,
                    encoding_version: 1,
                },
                config_hash: String::new(),
                checkpoint_version: 0,
            },
            files: rows.into_iter().filter(|(_, rows)| *rows > 0).map(file).collect(),
            counts,
            first_load: true,
            limit: None,
            backfill: None,
            window: None,
            resent: None,
            upsert_rows: 500,
            delete_rows: 1_000,
            source: PlannedSource {
                coverage: Coverage::Snapshot,
                complete: true,
                proposed: None,
                outcomes: Vec::new(),
                notices: Vec::new(),
            },
            setup: Vec::new(),
            forecast: Forecast::default(),
            guard_hits: Vec::new(),
            withheld: None,
            samples: Vec::new(),
        }
    }

    #[test]
    fn a_plan_whose_files_hold_more_or_fewer_changes_than_it_counts_is_unbalanced() {
        let counts = PlanCounts { read: 5, creates: 3, updates: 2, deletes: 4, ..PlanCounts::default() };
        let rows = |creates, updates, deletes| {
            [(Operation::Create, creates), (Operation::Update, updates), (Operation::Delete, deletes)]
        };
        let is_unbalanced = |rows| matches!(check_counts(&manifest(counts, rows), None), Err(Error::Unbalanced { .. }));
        assert!(!is_unbalanced(rows(3, 2, 4)));
        assert!(is_unbalanced(rows(4, 2, 4)));
        assert!(is_unbalanced(rows(3, 0, 4)), "a file is missing");
        assert!(is_unbalanced(rows(3, 2, 5)));
    }

    #[test]
    fn records_can_be_filtered_by_a_filter_only() {
        let counts = PlanCounts { read: 2, filtered: 2, ..PlanCounts::default() };
        let manifest = manifest(counts, Operation::ALL.map(|operation| (operation, 0)));
        let filter = Filter::Sql("score > 3".to_owned());
        assert!(check_counts(&manifest, Some(&filter)).is_ok());
        assert!(matches!(check_counts(&manifest, None), Err(Error::Unbalanced { .. })));
    }
}
