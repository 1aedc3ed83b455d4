//! The journal's records: what was intended, and what became of it.
//!
//! One entry stands for one attempt at one batch. It is durable *before* the request leaves, and is closed once
//! every row of it is known. A crash leaves open entries behind; all their rows are in doubt. Rows are packed, since
//! there is one for every change.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::hash::{ContentHash, KeyHash};
use crate::ids::{AudienceKey, PlanId, RowId, SyncName};
use crate::ledger::OrderValue;
use crate::sink::AttemptTag;
use crate::time::Timestamp;

/// What a batch does to its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    /// The name under which it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// Reads the name that `as_str` gives.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text)
    }
}

/// Identifies an entry; later entries have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId(pub i64);

/// An entry before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub plan: PlanId,
    pub sync: SyncName,
    pub audience: AudienceKey,
    /// The plan's batch that the rows come from; parts of a split batch keep its number.
    pub batch: u32,
    pub operation: Operation,
    /// Counted from 1 within the batch.
    pub attempt: u32,
    pub tag: AttemptTag,
    pub intended_at: Timestamp,
    pub rows: Vec<IntentRow>,
}

/// One row of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentRow {
    pub key: KeyHash,
    pub content: ContentHash,
    pub order: OrderValue,
    /// Set for updates and deletes.
    pub row_id: Option<RowId>,
}

/// An entry as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: EntryId,
    pub intent: Intent,
    /// One outcome per row, in order; none while the entry is open.
    pub outcomes: Option<Vec<RowOutcome>>,
}

/// What became of one row of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// In the audience under this id (or, for a delete, gone).
    Acknowledged { row_id: RowId },
    /// As `Acknowledged`, but what the row holds is not certain: the ledger gets [`ContentHash::UNKNOWN`], the next plan
    /// updates.
    Incomplete { row_id: RowId },
    /// As `Incomplete`, because the destination could not take all of its cells; a reject tells which.
    Failed { row_id: RowId },
    /// Certainly not applied, and to be sent again by a later entry of the same plan, or cancelled with the plan.
    NotApplied,
    /// Refused for good.
    Rejected,
    /// The row to update was gone: somebody deleted it at the destination.
    RemovedAtDestination,
}

impl RowOutcome {
    /// Whether nothing more will be done about this row under its plan.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::NotApplied)
    }
}

/// Packs rows: the form in which the checkpoint store keeps them.
pub fn pack_rows(rows: &[IntentRow]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(rows.len() * 44);
    for row in rows {
        packed.extend_from_slice(&row.key.0);
        packed.extend_from_slice(&row.content.0);
        pack_bytes(&mut packed, &row.order);
        pack_bytes(&mut packed, row.row_id.as_ref().map_or(&[][..], |id| id.as_str().as_bytes()));
    }
    packed
}

/// Unpacks what [`pack_rows`] packed; `None` if it is damaged.
pub fn unpack_rows(mut packed: &[u8]) -> Option<Vec<IntentRow>> {
    let mut rows = Vec::new();
    while !packed.is_empty() {
        let key = KeyHash(take(&mut packed, 16)?.try_into().ok()?);
        let content = ContentHash(take(&mut packed, 16)?.try_into().ok()?);
        let order = OrderValue::from_slice(unpack_bytes(&mut packed)?);
        let row_id = unpack_row_id(&mut packed)?;
        rows.push(IntentRow { key, content, order, row_id });
    }
    Some(rows)
}

/// Packs outcomes, one per row.
pub fn pack_outcomes(outcomes: &[RowOutcome]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(outcomes.len() * 39);
    for outcome in outcomes {
        let (kind, row_id) = match outcome {
            RowOutcome::Acknowledged { row_id } => match canonical_uuid(row_id.as_str()) {
                Some(uuid) => {
                    packed.push(b'u');
                    packed.extend_from_slice(uuid.as_bytes());
                    continue;
                }
                None => (b'a', Some(row_id)),
            },
            RowOutcome::Incomplete { row_id } => (b'i', Some(row_id)),
            RowOutcome::Failed { row_id } => (b'f', Some(row_id)),
            RowOutcome::NotApplied => (b'n', None),
            RowOutcome::Rejected => (b'r', None),
            RowOutcome::RemovedAtDestination => (b'g', None),
        };
        packed.push(kind);
        if let Some(row_id) = row_id {
            pack_bytes(&mut packed, row_id.as_str().as_bytes());
        }
    }
    packed
}

