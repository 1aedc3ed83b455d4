//! Turns rules into SQL predicates that mean what [`evaluate`](crate::evaluate()) means.

mod datafusion;
mod sqlite;

pub use datafusion::datafusion;
pub use sqlite::{Bind, ColumnAccess, sqlite};

use convoke_core::rule::Rule;

/// One condition's dialect; groups are alike everywhere.
fn group(rule: &Rule, condition: &mut dyn FnMut(&convoke_core::rule::Condition) -> String) -> String {
    let (parts, word, if_none) = match rule {
        Rule::Condition(leaf) => return condition(leaf),
        Rule::All(parts) => (parts, " AND ", "TRUE"),
        Rule::Any(parts) => (parts, " OR ", "FALSE"),
    };
    if parts.is_empty() {
        return if_none.to_owned();
    }
    let compiled: Vec<String> = parts.iter().map(|part| group(part, condition)).collect();
    format!("({})", compiled.join(word))
}

/// Joins alternatives; there is at least one.
fn any_of(alternatives: &[String]) -> String {
    format!("({})", alternatives.join(" OR "))
}
