//! Decodes `suppress`.

use std::path::Path;

use convoke_core::spec::{ExistingRows, Expression, Suppression};

use super::guards::limit;
use super::mapping::{MappedColumn, Mapping};
use crate::field::Field;
use crate::report::Report;
use crate::shape::quoted;

const EXISTING: &[(&str, ExistingRows)] = &[("remove", ExistingRows::Remove), ("leave", ExistingRows::Leave)];

/// What a list is held against.
pub(super) struct Subject<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) key: Option<&'a [String]>,
    pub(super) base_dir: &'a Path,
}

pub(super) fn decode(field: &Field<'_>, subject: &Subject<'_>, report: &mut Report) -> Option<Vec<Suppression>> {
    let lists: Vec<Option<Suppression>> = field.items().iter().map(|item| list(item, subject, report)).collect();
    lists.into_iter().collect()
}

fn list(item: &Field<'_>, subject: &Subject<'_>, report: &mut Report) -> Option<Suppression> {
    let audience_column = audience_column(item, subject.mapping, report);
    let existing = item.field("existing").choice(EXISTING);
    if let (Some(ExistingRows::Remove), Some(column)) = (existing, &audience_column) {
        check_removable(item, column, subject.key, report);
    }
    Some(Suppression {
        path: subject.base_dir.join(item.field("csv").text()?),
        column: item.field("column").text()?.to_owned(),
        audience_column: audience_column?,
        existing: existing?,
        max_age: item.field("max_age").duration()?,
        max_unusable: limit(&item.field("max_unusable"), report)?,
    })
}

fn audience_column(item: &Field<'_>, mapping: &Mapping, report: &mut Report) -> Option<String> {
    let given = item.field("audience_column");
    if given.is_given() {
        let name = given.text()?;
        if !mapping.has(name) {
            report.problem(given.place, &given.path, mapping.not_mapped(given.shown()));
        }
        return Some(name.to_owned());
    }
    let column = item.field("column");
    let name = column.text()?;
    let names_of = |is_meant: &dyn Fn(&MappedColumn) -> bool| -> Vec<&str> {
        mapping.columns.iter().filter(|mapped| is_meant(mapped)).map(|mapped| mapped.spec.name.as_str()).collect()
    };
    let reading = names_of(&|mapped| mapped.spec.expression == Expression::Column(name.to_owned()));
    let called = names_of(&|mapped| mapped.spec.name.to_lowercase() == name.to_lowercase());
    let candidates = if reading.is_empty() { called } else { reading };
    match candidates.as_slice() {
        [only] => Some((*only).to_owned()),
        [] => {
            let shown = column.shown();
            let message =
                format!("no mapped column reads `{shown}` or is called so; name the one meant in `audience_column`");
            report.problem(column.place, &column.path, message);
            None
        }
        several => {
            let several = quoted(several.iter().copied());
            let shown = column.shown();
            let message = format!("`{shown}` is read by {several}; name the one meant in `audience_column`");
            report.problem(column.place, &column.path, message);
            None
        }
    }
}

fn check_removable(item: &Field<'_>, column: &str, key: Option<&[String]>, report: &mut Report) {
    let Some(key) = key else { return };
    if key.len() != 1 || key[0] != column {
        let existing = item.field("existing");
        let message = format!(
            "rows can only be removed when the compared column `{column}` is the whole key; write `existing: leave`, or make \
             it the key"
        );
        report.problem(existing.place, &existing.path, message);
    }
}
