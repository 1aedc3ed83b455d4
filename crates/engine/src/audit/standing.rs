//! What becomes of a row, and of the entries and rows of one key: the audit's decisions, pure.

use convoke_core::audit::Finding;
use convoke_core::{ContentHash, KeyHash};

use crate::ledger::event::EventKind;

/// What a scan shows of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenRow {
    /// Of the row's key cell, if that is one of ours.
    pub(super) cell_key: Option<KeyHash>,
    /// Of the cells of the sync's key columns.
    pub(super) user_key: Option<KeyHash>,
    pub(super) content: ContentHash,
}

/// What the ledger has for a row's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownEntry {
    pub(super) key: KeyHash,
    pub(super) content: ContentHash,
    pub(super) is_mine: bool,
    pub(super) is_live: bool,
    /// Whether we made the row, so that it had a key cell.
    pub(super) is_created: bool,
}

/// How a row and the ledger's entry for its id stand to each other. Of one key those that the ledger names come first, then
/// those that are ours: the order in which [`Group`] takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    InStep,
    Drifted,
    Unconfirmed,
    Moved,
    OtherSync,
    Missing,
    MissingOfOtherSync,
    /// Made by us, and not named by the ledger.
    Ours,
    /// Not known to be made by us, and not named by the ledger.
    Foreign,
}

impl Standing {
    const ALL: [Self; 9] = [
        Self::InStep,
        Self::Drifted,
        Self::Unconfirmed,
        Self::Moved,
        Self::OtherSync,
        Self::Missing,
        Self::MissingOfOtherSync,
        Self::Ours,
        Self::Foreign,
    ];

    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.code() == code)
    }
}

/// Tells how a row and an entry stand to each other, and by which key; none for an entry that needs no row. A row without
/// any key is a foreign one.
pub(super) fn standing_of(row: Option<SeenRow>, entry: Option<KnownEntry>) -> Option<(Standing, Option<KeyHash>)> {
    match (row, entry) {
        (None, Some(entry)) if !entry.is_live => None,
        (None, Some(entry)) if entry.is_mine => Some((Standing::Missing, Some(entry.key))),
        (None, Some(entry)) => Some((Standing::MissingOfOtherSync, Some(entry.key))),
        (Some(row), Some(entry)) if entry.is_live => Some((named_standing(row, entry), Some(entry.key))),
        // The ledger knows the id, so the row was ours: somebody brought it back.
        (Some(_), Some(entry)) if entry.is_mine => Some((Standing::Ours, Some(entry.key))),
        (Some(row), _) => {
            // A key cell can be copied by hand into another row, the row's own key tells.
            let is_ours = row.cell_key.is_some() && row.cell_key == row.user_key;
            let standing = if is_ours { Standing::Ours } else { Standing::Foreign };
            Some((standing, row.user_key.or(row.cell_key)))
        }
        (None, None) => None,
    }
}

fn named_standing(row: SeenRow, entry: KnownEntry) -> Standing {
    if !entry.is_mine {
        return Standing::OtherSync;
    }
    if entry.is_created && row.cell_key != Some(entry.key) {
        return Standing::Moved;
    }
    if entry.content == ContentHash::UNKNOWN {
        return Standing::Unconfirmed;
    }
    if row.content == entry.content { Standing::InStep } else { Standing::Drifted }
}

/// What is to be done about a row, so that the ledger says what the audience holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    Nothing,
    /// The entry learns what the row holds.
    Note(EventKind),
    /// The row enters the ledger.
    Adopt,
    /// The row enters the ledger in the place of one that is gone.
    Replace,
    /// The row is to be deleted: a surplus one of ours.
    Delete,
}

/// What becomes of a row that is missing, if no other row has its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRows {
    /// The entry learns that somebody removed the row.
    Removed,
    /// A plan is to make the row again; until it has, the entry stays as it is.
    MadeAgain,
}

/// The entries and rows of one key, as far as they came, in the order of [`Standing`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    named: Option<Standing>,
    has_adopted: bool,
    has_foreign: bool,
}

