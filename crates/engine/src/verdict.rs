//! What becomes of one key: the diff's decision, pure.

use convoke_core::ContentHash;
use convoke_core::spec::{ExistingRows, SyncMode};

/// What decides besides the record and the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) mode: SyncMode,
    /// Whether a row may be deleted because its record is absent.
    pub(crate) may_delete: bool,
    /// With `--limit` nothing is deleted.
    pub(crate) is_limited: bool,
}

/// The record that won for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) content: ContentHash,
    /// Whether a list names any record of the key.
    pub(crate) is_suppressed: bool,
    /// Whether the row holds what a record said that wins against this one.
    pub(crate) is_outdated: bool,
}

/// The row that the ledger has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownRow {
    Live { content: ContentHash, is_mine: bool },
    RemovedAtDestination,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Create,
    Update,
    Unchanged,
    Superseded,
    Suppressed,
    SkippedByMode,
    RemovedRespected,
    HeldBack,
    Listed,
    OwnedByOtherSync,
}

/// What becomes of a key: its record, if the source has one, and its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) fate: Option<Fate>,
    pub(crate) deletes_row: bool,
}

/// Decides about one key. `listed` tells what the suppression lists say about the key itself.
pub(crate) fn decide(
    policy: Policy,
    winner: Option<Winner>,
    row: Option<KnownRow>,
    listed: Option<ExistingRows>,
) -> Decision {
    let is_own_row = matches!(row, Some(KnownRow::Live { is_mine: true, .. }));
    let fate = winner.map(|winner| match listed {
        Some(_) => Fate::Suppressed,
        None if winner.is_suppressed => Fate::Suppressed,
        None => fate_of(policy, winner, row),
    });
    let wants_delete = match (listed, fate) {
        (Some(ExistingRows::Remove), _) => true,
        (Some(ExistingRows::Leave), _) => false,
        (None, Some(fate)) => fate == Fate::Listed,
        (None, None) => policy.mode == SyncMode::Mirror && policy.may_delete,
    };
    Decision { fate, deletes_row: is_own_row && wants_delete && !policy.is_limited }
}

fn fate_of(policy: Policy, winner: Winner, row: Option<KnownRow>) -> Fate {
    match (policy.mode, row) {
        (_, Some(KnownRow::Live { is_mine: false, .. })) => Fate::OwnedByOtherSync,
        (SyncMode::DeleteList, Some(KnownRow::Live { .. })) if policy.is_limited => Fate::HeldBack,
        (SyncMode::DeleteList, Some(KnownRow::Live { .. })) => Fate::Listed,
        (SyncMode::DeleteList, _) => Fate::SkippedByMode,
        (_, Some(KnownRow::RemovedAtDestination)) => Fate::RemovedRespected,
        (SyncMode::UpdateOnly, None) => Fate::SkippedByMode,
        (_, None) => Fate::Create,
        (_, Some(KnownRow::Live { content, .. })) if content == winner.content => Fate::Unchanged,
        (SyncMode::InsertOnly, Some(KnownRow::Live { .. })) => Fate::SkippedByMode,
        (_, Some(KnownRow::Live { .. })) if winner.is_outdated => Fate::Superseded,
        (_, Some(KnownRow::Live { .. })) => Fate::Update,
    }
}
