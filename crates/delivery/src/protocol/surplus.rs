//! Which rows of keys that were created again are surplus.
//!
//! A row is removed only if it is provably ours, by the tag of an attempt that was given up, and is not the row that the
//! journal or the ledger names.

use std::collections::HashMap;

use convoke_core::journal::{Entry, Operation, RowOutcome};
use convoke_core::sink::FoundRow;
use convoke_core::state::Recreated;
use convoke_core::{KeyHash, RowId};

/// Rows that stand under a key besides the one that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surplus {
    /// Provably ours: to be removed.
    pub ours: Vec<(RowId, KeyHash)>,
    /// Not known to be ours: reported, and left alone.
    pub doubled: Vec<RowId>,
}

impl Surplus {
    /// Sorts what was found of `keys`; `named` is the row that the journal or the ledger names for a key.
    pub fn of(keys: &[Recreated], found: Vec<FoundRow>, named: &dyn Fn(KeyHash) -> Option<RowId>) -> Self {
        let keys: HashMap<KeyHash, &Recreated> = keys.iter().map(|known| (known.key, known)).collect();
        let mut surplus = Self::default();
        for FoundRow { row_id, key_cell } in found {
            let Some(cell) = key_cell else { continue };
            let Some(known) = keys.get(&cell.key) else { continue };
            if named(cell.key).as_ref() == Some(&row_id) {
                continue;
            }
            match known.tags.contains(&cell.tag) {
                true => surplus.ours.push((row_id, cell.key)),
                false => surplus.doubled.push(row_id),
            }
        }
        surplus
    }
}

/// What a closed entry says about its keys: the row each stands in, or that there is none. Keys it says nothing about
/// are left out. Of several entries the last one holds.
pub fn rows_named_by(entry: &Entry) -> impl Iterator<Item = (KeyHash, Option<RowId>)> {
    let is_delete = entry.intent.operation == Operation::Delete;
    let outcomes = entry.outcomes.iter().flatten();
    entry.intent.rows.iter().zip(outcomes).filter_map(move |(row, outcome)| match outcome {
        RowOutcome::Acknowledged { .. } if is_delete => Some((row.key, None)),
        RowOutcome::Acknowledged { row_id } | RowOutcome::Incomplete { row_id } | RowOutcome::Failed { row_id } => {
            Some((row.key, Some(row_id.clone())))
        }
        RowOutcome::RemovedAtDestination => Some((row.key, None)),
        RowOutcome::NotApplied | RowOutcome::Rejected => None,
    })
}
