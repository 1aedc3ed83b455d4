//! What hashes of a sync may be compared with, and the hash of a key that a user types.

use std::borrow::Cow;

use convoke_core::hash::{ENCODING_VERSION, encode_part};
use convoke_core::ledger::LedgerIdentity;
use convoke_core::spec::{ColumnSpec, SyncSpec};
use convoke_core::{HashKey, KeyHash};

use crate::cell::{EMPTY_KEY, NORMALIZER_VERSION, canonical_cell};
use crate::error::EngineError;
use crate::mapping::Mapping;
use crate::suppression::normalise;
use crate::text_column::text_at;

/// Tells what must agree before a sync's hashes can be compared with those of a ledger.
pub fn ledger_identity(spec: &SyncSpec, hash_key: &HashKey) -> LedgerIdentity {
    let parts: Vec<_> = key_columns(spec).map(|column| format!("{}:{}", column.name, column.data_type)).collect();
    LedgerIdentity {
        hash_key_id: hash_key.id(),
        key_spec: parts.join(","),
        normalizer_version: NORMALIZER_VERSION,
        encoding_version: ENCODING_VERSION,
    }
}

/// Hashes a key as a user types it, one text per key column, after the canonical form of the columns' types.
pub fn key_of(spec: &SyncSpec, hash_key: &HashKey, cells: &[String]) -> Result<KeyHash, EngineError> {
    let mut encoded = Vec::new();
    for (column, text) in key_columns(spec).zip(matching_cells(spec, cells)?) {
        let cell = canonical_cell(column.data_type, text);
        let cell = cell.map_err(|refusal| not_a_key(column, refusal.reason))?;
        let cell: Cow<'_, str> = cell.ok_or_else(|| not_a_key(column, EMPTY_KEY.reason))?;
        encode_part(&mut encoded, Some(&cell));
    }
    Ok(hash_key.hash_key(&encoded))
}

/// As [`key_of`], and also the key that the mapping would make of the texts, if that is another one.
pub(crate) fn keys_of(
    spec: &SyncSpec,
    hash_key: &HashKey,
    mapping: Option<&Mapping>,
    cells: &[String],
) -> Result<Vec<KeyHash>, EngineError> {
    let as_typed = key_of(spec, hash_key, cells);
    let as_mapped = mapping.and_then(|mapping| {
        let mapped: Option<Vec<String>> =
            mapping.active.key.iter().zip(cells).map(|(column, cell)| map_cell(mapping, *column, cell)).collect();
        key_of(spec, hash_key, &mapped?).ok()
    });
    match (as_typed, as_mapped) {
        (Ok(typed), Some(mapped)) if typed != mapped => Ok(vec![typed, mapped]),
        (Ok(typed), _) => Ok(vec![typed]),
        (Err(_), Some(mapped)) => Ok(vec![mapped]),
        (Err(error), None) => Err(error),
    }
}

pub(crate) fn map_cell(mapping: &Mapping, column: usize, cell: &str) -> Option<String> {
    let mapped = normalise(mapping, column, &[cell.to_owned()]).ok()?;
    match mapped {
        None => Some(cell.to_owned()),
        Some(texts) => text_at(&texts, 0).map(str::to_owned),
    }
}

fn key_columns(spec: &SyncSpec) -> impl Iterator<Item = &ColumnSpec> {
    spec.key.iter().filter_map(|name| spec.columns.iter().find(|column| column.name == *name))
}

fn matching_cells<'a>(spec: &SyncSpec, cells: &'a [String]) -> Result<&'a [String], EngineError> {
    if cells.len() == spec.key.len() {
        return Ok(cells);
    }
    let names: Vec<_> = spec.key.iter().map(|name| format!("`{name}`")).collect();
    Err(EngineError::Key(format!("the key of `{}` is {}; give one value for each", spec.name, names.join(", "))))
}

fn not_a_key(column: &ColumnSpec, reason: &str) -> EngineError {
    EngineError::Key(format!("the value for `{}` is no key: {reason}", column.name))
}
