//! A relation in SQL.

use std::fmt::Write as _;

use convoke_core::spec::Relation;

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

/// The COPY of these columns, of the rows that satisfy the condition. Only for a query that was prepared by itself.
pub(crate) fn copy_of<'c>(
    relation: &Relation,
    columns: impl Iterator<Item = &'c str>,
    condition: Option<&str>,
) -> String {
    let mut copy = String::from("COPY (\n");
    match (relation, condition) {
        (Relation::Query(query), None) => copy.push_str(query),
        (_, condition) => {
            let columns = columns.map(quoted).collect::<Vec<_>>().join(", ");
            write!(copy, "SELECT {columns} FROM {}", from_of(relation)).expect("a string takes every text");
            if let Some(condition) = condition {
                copy.push_str(" WHERE ");
                copy.push_str(condition);
            }
        }
    }
    // On a line of its own: a query may end in a comment.
    copy.push_str("\n) TO STDOUT (FORMAT binary)");
    copy
}

fn from_of(relation: &Relation) -> String {
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
