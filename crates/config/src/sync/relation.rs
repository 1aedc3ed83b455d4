//! Decodes what of a database is read.

use std::num::NonZeroUsize;

use convoke_core::spec::{ChangeSign, Incremental, NullCursors, OutOfRange, PostgresSpec, Relation, UnsupportedTypes};

use super::Surroundings;
use crate::connection::{self, DATABASES};
use crate::field::Field;
use crate::report::Report;

const UNSUPPORTED: &[(&str, UnsupportedTypes)] =
    &[("error", UnsupportedTypes::Error), ("skip", UnsupportedTypes::Skip), ("text", UnsupportedTypes::Text)];

const OUT_OF_RANGE: &[(&str, OutOfRange)] =
    &[("error", OutOfRange::Error), ("empty", OutOfRange::Empty), ("text", OutOfRange::Text)];

const NULLS: &[(&str, NullCursors)] = &[("read", NullCursors::Read), ("refuse", NullCursors::Refuse)];

pub(super) fn decode(block: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<PostgresSpec> {
    let connection = connection::reference(&block.field("connection"), DATABASES, surroundings.connections, report);
    let relation = relation(block, report);
    let incremental_field = block.field("incremental");
    let incremental = incremental_field.is_given().then(|| incremental(&incremental_field, relation.as_ref(), report));
    let parallel_field = block.field("parallel");
    let parallel = usize::try_from(parallel_field.count()?).ok().and_then(NonZeroUsize::new);
    if matches!(relation, Some(Relation::Query(_))) && parallel.is_some_and(|sessions| sessions.get() > 1) {
        let message = "is for a `table`, which can be cut into ranges; a query is read by one session";
        report.problem(parallel_field.place, &parallel_field.path, message);
    }
    Some(PostgresSpec {
        connection: connection?,
        relation: relation?,
        time_column: block.field("time_column").text().map(str::to_owned),
        unsupported: block.field("unsupported").choice(UNSUPPORTED)?,
        out_of_range: block.field("out_of_range").choice(OUT_OF_RANGE)?,
        incremental: match incremental {
            None => None,
            Some(decoded) => Some(decoded?),
        },
        parallel: parallel?,
        max_snapshot: block.field("max_snapshot").duration()?,
    })
}

fn incremental(block: &Field<'_>, relation: Option<&Relation>, report: &mut Report) -> Option<Incremental> {
    let (column, row_versions) = (block.field("column"), block.field("row_versions"));
    let by = match (column.text(), row_versions.boolean()?) {
        (Some(name), false) => ChangeSign::Column {
            name: name.to_owned(),
            overlap: block.field("overlap").duration()?,
            nulls: block.field("nulls").choice(NULLS)?,
        },
        (None, true) => ChangeSign::RowVersions,
        (Some(_), true) => {
            report.problem(row_versions.place, &row_versions.path, "give either `column` or `row_versions`, not both");
            return None;
        }
        (None, false) => {
            let message = "does not say what tells changes; give `column: …`, or `row_versions: true`";
            report.problem(block.place, &block.path, message);
            return None;
        }
    };
    if by == ChangeSign::RowVersions {
        refuse_row_versions(block, relation, report);
    }
    Some(Incremental { by, full_every: block.field("full_every").duration() })
}

fn refuse_row_versions(block: &Field<'_>, relation: Option<&Relation>, report: &mut Report) {
    let field = block.field("row_versions");
    if matches!(relation, Some(Relation::Query(_))) {
        let message =
            "is for tables: what a query gives has no version; name the `table`, or a `column` that tells changes";
        report.problem(field.place, &field.path, message);
    }
    for unused in ["overlap", "nulls"].map(|name| block.field(name)).into_iter().filter(Field::is_given) {
        report.problem(unused.place, &unused.path, "is about `column`, and `row_versions` needs none; remove it");
    }
}

fn relation(block: &Field<'_>, report: &mut Report) -> Option<Relation> {
    let (table, query) = (block.field("table"), block.field("query"));
    match (table.is_given(), query.is_given()) {
        (true, false) => {
            let parsed = parse_table(table.text()?.trim());
            parsed.map_err(|message| report.problem(table.place, &table.path, message)).ok()
        }
        (false, true) => parse_query(&query, report),
        (true, true) => {
            report.problem(query.place, &query.path, "give either `table` or `query`, not both");
            None
        }
        (false, false) => {
            report.problem(block.place, &block.path, "says nothing about what is read; give `table` or `query`");
            None
        }
    }
}

/// A query without the semicolon that people end it with.
fn parse_query(field: &Field<'_>, report: &mut Report) -> Option<Relation> {
    let text = field.text()?.trim();
    let query = text.strip_suffix(';').map_or(text, str::trim_end);
    if query.is_empty() || query.contains('\0') {
        report.problem(field.place, &field.path, "is no query; give one SELECT");
    }
    Some(Relation::Query(query.to_owned()))
}

fn parse_table(text: &str) -> Result<Relation, &'static str> {
    let (first, rest) = part(text)?;
    let Some(rest) = rest.strip_prefix('.') else {
        return ended(rest, Relation::Table { schema: None, name: first });
    };
    let (second, rest) = part(rest)?;
    if rest.starts_with('.') {
        return Err("has more parts than `schema.name`; the database stands in the connection");
    }
    ended(rest, Relation::Table { schema: Some(first), name: second })
}

fn ended(rest: &str, relation: Relation) -> Result<Relation, &'static str> {
    if rest.is_empty() { Ok(relation) } else { Err(ODD) }
}

const ODD: &str = "is not `name` or `schema.name`; a name that holds more than letters, digits, `_` and `$` stands in \
                   double quotes, and a SELECT under `query`";

/// Reads one name, quoted or not, and returns it with what follows.
fn part(text: &str) -> Result<(String, &str), &'static str> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_part(quoted);
    }
    let is_plain = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
    let end = text.find(|character| !is_plain(character)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() { Err(ODD) } else { Ok((name.to_owned(), rest)) }
}

/// Reads up to the closing quote; a doubled one stands for itself.
fn quoted_part(text: &str) -> Result<(String, &str), &'static str> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let Some((inside, after)) = rest.split_once('"') else {
            return Err("has an opening double quote and no closing one");
        };
        name.push_str(inside);
        let Some(doubled) = after.strip_prefix('"') else {
            let is_name = !name.is_empty() && !name.contains('\0');
            return if is_name { Ok((name, after)) } else { Err("has an empty name in double quotes") };
        };
        name.push('"');
        rest = doubled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_as_they_are_stored() {
        let table = |schema: Option<&str>, name: &str| {
            Ok(Relation::Table { schema: schema.map(str::to_owned), name: name.to_owned() })
        };
        let cases = [
            ("people", table(None, "people")),
            ("Crm.People_2026", table(Some("Crm"), "People_2026")),
            ("\"Odd Name\".\"x.y\"", table(Some("Odd Name"), "x.y")),
            ("crm.\"say \"\"hi\"\"\"", table(Some("crm"), "say \"hi\"")),
            ("größe$1", table(None, "größe$1")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_table(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_of_a_table_is_refused() {
        let cases = [
            "",
            ".",
            "crm.",
            ".people",
            "a.b.c",
            "a b",
            "a; drop table b",
            "\"a",
            "\"\"",
            "\"a\"b",
            "a\"b\"",
            "a.\"b\".c",
            "(select 1)",
            "\"\0\"",
        ];
        for text in cases {
            assert!(parse_table(text).is_err(), "{text}");
        }
    }
}
