//! What happened to a row, and what the ledger makes of it: pure.

use convoke_core::journal::{Entry, IntentRow, Operation, RowOutcome};
use convoke_core::ledger::{LedgerEntry, OrderValue, RowOrigin, RowState};
use convoke_core::plan::LedgerCounts;
use convoke_core::{ContentHash, KeyHash, RowId, SyncName};

/// One thing that is known to have happened to a row. Borrowed, since a first load has one for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) key: KeyHash,
    pub(crate) kind: EventKind,
    pub(crate) content: ContentHash,
    pub(crate) order: &'a [u8],
    pub(crate) row_id: &'a str,
    pub(crate) owner: &'a SyncName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Created,
    Updated,
    Deleted,
    FoundRemoved,
    Adopted,
    /// The row's content was seen again in a later record.
    Confirmed,
    /// The row was read, and holds this content.
    Found,
    /// The row was read, holds this content, and has lost its key cell.
    FoundWithoutKey,
    /// A record says that the row is deleted, and there is none.
    Gone,
}

impl EventKind {
    const ALL: [Self; 9] = [
        Self::Created,
        Self::Updated,
        Self::Deleted,
        Self::FoundRemoved,
        Self::Adopted,
        Self::Confirmed,
        Self::Found,
        Self::FoundWithoutKey,
        Self::Gone,
    ];

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// The events of a journal entry; rows that were refused or not applied have none.
pub(crate) fn events_of(entry: &Entry) -> impl Iterator<Item = Event<'_>> {
    let outcomes = entry.outcomes.as_deref().unwrap_or_default();
    entry.intent.rows.iter().zip(outcomes).filter_map(|(row, outcome)| event_of(entry, row, outcome))
}

fn event_of<'a>(entry: &'a Entry, row: &'a IntentRow, outcome: &'a RowOutcome) -> Option<Event<'a>> {
    let applied = match entry.intent.operation {
        Operation::Create => EventKind::Created,
        Operation::Update => EventKind::Updated,
        Operation::Delete => EventKind::Deleted,
    };
    let (kind, content, row_id) = match outcome {
        RowOutcome::Acknowledged { row_id } => (applied, row.content, row_id),
        RowOutcome::Incomplete { row_id } | RowOutcome::Failed { row_id } => (applied, ContentHash::UNKNOWN, row_id),
        RowOutcome::RemovedAtDestination if applied == EventKind::Deleted => {
            (EventKind::Deleted, row.content, row.row_id.as_ref()?)
        }
        RowOutcome::RemovedAtDestination => (EventKind::FoundRemoved, row.content, row.row_id.as_ref()?),
        RowOutcome::NotApplied | RowOutcome::Rejected => return None,
    };
    let owner = &entry.intent.sync;
    Some(Event { key: row.key, kind, content, order: &row.order, row_id: row_id.as_str(), owner })
}

/// What applying an event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Counted in [`LedgerCounts`], or of no account.
    Done,
    /// An adopted row that the ledger knew.
    Known,
    /// An adopted row that the ledger knew, and that a retired sync had left.
    TakenOver,
    /// A row whose key another row has.
    Duplicate,
}

/// Applies an event to what the ledger has for its key, and counts.
pub(crate) fn apply(current: &mut Option<LedgerEntry>, event: Event<'_>, counts: &mut LedgerCounts) -> Effect {
    let live = current.as_ref().filter(|entry| entry.state == RowState::Live);
    match (event.kind, live) {
        (EventKind::Adopted, Some(entry)) if entry.owner.is_nobody() && entry.row_id.as_str() == event.row_id => {
            *current = Some(live_entry(event, RowOrigin::Adopted));
            return Effect::TakenOver;
        }
        (EventKind::Adopted, Some(entry)) => {
            return if entry.row_id.as_str() == event.row_id { Effect::Known } else { Effect::Duplicate };
        }
        (EventKind::Created, live) => {
            // Settled twice, it is still one row.
            counts.created += u64::from(live.is_none());
            *current = Some(live_entry(event, RowOrigin::Created));
        }
        (EventKind::Updated, Some(entry)) => {
            let (owner, origin) = (entry.owner.clone(), entry.origin);
            *current = Some(LedgerEntry { owner, ..live_entry(event, origin) });
        }
        // An acknowledged update of a row that the ledger had lost shows that it is there.
        (EventKind::Updated | EventKind::Adopted, None) => {
            counts.adopted += 1;
            *current = Some(live_entry(event, RowOrigin::Adopted));
        }
        (EventKind::Deleted, Some(entry)) => {
            counts.deleted += 1;
            // How new the row was tells nothing any more; how new the record is that deleted it does, if one did.
            let order = OrderValue::from_slice(event.order);
            *current = Some(LedgerEntry { state: RowState::Deleted, order, ..entry.clone() });
        }
        (EventKind::FoundRemoved, Some(entry)) => {
            counts.found_removed += 1;
            *current = Some(LedgerEntry { state: RowState::RemovedAtDestination, ..entry.clone() });
        }
        (EventKind::Confirmed, Some(entry)) if entry.content == event.content => {
            *current = Some(LedgerEntry { order: OrderValue::from_slice(event.order), ..entry.clone() });
        }
        (EventKind::Found, Some(entry)) => {
            *current = Some(LedgerEntry { content: event.content, ..entry.clone() });
        }
        // Without its key cell it is as a row that was taken over.
        (EventKind::FoundWithoutKey, Some(entry)) => {
            *current = Some(LedgerEntry { content: event.content, origin: RowOrigin::Adopted, ..entry.clone() });
        }
        (EventKind::Gone, None) => remember_gone(current, event),
        (EventKind::Deleted | EventKind::FoundRemoved | EventKind::Found | EventKind::FoundWithoutKey, None)
        | (EventKind::Confirmed, _)
        | (EventKind::Gone, Some(_)) => {}
    }
    Effect::Done
}

/// Keeps how new the record is that says so; of a row that was removed at the destination it stays known that it was.
fn remember_gone(current: &mut Option<LedgerEntry>, event: Event<'_>) {
    let order = OrderValue::from_slice(event.order);
    match current {
        Some(entry) if entry.state == RowState::RemovedAtDestination => entry.order = order,
        _ => *current = Some(LedgerEntry { state: RowState::Deleted, ..live_entry(event, RowOrigin::Created) }),
    }
}

fn live_entry(event: Event<'_>, origin: RowOrigin) -> LedgerEntry {
    LedgerEntry {
        key: event.key,
        content: event.content,
        order: OrderValue::from_slice(event.order),
        row_id: RowId::new(event.row_id),
        owner: event.owner.clone(),
        origin,
        state: RowState::Live,
    }
}