/// Unpacks what [`pack_outcomes`] packed; `None` if it is damaged.
pub fn unpack_outcomes(mut packed: &[u8]) -> Option<Vec<RowOutcome>> {
    let mut outcomes = Vec::new();
    while !packed.is_empty() {
        let outcome = match take(&mut packed, 1)?[0] {
            b'a' => RowOutcome::Acknowledged { row_id: unpack_row_id(&mut packed)?? },
            b'u' => RowOutcome::Acknowledged { row_id: unpack_uuid(&mut packed)? },
            b'i' => RowOutcome::Incomplete { row_id: unpack_row_id(&mut packed)?? },
            b'f' => RowOutcome::Failed { row_id: unpack_row_id(&mut packed)?? },
            b'n' => RowOutcome::NotApplied,
            b'r' => RowOutcome::Rejected,
            b'g' => RowOutcome::RemovedAtDestination,
            _ => return None,
        };
        outcomes.push(outcome);
    }
    Some(outcomes)
}

fn pack_bytes(packed: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("order values and row ids are cut far below 64 KiB before this");
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(bytes);
}

fn unpack_bytes<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_le_bytes(take(packed, 2)?.try_into().ok()?);
    take(packed, usize::from(length))
}

/// The outer `Option` tells damage, the inner one an absent id.
fn unpack_row_id(packed: &mut &[u8]) -> Option<Option<RowId>> {
    let text = std::str::from_utf8(unpack_bytes(packed)?).ok()?;
    Some((!text.is_empty()).then(|| RowId::new(text)))
}

/// A UUID whose usual text is exactly this one: the commonest row id, at less than half the bytes.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    (*uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text).then_some(uuid)
}

fn unpack_uuid(packed: &mut &[u8]) -> Option<RowId> {
    let uuid = Uuid::from_slice(take(packed, 16)?).ok()?;
    Some(RowId::new(&*uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())))
}

fn take<'a>(packed: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    if packed.len() < length {
        return None;
    }
    let (head, tail) = packed.split_at(length);
    *packed = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_and_outcomes_round_trip() {
        let rows = vec![
            IntentRow { key: KeyHash([1; 16]), content: ContentHash([2; 16]), order: OrderValue::new(), row_id: None },
            IntentRow {
                key: KeyHash([3; 16]),
                content: ContentHash::UNKNOWN,
                order: OrderValue::from_slice(&[0, 255, 7]),
                row_id: Some(RowId::new("row-1")),
            },
        ];
        assert_eq!(unpack_rows(&pack_rows(&rows)), Some(rows));
        let outcomes = vec![
            RowOutcome::Acknowledged { row_id: RowId::new("a") },
            RowOutcome::Acknowledged { row_id: RowId::new("0190b5a4-7c1e-7d1a-9f3b-2a6c5e8d4f10") },
            RowOutcome::Acknowledged { row_id: RowId::new("0190B5A4-7C1E-7D1A-9F3B-2A6C5E8D4F10") },
            RowOutcome::Acknowledged { row_id: RowId::new("0190b5a47c1e7d1a9f3b2a6c5e8d4f10") },
            RowOutcome::Incomplete { row_id: RowId::new("b") },
            RowOutcome::Failed { row_id: RowId::new("c") },
            RowOutcome::NotApplied,
            RowOutcome::Rejected,
            RowOutcome::RemovedAtDestination,
        ];
        assert_eq!(unpack_outcomes(&pack_outcomes(&outcomes)), Some(outcomes));
    }

    #[test]
    fn damaged_bytes_are_told_from_data() {
        let packed = pack_outcomes(&[RowOutcome::Acknowledged { row_id: RowId::new("abc") }]);
        assert_eq!(unpack_outcomes(&packed[..packed.len() - 1]), None);
        assert_eq!(unpack_outcomes(b"z"), None);
        assert_eq!(unpack_rows(&[0; 17]), None);
    }
}
