//! What a refusal says about the rows of its request, and how the request is split after it.

use std::collections::BTreeMap;

use convoke_core::sink::{Problem, Refusal};

/// The code of a row that was taken without all of its cells.
pub const CELL_FAILED: &str = "cell_failed";

/// Why a row was refused, as the destination told it. `detail` may repeat a value: the courier takes values out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reason {
    pub code: String,
    pub column: Option<String>,
    pub detail: String,
}

/// A refusal, with rows of the batch instead of indices of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Refused {
    pub(super) too_large: bool,
    /// Whether the request held a single row.
    pub(super) alone: bool,
    /// Rows that problems point at.
    suspects: BTreeMap<u32, Reason>,
    /// The first problem that points at no row.
    general: Option<Reason>,
}

impl Refused {
    pub(super) fn new(refusal: &Refusal, rows: &[u32]) -> Self {
        let alone = rows.len() == 1;
        let mut refused = Self { too_large: refusal.too_large, alone, suspects: BTreeMap::new(), general: None };
        for problem in &refusal.problems {
            match problem.index.and_then(|index| rows.get(index)) {
                Some(row) => {
                    refused.suspects.entry(*row).or_insert_with(|| reason_of(problem));
                }
                None => {
                    refused.general.get_or_insert_with(|| reason_of(problem));
                }
            }
        }
        refused
    }

    /// Why this row, sent alone, was refused.
    pub(super) fn reason(&self, row: u32) -> Reason {
        if let Some(reason) = self.suspects.get(&row).or(self.general.as_ref()) {
            return reason.clone();
        }
        let (code, detail) = match self.too_large {
            true => ("too_large", "the row alone is larger than the destination takes"),
            false => ("refused", "the destination refused the row and gave no reason"),
        };
        Reason { code: code.to_owned(), column: None, detail: detail.to_owned() }
    }

    /// Splits at least two rows into two smaller requests, neither empty.
    ///
    /// Rows that nothing points at go together: they are likely fine. Suspects are halved, because a problem may point
    /// at the wrong row, and only a row refused alone is rejected. So that wrong pointers cannot take a batch apart row
    /// by row, they are followed only to a smaller half, and not twice in a row: `cleared` are rows that went together
    /// because nothing pointed at them, and were refused all the same.
    ///
    /// Of n rows of which k are refused, with l = ⌈log₂ n⌉, that makes at most 2kl + 1 requests, the first included,
    /// where nothing is pointed at or every refusal points at a refused row among others, and 4kl + 1 whatever it points
    /// at; and k more where a refused request may be done in part, because a row whose company was done goes alone.
    pub(super) fn split(&self, rows: &[u32], cleared: bool) -> Split {
        let (suspects, clean): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| self.suspects.contains_key(row));
        if !self.too_large && !cleared && !suspects.is_empty() && suspects.len() <= clean.len() {
            return Split { first: clean, first_is_cleared: true, second: suspects };
        }
        let (left, right) = rows.split_at(rows.len() / 2);
        Split { first: left.to_vec(), first_is_cleared: false, second: right.to_vec() }
    }
}

/// Two requests instead of one.
pub(super) struct Split {
    pub(super) first: Vec<u32>,
    /// Whether the first holds what nothing pointed at.
    pub(super) first_is_cleared: bool,
    pub(super) second: Vec<u32>,
}

fn reason_of(problem: &Problem) -> Reason {
    Reason { code: problem.code.clone(), column: problem.column.clone(), detail: problem.detail.clone() }
}