impl Group {
    /// Takes the next one; tells what is found of it, and what is to be done. None: nothing is found.
    pub(super) fn take(&mut self, standing: Standing) -> (Option<Finding>, Mend) {
        match standing {
            Standing::Ours => return self.take_ours(),
            Standing::Foreign => return self.take_foreign(),
            _ => self.named = Some(standing),
        }
        match standing {
            Standing::Drifted => (Some(Finding::Drifted), Mend::Note(EventKind::Found)),
            Standing::Unconfirmed => (Some(Finding::Unconfirmed), Mend::Note(EventKind::Found)),
            Standing::Moved => (Some(Finding::Moved), Mend::Note(EventKind::FoundWithoutKey)),
            Standing::Missing => (Some(Finding::Missing), Mend::Nothing),
            Standing::MissingOfOtherSync => (Some(Finding::MissingOfOtherSyncs), Mend::Nothing),
            _ => (None, Mend::Nothing),
        }
    }

    /// What becomes of a row that is missing, once all of its key are known. None: there is none, or another has taken its
    /// place.
    pub(super) fn finish(&self, missing: MissingRows) -> Option<MissingRows> {
        if self.named != Some(Standing::Missing) || self.has_adopted {
            return None;
        }
        // Made again beside a row that somebody made in its place, it would stand twice.
        Some(if self.has_foreign { MissingRows::Removed } else { missing })
    }

    fn take_ours(&mut self) -> (Option<Finding>, Mend) {
        match self.named {
            Some(Standing::OtherSync | Standing::MissingOfOtherSync) => (Some(Finding::DoubledByOthers), Mend::Nothing),
            None if !self.has_adopted => {
                self.has_adopted = true;
                (Some(Finding::Extra), Mend::Adopt)
            }
            Some(Standing::Missing) if !self.has_adopted => {
                self.has_adopted = true;
                (Some(Finding::Extra), Mend::Replace)
            }
            _ => (Some(Finding::Doubled), Mend::Delete),
        }
    }

