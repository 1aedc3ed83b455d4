//! What a refusal says about the rows of its request, and how the request is split after it.

use std::collections::BTreeMap;

use convoke_core::sink::{Problem, Refusal};

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
    /// Rows that problems point at.
    suspects: BTreeMap<u32, Reason>,
    /// The first problem that points at no row.
    general: Option<Reason>,
}

impl Refused {
    pub(super) fn new(refusal: &Refusal, rows: &[u32]) -> Self {
        let mut refused = Self { too_large: refusal.too_large, suspects: BTreeMap::new(), general: None };
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
    /// at the wrong row, and only a row refused alone is rejected. That is O(k log n) requests for k refused rows.
    pub(super) fn split(&self, rows: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let (suspects, clean): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| self.suspects.contains_key(row));
        if !self.too_large && !suspects.is_empty() && !clean.is_empty() {
            return (clean, suspects);
        }
        let (left, right) = rows.split_at(rows.len() / 2);
        (left.to_vec(), right.to_vec())
    }
}

fn reason_of(problem: &Problem) -> Reason {
    Reason { code: problem.code.clone(), column: problem.column.clone(), detail: problem.detail.clone() }
}
