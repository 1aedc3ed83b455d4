//! The judge of a drill: compares the rows of an audience with the mapped records of its source, and looks at no book of
//! Convoke's. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Column to canonical text.
pub(super) type Cells = BTreeMap<String, Option<String>>;

/// The texts of the key's columns, in the key's order.
type Key = Vec<Option<String>>;

/// What the audience must hold: of each key one row, with the cells of one of the records that have this key.
#[derive(Debug, Default)]
pub(super) struct Expected {
    key: Vec<String>,
    records: BTreeMap<Key, Vec<Cells>>,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Keys in the source.
    pub(super) expected: usize,
    /// Of these, keys that stand in the audience.
    pub(super) present: usize,
    /// Rows beyond the first of a key.
    pub(super) doubled: usize,
    /// Keys without a row.
    pub(super) missing: usize,
    /// Rows of keys that the source does not have.
    pub(super) unexplained: usize,
    /// Keys whose row holds other cells than any record of theirs.
    pub(super) different: usize,
}

impl Verdict {
    pub(super) fn is_well(&self) -> bool {
        let Self { doubled, missing, unexplained, different, .. } = self;
        doubled + missing + unexplained + different == 0
    }
}

impl Expected {
    pub(super) fn new(key: &[String], records: impl IntoIterator<Item = Cells>) -> Self {
        let mut expected = Self { key: key.to_vec(), records: BTreeMap::new() };
        for record in records {
            expected.records.entry(expected.key_of(&record)).or_default().push(record);
        }
        expected
    }

    fn key_of(&self, cells: &Cells) -> Key {
        self.key.iter().map(|column| cells.get(column).cloned().flatten()).collect()
    }

    /// Compares rows with what is expected. Columns that no record has are the destination's own.
    pub(super) fn judge(&self, rows: &[Cells]) -> Verdict {
        let mut found: BTreeMap<Key, Vec<&Cells>> = BTreeMap::new();
        for row in rows {
            found.entry(self.key_of(row)).or_default().push(row);
        }
        let mut verdict = Verdict { expected: self.records.len(), ..Verdict::default() };
        for (key, rows) in &found {
            let Some(records) = self.records.get(key) else {
                verdict.unexplained += rows.len();
                continue;
            };
            verdict.present += 1;
            verdict.doubled += rows.len() - 1;
            let is_any = rows.iter().any(|row| records.iter().any(|record| agree(record, row)));
            verdict.different += usize::from(!is_any);
        }
        verdict.missing = verdict.expected - verdict.present;
        verdict
    }
}

fn agree(record: &Cells, row: &Cells) -> bool {
    record.iter().all(|(column, cell)| match (cell.as_deref(), row.get(column).and_then(Option::as_deref)) {
        (Some(sent), Some(held)) => sent == held || same_json(sent, held),
        (None, None) => true,
        _ => false,
    })
}

/// Whether two texts are one number, list or truth value, written in two ways.
fn same_json(one: &str, other: &str) -> bool {
    let (one, other) = (serde_json::from_str::<Value>(one), serde_json::from_str::<Value>(other));
    matches!((one, other), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(email: &str, score: Option<&str>) -> Cells {
        [("Email", Some(email)), ("Score", score)]
            .map(|(column, cell)| (column.to_owned(), cell.map(str::to_owned)))
            .into()
    }

    fn expected(records: &[Cells]) -> Expected {
        Expected::new(&["Email".to_owned()], records.to_vec())
    }

    #[test]
    fn each_key_once_with_its_cells_is_well_whatever_else_the_destination_adds() {
        let records = [row("a", Some("1")), row("b", None)];
        let mut rows = vec![row("b", None), row("a", Some("1"))];
        rows[0].insert("convoke_key".to_owned(), Some("x".to_owned()));
        let verdict = expected(&records).judge(&rows);
        assert!(verdict.is_well());
        assert_eq!((verdict.expected, verdict.present), (2, 2));
    }

    #[test]
    fn a_row_too_many_is_doubled_and_a_row_too_few_is_missing() {
        let records = [row("a", Some("1")), row("b", Some("2"))];
        let verdict = expected(&records).judge(&[row("a", Some("1")), row("a", Some("1")), row("a", Some("0"))]);
        assert!(!verdict.is_well());
        assert_eq!((verdict.present, verdict.doubled, verdict.missing), (1, 2, 1));
    }

    #[test]
    fn a_row_of_an_unknown_key_is_unexplained() {
        let verdict = expected(&[row("a", None)]).judge(&[row("a", None), row("c", None), row("c", None)]);
        assert!(!verdict.is_well());
        assert_eq!((verdict.unexplained, verdict.doubled), (2, 0));
    }

    #[test]
    fn other_cells_are_different_also_where_one_is_blank() {
        for score in [None, Some("2")] {
            let verdict = expected(&[row("a", Some("1"))]).judge(&[row("a", score)]);
            assert!(!verdict.is_well());
            assert_eq!(verdict.different, 1);
        }
    }

    #[test]
    fn of_records_with_one_key_any_may_stand_there() {
        let records = [row("a", Some("1")), row("a", Some("2"))];
        for score in ["1", "2"] {
            assert!(expected(&records).judge(&[row("a", Some(score))]).is_well());
        }
        assert_eq!(expected(&records).judge(&[]).missing, 1);
    }

    #[test]
    fn an_empty_audience_is_well_for_an_empty_source_alone() {
        assert!(expected(&[]).judge(&[]).is_well());
        assert!(!expected(&[]).judge(&[row("a", None)]).is_well());
    }

    #[test]
    fn one_number_in_two_spellings_is_the_same() {
        assert!(expected(&[row("a", Some("1.50"))]).judge(&[row("a", Some("1.5"))]).is_well());
    }
}