    fn take_foreign(&mut self) -> (Option<Finding>, Mend) {
        self.has_foreign = true;
        let is_named_row_gone = matches!(self.named, None | Some(Standing::Missing | Standing::MissingOfOtherSync));
        let stands_alone = is_named_row_gone && !self.has_adopted;
        let finding = if stands_alone { Finding::ExtraOfOthers } else { Finding::DoubledByOthers };
        (Some(finding), Mend::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyHash = KeyHash([1; 16]);
    const OTHER_KEY: KeyHash = KeyHash([2; 16]);
    const WRITTEN: ContentHash = ContentHash([1; 16]);
    const EDITED: ContentHash = ContentHash([2; 16]);

    fn seen(cell_key: Option<KeyHash>, user_key: Option<KeyHash>, content: ContentHash) -> Option<SeenRow> {
        Some(SeenRow { cell_key, user_key, content })
    }

    fn entry() -> KnownEntry {
        KnownEntry { key: KEY, content: WRITTEN, is_mine: true, is_live: true, is_created: true }
    }

    #[test]
    fn a_row_that_the_ledger_names_is_known_by_its_id_whatever_its_cells_say() {
        let as_written = seen(Some(KEY), Some(KEY), WRITTEN);
        let cases = [
            (as_written, entry(), Standing::InStep),
            (seen(Some(KEY), Some(OTHER_KEY), EDITED), entry(), Standing::Drifted),
            (seen(Some(KEY), None, ContentHash::UNKNOWN), entry(), Standing::Drifted),
            (as_written, KnownEntry { content: ContentHash::UNKNOWN, ..entry() }, Standing::Unconfirmed),
            (seen(None, Some(KEY), WRITTEN), entry(), Standing::Moved),
            (seen(Some(OTHER_KEY), Some(KEY), EDITED), entry(), Standing::Moved),
            // What was taken over never had a key cell of ours.
            (seen(None, Some(KEY), WRITTEN), KnownEntry { is_created: false, ..entry() }, Standing::InStep),
            (seen(None, None, EDITED), KnownEntry { is_mine: false, ..entry() }, Standing::OtherSync),
        ];
        for (row, entry, standing) in cases {
            assert_eq!(standing_of(row, Some(entry)), Some((standing, Some(KEY))), "{row:?} {entry:?}");
        }
    }

    #[test]
    fn a_row_that_the_ledger_does_not_name_is_ours_only_if_key_cell_and_key_agree() {
        let cases = [
            (seen(Some(KEY), Some(KEY), WRITTEN), Standing::Ours, Some(KEY)),
            (seen(Some(KEY), Some(OTHER_KEY), WRITTEN), Standing::Foreign, Some(OTHER_KEY)),
            (seen(Some(KEY), None, WRITTEN), Standing::Foreign, Some(KEY)),
            (seen(None, Some(KEY), WRITTEN), Standing::Foreign, Some(KEY)),
            (seen(None, None, WRITTEN), Standing::Foreign, None),
        ];
        for (row, standing, key) in cases {
            assert_eq!(standing_of(row, None), Some((standing, key)), "{row:?}");
        }
        let removed = KnownEntry { is_live: false, ..entry() };
        assert_eq!(standing_of(None, Some(removed)), None);
        assert_eq!(standing_of(seen(None, None, EDITED), Some(removed)), Some((Standing::Ours, Some(KEY))));
        assert_eq!(standing_of(None, Some(entry())), Some((Standing::Missing, Some(KEY))));
    }

    /// What is found, done, and done at the end about the rows of one key.
    fn told(standings: &[Standing], missing: MissingRows) -> (Vec<Option<Finding>>, Vec<Mend>, Option<MissingRows>) {
        let mut group = Group::default();
        let (findings, mends) = standings.iter().map(|standing| group.take(*standing)).unzip();
        (findings, mends, group.finish(missing))
    }

    #[test]
    fn of_the_rows_of_a_key_the_ledgers_stays_and_only_surplus_ones_of_ours_are_deleted() {
        use Standing::{Foreign, InStep, Missing, Ours};
        let again = MissingRows::MadeAgain;
        let (doubled, foreign) = (Some(Finding::Doubled), Some(Finding::DoubledByOthers));
        let (extra, missing) = (Some(Finding::Extra), Some(Finding::Missing));
        let nothing = Mend::Nothing;
        assert_eq!(
            told(&[InStep, Ours, Ours, Foreign], again),
            (vec![None, doubled, doubled, foreign], vec![nothing, Mend::Delete, Mend::Delete, nothing], None)
        );
        assert_eq!(
            told(&[Ours, Ours, Foreign], again),
            (vec![extra, doubled, foreign], vec![Mend::Adopt, Mend::Delete, nothing], None)
        );
        // The row that is there takes the place of the one that is gone.
        assert_eq!(
            told(&[Missing, Ours, Ours], again),
            (vec![missing, extra, doubled], vec![nothing, Mend::Replace, Mend::Delete], None)
        );
    }

    #[test]
    fn a_missing_row_is_made_again_unless_a_row_that_is_not_ours_has_its_key() {
        use Standing::{Foreign, Missing, MissingOfOtherSync};
        assert_eq!(told(&[Missing], MissingRows::MadeAgain).2, Some(MissingRows::MadeAgain));
        assert_eq!(told(&[Missing], MissingRows::Removed).2, Some(MissingRows::Removed));
        let (findings, _, end) = told(&[Missing, Foreign], MissingRows::MadeAgain);
        assert_eq!(findings, [Some(Finding::Missing), Some(Finding::ExtraOfOthers)]);
        assert_eq!(end, Some(MissingRows::Removed));
        assert_eq!(told(&[MissingOfOtherSync], MissingRows::MadeAgain).2, None);
    }

    #[test]
    fn rows_of_another_sync_are_not_touched() {
        let (findings, mends, end) = told(&[Standing::OtherSync, Standing::Ours], MissingRows::MadeAgain);
        assert_eq!((findings, end), (vec![None, Some(Finding::DoubledByOthers)], None));
        assert_eq!(mends, [Mend::Nothing, Mend::Nothing]);
    }

    #[test]
    fn each_standing_reads_back_from_its_code_and_the_ledgers_come_first() {
        for standing in Standing::ALL {
            assert_eq!(Standing::from_code(standing.code()), Some(standing));
        }
        assert!(Standing::MissingOfOtherSync.code() < Standing::Ours.code());
        assert!(Standing::Ours.code() < Standing::Foreign.code());
    }
}
