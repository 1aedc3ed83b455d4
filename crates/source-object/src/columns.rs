//! The columns of several objects together: schemas drift, and what fits is merged.
//!
//! Columns come and go, move and widen; none of that is an error, and a column that an object lacks is NULL in its records.
//! What does not fit is told with both objects. Names that differ only in case are not two columns that one could tell apart
//! in a mapping, and are refused.

use std::collections::{HashMap, HashSet};

use arrow::datatypes::{DataType, Field, Fields};
use convoke_core::{Origin, SourceError};

use crate::types::{common_type, plain_type};

/// Every column that was met, in the order in which they were.
#[derive(Default)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    /// Where each column stands, by its name in lower case.
    places: HashMap<String, usize>,
    /// What was added last: of many objects most have the same columns.
    last: Fields,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// The object that brought the column to its type.
    pub(crate) object: String,
    /// The object in which it was met first, which gave it its place.
    pub(crate) object_of_order: String,
}

impl Column {
    /// Any column may be missing somewhere, so any may be NULL.
    pub(crate) fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), true)
    }
}

impl Columns {
    /// Adds the columns of an object.
    pub(crate) fn add(&mut self, object: &str, fields: &Fields) -> Result<(), SourceError> {
        if *fields == self.last {
            return Ok(());
        }
        let mut own = HashSet::new();
        for field in fields {
            if !own.insert(field.name()) {
                let message = format!("`{object}` has two columns named `{}`; write it with one", field.name());
                return Err(SourceError::new(Origin::User, message));
            }
            self.add_column(object, field)?;
        }
        self.last = fields.clone();
        Ok(())
    }

    fn add_column(&mut self, object: &str, field: &Field) -> Result<(), SourceError> {
        let data_type = plain_type(field.data_type());
        let folded = field.name().to_lowercase();
        let Some(&place) = self.places.get(&folded) else {
            self.places.insert(folded, self.columns.len());
            let (object, object_of_order) = (object.to_owned(), object.to_owned());
            self.columns.push(Column { name: field.name().clone(), data_type, object, object_of_order });
            return Ok(());
        };
        let known = &mut self.columns[place];
        if known.name != *field.name() {
            return Err(only_case(known, object, field.name()));
        }
        if known.data_type == data_type {
            return Ok(());
        }
        let common = common_type(&known.data_type, &data_type).ok_or_else(|| no_fit(known, object, &data_type))?;
        if common != known.data_type {
            (known.data_type, known.object) = (common, object.to_owned());
        }
        Ok(())
    }

    pub(crate) fn all(&self) -> &[Column] {
        &self.columns
    }
}

fn only_case(known: &Column, object: &str, name: &str) -> SourceError {
    let place = if known.object == object {
        format!("both in `{object}`")
    } else {
        format!("in `{}` and in `{object}`", known.object)
    };
    let message =
        format!("columns `{}` and `{name}` differ only in case, {place}; write them with one spelling", known.name);
    SourceError::new(Origin::User, message)
}

fn no_fit(known: &Column, object: &str, data_type: &DataType) -> SourceError {
    let message = format!(
        "column `{}` is {} in `{}` and {data_type} in `{object}`, and no type holds both as they are; \
         write the column in one type, or have `url` name one kind of them only",
        known.name, known.data_type, known.object
    );
    SourceError::new(Origin::User, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(columns: &[(&str, DataType)]) -> Fields {
        columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect()
    }

    fn merged(objects: &[(&str, &[(&str, DataType)])]) -> Result<Vec<(String, DataType)>, String> {
        let mut columns = Columns::default();
        for (object, own) in objects {
            columns.add(object, &fields(own)).map_err(|error| error.to_string())?;
        }
        assert!(columns.all().iter().all(|column| column.field().is_nullable()));
        Ok(columns.all().iter().map(|column| (column.name.clone(), column.data_type.clone())).collect())
    }

    #[test]
    fn columns_that_come_go_move_and_widen_are_merged() {
        use DataType::{Int32, Int64, Utf8};
        let merged = merged(&[
            ("new", &[("id", Int32), ("name", Utf8)]),
            ("same", &[("id", Int32), ("name", Utf8)]),
            ("wide", &[("phone", Utf8), ("id", Int64)]),
            ("old", &[("id", Int32)]),
        ]);
        let expected = [("id", Int64), ("name", Utf8), ("phone", Utf8)];
        assert_eq!(merged.unwrap(), expected.map(|(name, data_type)| (name.to_owned(), data_type)));
    }

    #[test]
    fn what_does_not_fit_is_told_with_column_types_and_both_objects() {
        use DataType::{Int32, Int64, Utf8};
        let error = merged(&[("a", &[("id", Int32)]), ("b", &[("id", Int64)]), ("c", &[("id", Utf8)])]).unwrap_err();
        assert!(error.contains("column `id` is Int64 in `b` and Utf8 in `c`"), "{error}");
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused_within_an_object_and_between_two() {
        use DataType::Utf8;
        let between = merged(&[("a", &[("Email", Utf8)]), ("b", &[("email", Utf8)])]).unwrap_err();
        assert!(between.contains("columns `Email` and `email` differ only in case, in `a` and in `b`"), "{between}");
        let within = merged(&[("a", &[("Email", Utf8), ("email", Utf8)])]).unwrap_err();
        assert!(within.contains("both in `a`"), "{within}");
        let twice = merged(&[("a", &[("email", Utf8), ("email", Utf8)])]).unwrap_err();
        assert!(twice.contains("`a` has two columns named `email`"), "{twice}");
    }
}
