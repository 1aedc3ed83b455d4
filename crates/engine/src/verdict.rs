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
    /// Whether a row that somebody deleted at the destination is created again.
    pub(crate) restores_removed: bool,
}

/// The record that won for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) content: ContentHash,
    /// Whether a list names any record of the key.
    pub(crate) is_suppressed: bool,
    /// Whether the row holds what a record said that wins against this one, or was deleted by such a record.
    pub(crate) is_outdated: bool,
    /// Whether the record says that it is deleted.
    pub(crate) is_deleted: bool,
    /// Content that the destination has refused for long enough.
    pub(crate) held: Option<ContentHash>,
}

/// The row that the ledger has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownRow {
    Live {
        content: ContentHash,
        is_mine: bool,
    },
    /// `is_mine`: it was this sync's, or is nobody's any more.
    RemovedAtDestination {
        is_mine: bool,
    },
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Create,
    Update,
    Unchanged,
    Superseded,
    Suppressed,
    SkippedByMode,
    RemovedRespected,
    HeldBack,
    RefusedBefore,
    Listed,
    /// It says that it is deleted: there is nothing to send, and its row goes if there is one of ours.
    Deleted,
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
        None if winner.is_deleted => fate_of_deleted(policy, winner, row),
        None if winner.is_suppressed => Fate::Suppressed,
        None => unless_refused(winner, fate_of(policy, winner, row)),
    });
    let wants_delete = match (listed, fate) {
        (Some(ExistingRows::Remove), _) => true,
        (Some(ExistingRows::Leave), _) => false,
        (None, Some(fate)) => matches!(fate, Fate::Listed | Fate::Deleted),
        (None, None) => policy.mode == SyncMode::Mirror && policy.may_delete,
    };
    Decision { fate, deletes_row: is_own_row && wants_delete && !policy.is_limited }
}

/// What would be sent is held back if it is what was refused; all else does not ask the destination again.
fn unless_refused(winner: Winner, fate: Fate) -> Fate {
    match fate {
        Fate::Create | Fate::Update if winner.held == Some(winner.content) => Fate::RefusedBefore,
        fate => fate,
    }
}

fn fate_of(policy: Policy, winner: Winner, row: Option<KnownRow>) -> Fate {
    match (policy.mode, row) {
        (_, Some(KnownRow::Live { is_mine: false, .. })) => Fate::OwnedByOtherSync,
        (SyncMode::DeleteList, Some(KnownRow::Live { .. })) if policy.is_limited => Fate::HeldBack,
        (SyncMode::DeleteList, Some(KnownRow::Live { .. })) => Fate::Listed,
        (SyncMode::DeleteList, _) => Fate::SkippedByMode,
        (mode, Some(KnownRow::RemovedAtDestination { is_mine })) => fate_of_removed(policy, mode, winner, is_mine),
        (SyncMode::UpdateOnly, None) => Fate::SkippedByMode,
        (_, None) if winner.is_outdated => Fate::Superseded,
        (_, None) => Fate::Create,
        (_, Some(KnownRow::Live { content, .. })) if content == winner.content => Fate::Unchanged,
        (SyncMode::InsertOnly, Some(KnownRow::Live { .. })) => Fate::SkippedByMode,
        (_, Some(KnownRow::Live { .. })) if winner.is_outdated => Fate::Superseded,
        (_, Some(KnownRow::Live { .. })) => Fate::Update,
    }
}

/// A record that is deleted, and is not newer than what is in the row, says nothing: whoever was deleted before may be
/// there again.
fn fate_of_deleted(policy: Policy, winner: Winner, row: Option<KnownRow>) -> Fate {
    match row {
        Some(KnownRow::Live { is_mine: true, .. }) if winner.is_outdated => Fate::Superseded,
        Some(KnownRow::Live { is_mine: true, .. }) if policy.is_limited => Fate::HeldBack,
        _ => Fate::Deleted,
    }
}

