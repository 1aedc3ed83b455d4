//! A relation in SQL.

use std::fmt::Write as _;

use convoke_core::spec::Relation;

use crate::columns::Columns;

/// What a relation is called in messages and in the origins of records.
pub(crate) fn label_of(relation: &Relation) -> String {
    match relation {
        Relation::Table { schema: Some(schema), name } => format!("{schema}.{name}"),
        Relation::Table { schema: None, name } => name.clone(),
        Relation::Query(_) => "query".to_owned(),
    }
}

/// One statement with all columns of the relation. A query stands as it was written, so that PostgreSQL's positions are
/// positions in it, and so that what is no single statement is refused here before it stands in a COPY.
pub(crate) fn select_of(relation: &Relation) -> String {
    match relation {
        Relation::Table { .. } => format!("SELECT * FROM {}", from_of(relation)),
        Relation::Query(query) => query.clone(),
    }
}

/// The COPY of these columns, of the rows that satisfy all conditions. Only for a query that was prepared by itself.
pub(crate) fn copy_of(relation: &Relation, columns: &Columns, conditions: &[String]) -> String {
    let mut copy = String::from("COPY (\n");
    match (relation, columns.select_list()) {
        (Relation::Query(query), None) if conditions.is_empty() => copy.push_str(query),
        (_, list) => {
            let list = list.unwrap_or_else(|| columns.all());
            write!(copy, "SELECT {list} FROM {}", from_of(relation)).expect("a string takes every text");
            if !conditions.is_empty() {
                write!(copy, " WHERE ({})", conditions.join(") AND (")).expect("a string takes every text");
            }
        }
    }
    // On a line of its own: a query may end in a comment.
    copy.push_str("\n) TO STDOUT (FORMAT binary)");
    copy
}

/// The relation as it stands behind FROM.
pub(crate) fn from_of(relation: &Relation) -> String {
    match relation {
        Relation::Table { schema: Some(schema), name } => format!("{}.{}", quoted(schema), quoted(name)),
        Relation::Table { schema: None, name } => quoted(name),
        Relation::Query(query) => format!("(\n{query}\n) AS convoke_source"),
    }
}

/// A name as PostgreSQL takes it without folding.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
