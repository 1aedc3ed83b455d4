//! What an audit of an audience finds: its rows, held against the ledger.

use serde::{Deserialize, Serialize};

use crate::ids::RowId;
use crate::sink::AttemptTag;

/// How an audience stands against its ledger. Each row of the audience, and each live entry of the ledger, counts
/// exactly once, but for those that stand in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCounts {
    /// Rows that the audience holds.
    pub rows: u64,
    /// Live entries of the ledger.
    pub ledger_rows: u64,
    /// In both, and the row holds what was written.
    pub in_step: u64,
    /// In both, but the row holds something else.
    pub drifted: u64,
    /// In both, but what was written is not known: a cell had failed, or was not understood.
    pub unconfirmed: u64,
    /// In both, but somebody edited or cleared the row's key cell; its other cells may have drifted as well.
    pub moved: u64,
    /// In both, and another sync's.
    pub other_syncs: u64,
    /// Made by us, and not the row that the ledger names for its key.
    pub doubled: u64,
    /// Not known to be made by us, with the key of a row of ours.
    pub doubled_by_others: u64,
    /// Made by us, and in no ledger.
    pub extra: u64,
    /// Somebody else's, with a key of its own or none.
    pub extra_of_others: u64,
    /// In the ledger, and not in the audience.
    pub missing: u64,
    /// Another sync's, in the ledger, and not in the audience.
    pub missing_of_other_syncs: u64,
}

impl AuditCounts {
    /// Whether every row and every live entry is accounted for exactly once.
    pub fn is_balanced(&self) -> bool {
        let in_both = self.in_step + self.drifted + self.unconfirmed + self.moved + self.other_syncs;
        let in_audience = self.doubled + self.doubled_by_others + self.extra + self.extra_of_others;
        let in_ledger = self.missing + self.missing_of_other_syncs;
        self.rows == in_both + in_audience && self.ledger_rows == in_both + in_ledger
    }

    /// What is not as it should be. Rows that somebody else added are none of ours, unless they have a key of ours.
    pub fn differences(&self) -> u64 {
        let in_both = self.drifted + self.unconfirmed + self.moved;
        in_both + self.doubled + self.doubled_by_others + self.extra + self.missing + self.missing_of_other_syncs
    }

    /// The counter of a finding.
    pub fn of_mut(&mut self, finding: Finding) -> &mut u64 {
        match finding {
            Finding::Drifted => &mut self.drifted,
            Finding::Unconfirmed => &mut self.unconfirmed,
            Finding::Moved => &mut self.moved,
            Finding::Doubled => &mut self.doubled,
            Finding::DoubledByOthers => &mut self.doubled_by_others,
            Finding::Extra => &mut self.extra,
            Finding::ExtraOfOthers => &mut self.extra_of_others,
            Finding::Missing => &mut self.missing,
            Finding::MissingOfOtherSyncs => &mut self.missing_of_other_syncs,
        }
    }
}

/// What is to be told of a row. See [`AuditCounts`] for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Drifted,
    Unconfirmed,
    Moved,
    Doubled,
    DoubledByOthers,
    Extra,
    ExtraOfOthers,
    Missing,
    MissingOfOtherSyncs,
}

impl Finding {
    /// How many findings there are.
    pub const COUNT: usize = 9;
}

/// One row of a finding, without its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSample {
    pub finding: Finding,
    pub row_id: RowId,
    /// The row that the ledger names for the same key, if it is another one.
    pub ledger_row: Option<RowId>,
    /// The attempt that made the row, if its key cell tells.
    pub attempt: Option<AttemptTag>,
    /// Where the source has the record: `file:line`. None if the source has none, or the row needs no change.
    pub origin: Option<String>,
    /// Columns whose cells differ from what the source says. Empty if the source does not say.
    pub columns: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_or_an_entry_that_is_not_accounted_for_unbalances_an_audit() {
        let counts = AuditCounts {
            rows: 9,
            ledger_rows: 7,
            in_step: 2,
            drifted: 1,
            unconfirmed: 1,
            moved: 1,
            doubled: 1,
            doubled_by_others: 1,
            extra: 1,
            extra_of_others: 1,
            missing: 2,
            ..AuditCounts::default()
        };
        assert!(counts.is_balanced());
        assert_eq!(counts.differences(), 8);
        assert!(!AuditCounts { rows: 10, ..counts }.is_balanced());
        assert!(!AuditCounts { ledger_rows: 6, ..counts }.is_balanced());
        assert!(!AuditCounts { in_step: 3, ..counts }.is_balanced());
    }
}
