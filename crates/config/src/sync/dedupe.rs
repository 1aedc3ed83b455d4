//! Decodes `dedupe`.

use convoke_core::spec::{Dedupe, Keep, OrderBy};

use super::mapping::expression;
use crate::field::Field;
use crate::report::Report;

/// How `keep` is spelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Winner {
    Latest,
    First,
    Rule,
}

const WINNERS: &[(&str, Winner)] = &[("latest", Winner::Latest), ("first", Winner::First), ("rule", Winner::Rule)];

pub(super) fn decode(dedupe: &Field<'_>, report: &mut Report) -> Option<Dedupe> {
    let winner = dedupe.field("keep").choice(WINNERS)?;
    let field = dedupe.field("by");
    let items = field.items();
    if winner == Winner::Rule && items.is_empty() {
        report.problem(dedupe.place, &field.path, "is missing; `keep: rule` needs the criteria that decide");
        return None;
    }
    let mut by = Vec::new();
    for item in &items {
        by.push(OrderBy { expression: expression(item, report)?, descending: descending(item, winner, report) });
    }
    // A rule is won by the greatest value of its first criterion that differs; `descending` turns one around.
    let keep = if winner == Winner::First { Keep::First } else { Keep::Latest };
    Some(Dedupe { keep, by })
}

fn descending(item: &Field<'_>, winner: Winner, report: &mut Report) -> bool {
    let field = item.field("descending");
    if field.is_given() && winner != Winner::Rule {
        report.problem(field.place, &field.path, "is for `keep: rule` only; `latest` and `first` say which end wins");
    }
    field.boolean().unwrap_or(false)
}