/// A row that was another sync's stays as that one has it. A record that lost against the one in the row that was deleted
/// is as old now as it was then.
fn fate_of_removed(policy: Policy, mode: SyncMode, winner: Winner, is_mine: bool) -> Fate {
    if !policy.restores_removed || !is_mine || mode == SyncMode::UpdateOnly {
        Fate::RemovedRespected
    } else if winner.is_outdated {
        Fate::Superseded
    } else {
        Fate::Create
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: ContentHash = ContentHash([1; 16]);
    const OTHER: ContentHash = ContentHash([2; 16]);
    const RECORD: Winner =
        Winner { content: CONTENT, is_suppressed: false, is_outdated: false, is_deleted: false, held: None };
    const GONE: Winner = Winner { is_deleted: true, ..RECORD };
    const OUTDATED: Winner = Winner { is_outdated: true, ..RECORD };
    const LISTED: Winner = Winner { is_suppressed: true, ..RECORD };
    const REMOVED: Option<KnownRow> = Some(KnownRow::RemovedAtDestination { is_mine: true });
    const REMOVED_OF_ANOTHER: Option<KnownRow> = Some(KnownRow::RemovedAtDestination { is_mine: false });

    fn policy(mode: SyncMode, restores_removed: bool) -> Policy {
        Policy { mode, may_delete: true, is_limited: false, restores_removed }
    }

    fn fate(held: Option<ContentHash>, content: ContentHash, row: Option<KnownRow>) -> Option<Fate> {
        let decision = decide(policy(SyncMode::Mirror, true), Some(Winner { content, held, ..RECORD }), row, None);
        assert!(!decision.deletes_row, "its record is there");
        decision.fate
    }

    #[test]
    fn a_removed_row_comes_back_only_where_it_is_asked_for() {
        let table = [
            (SyncMode::Upsert, Fate::RemovedRespected, Fate::Create),
            (SyncMode::Mirror, Fate::RemovedRespected, Fate::Create),
            (SyncMode::InsertOnly, Fate::RemovedRespected, Fate::Create),
            (SyncMode::UpdateOnly, Fate::RemovedRespected, Fate::RemovedRespected),
            (SyncMode::DeleteList, Fate::SkippedByMode, Fate::SkippedByMode),
        ];
        for (mode, respected, restored) in table {
            for (restores, expected) in [(false, respected), (true, restored)] {
                let decision = decide(policy(mode, restores), Some(RECORD), REMOVED, None);
                assert_eq!(decision, Decision { fate: Some(expected), deletes_row: false }, "{mode:?} {restores}");
            }
        }
    }

    #[test]
    fn what_stands_against_a_record_stands_against_restoring_its_row() {
        let fate = |winner, row, listed| decide(policy(SyncMode::Mirror, true), Some(winner), row, listed).fate;
        assert_eq!(fate(LISTED, REMOVED, None), Some(Fate::Suppressed));
        for listed in [ExistingRows::Remove, ExistingRows::Leave] {
            assert_eq!(fate(RECORD, REMOVED, Some(listed)), Some(Fate::Suppressed));
        }
        assert_eq!(fate(OUTDATED, REMOVED, None), Some(Fate::Superseded));
        assert_eq!(fate(RECORD, REMOVED_OF_ANOTHER, None), Some(Fate::RemovedRespected));
    }

    #[test]
    fn a_record_that_says_it_is_deleted_takes_its_row_with_it_whatever_is_known_of_absence() {
        let own = Some(KnownRow::Live { content: CONTENT, is_mine: true });
        let of_another = Some(KnownRow::Live { content: CONTENT, is_mine: false });
        for may_delete in [true, false] {
            for mode in [SyncMode::Mirror, SyncMode::Upsert] {
                let policy = Policy { may_delete, ..policy(mode, false) };
                let is = |winner, row, listed| decide(policy, Some(winner), row, listed);
                let decision = |fate, deletes_row| Decision { fate: Some(fate), deletes_row };
                assert_eq!(is(GONE, own, None), decision(Fate::Deleted, true));
                assert_eq!(is(Winner { is_suppressed: true, ..GONE }, own, None), decision(Fate::Deleted, true));
                for row in [None, of_another, REMOVED, REMOVED_OF_ANOTHER] {
                    assert_eq!(is(GONE, row, None), decision(Fate::Deleted, false), "{row:?}");
                }
                let older = Winner { is_outdated: true, ..GONE };
                assert_eq!(is(older, own, None), decision(Fate::Superseded, false), "it was made again since");
                let leave = Some(ExistingRows::Leave);
                assert_eq!(is(GONE, own, leave), decision(Fate::Suppressed, false), "the list says what is to be");
                let limited = Policy { is_limited: true, ..policy };
                assert_eq!(decide(limited, Some(GONE), own, None), decision(Fate::HeldBack, false));
            }
        }
        let again = decide(policy(SyncMode::Upsert, false), Some(RECORD), None, None);
        assert_eq!(again.fate, Some(Fate::Create), "whoever is there again is made again");
        for mode in [SyncMode::Upsert, SyncMode::Mirror, SyncMode::InsertOnly] {
            let older = decide(policy(mode, false), Some(OUTDATED), None, None);
            assert_eq!(older.fate, Some(Fate::Superseded), "{mode:?}: who was deleted since is not");
        }
    }

    #[test]
    fn a_removed_row_whose_record_has_gone_too_is_left_alone() {
        for restores in [false, true] {
            let decision = decide(policy(SyncMode::Mirror, restores), None, REMOVED, None);
            assert_eq!(decision, Decision { fate: None, deletes_row: false });
        }
    }

    #[test]
    fn what_was_refused_for_long_enough_is_held_back_until_it_changes() {
        let row = |content| Some(KnownRow::Live { content, is_mine: true });
        assert_eq!(fate(Some(CONTENT), CONTENT, None), Some(Fate::RefusedBefore));
        assert_eq!(fate(Some(CONTENT), CONTENT, row(OTHER)), Some(Fate::RefusedBefore), "an update likewise");
        assert_eq!(fate(Some(CONTENT), CONTENT, REMOVED), Some(Fate::RefusedBefore), "a restored row likewise");
        assert_eq!(fate(Some(CONTENT), OTHER, None), Some(Fate::Create));
        assert_eq!(fate(Some(CONTENT), OTHER, row(CONTENT)), Some(Fate::Update));
        assert_eq!(fate(None, CONTENT, None), Some(Fate::Create));
    }

    #[test]
    fn what_would_not_be_sent_anyhow_is_not_held_back() {
        let is = |row| fate(Some(CONTENT), CONTENT, Some(row));
        assert_eq!(is(KnownRow::Live { content: CONTENT, is_mine: true }), Some(Fate::Unchanged));
        assert_eq!(is(KnownRow::Live { content: OTHER, is_mine: false }), Some(Fate::OwnedByOtherSync));
        assert_eq!(is(KnownRow::RemovedAtDestination { is_mine: false }), Some(Fate::RemovedRespected));
    }
}
