//! How columns differ from those of what was read before, and what the declared policy makes of it.
//!
//! What was known before is remembered in the position: name, type and order of the columns, as the last settled run had
//! them. Before there is a position it is what the newest object has. The policies:
//!
//! - `strict`: any difference is refused, with the object, the column and both types: a column that has come, has gone, has
//!   another type (also a wider one), another spelling, or another place.
//! - `widen`: columns come and go, and types are widened where no value changes; what does not fit is refused. Differences
//!   from what was known are told, and known from then on. A column that new additions of JSON leave out is empty in them.
//! - `ignore_new`: as `widen`, but columns that were not known are left out, and told, with each run until they are taken
//!   in by a run with `schema: widen`. What is known stays known.
//!
//! A backfill is held against nothing that was read before: for it every column is known, and `strict` compares the objects
//! of a window with each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use convoke_core::spec::SchemaPolicy;
use convoke_core::{Origin, SourceError};
use convoke_formats::may_be_value;
use serde::{Deserialize, Serialize};

use crate::columns::Column;
use crate::types::plain_type;

/// A column that was settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownColumn {
    name: String,
    /// The type, in words.
    #[serde(rename = "type")]
    data_type: String,
    /// Whether what was read last had it not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_absent: bool,
}

impl KnownColumn {
    pub(crate) fn of(field: &Field) -> Self {
        Self { name: field.name().clone(), data_type: plain_type(field.data_type()).to_string(), is_absent: false }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.is_absent
    }

    /// The type, if values of JSON are read as one. Words that do not come back as they are were not understood.
    fn json_type(&self) -> Option<DataType> {
        let parsed: DataType = self.data_type.parse().ok()?;
        (is_of_json(&parsed) && parsed.to_string() == self.data_type).then_some(parsed)
    }
}

/// Refuses an object whose columns are not exactly these. `known_from` says where they were met.
pub(crate) fn refuse_difference(
    known: &[KnownColumn],
    known_from: &str,
    object: &str,
    fields: &Fields,
) -> Result<(), SourceError> {
    let own: Vec<KnownColumn> = fields.iter().map(|field| KnownColumn::of(field)).collect();
    if own == known {
        return Ok(());
    }
    let what = difference(known, known_from, &own);
    let message = format!(
        "`{object}` {what}, which `schema: strict` refuses; write it with the columns that the others have, or set \
         `schema: widen`"
    );
    Err(SourceError::new(Origin::User, message))
}

fn difference(known: &[KnownColumn], known_from: &str, own: &[KnownColumn]) -> String {
    let find = |columns: &[KnownColumn], name: &str| columns.iter().find(|column| column.name == name).cloned();
    for column in own {
        let Some(before) = find(known, &column.name) else {
            let is_same = |other: &&KnownColumn| other.name.to_lowercase() == column.name.to_lowercase();
            let is_suspect = own.iter().any(|column| may_be_value(&column.name));
            return match known.iter().find(is_same) {
                Some(spelt) => format!("spells column `{}`, as it is in {known_from}, `{}`", spelt.name, column.name),
                None if is_suspect => format!("has {VALUE_LIKE}, which {known_from} has not"),
                None => format!("has a column `{}` ({}), which {known_from} has not", column.name, column.data_type),
            };
        };
        if before.data_type != column.data_type {
            return format!(
                "has column `{}` as {}, and in {known_from} it is {}",
                column.name, column.data_type, before.data_type
            );
        }
    }
    match known.iter().find(|column| find(own, &column.name).is_none()) {
        Some(gone) => format!("lacks column `{}` ({}), which {known_from} has", gone.name, gone.data_type),
        None => {
            let moved = own.iter().zip(known).find(|(column, known)| column != known);
            let name = moved.map_or("", |(column, _)| column.name.as_str());
            format!("has its columns in another order than {known_from}, from `{name}` on")
        }
    }
}

/// What has become of the columns since.
pub(crate) struct Drift {
    /// What is to be read.
    pub(crate) schema: SchemaRef,
    /// What is known once it is read.
    pub(crate) known: Option<Vec<KnownColumn>>,
    pub(crate) notices: Vec<String>,
}

/// How columns are held against those that were known.
#[derive(Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) policy: SchemaPolicy,
    /// What adds leaves a column out, or parts of one, where no record has a value, as writers of JSON do: such a column is
    /// read as it was known, and is empty.
    pub(crate) keeps_known: bool,
}

/// Columns, and parts of them, up to which those that are absent are kept. Names that are values have no end.
const MOST_KEPT: usize = 4_096;

/// Compares merged columns with those that were known.
pub(crate) fn since(known: Option<&[KnownColumn]>, columns: &[Column], measure: Measure) -> Drift {
    let Some(known) = known else {
        let schema = Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>());
        let known = (!columns.is_empty()).then(|| schema.fields().iter().map(|field| KnownColumn::of(field)).collect());
        return Drift { schema: schema.into(), known, notices: Vec::new() };
    };
    let comparison = Comparison {
        known,
        columns,
        measure,
        known_places: known.iter().enumerate().map(|(place, known)| (known.name.as_str(), place)).collect(),
        there: columns.iter().map(|column| column.name.as_str()).collect(),
    };
    let fields = comparison.fields();
    Drift {
        known: Some(comparison.known_after(&fields)),
        notices: comparison.notices(&fields),
        schema: Schema::new(fields).into(),
    }
}

struct Comparison<'c> {
    known: &'c [KnownColumn],
    columns: &'c [Column],
    measure: Measure,
    known_places: HashMap<&'c str, usize>,
    there: HashSet<&'c str>,
}

impl Comparison<'_> {
    fn before(&self, name: &str) -> Option<&KnownColumn> {
        self.known_places.get(name).map(|place| &self.known[*place])
    }

    fn gone(&self) -> impl Iterator<Item = &KnownColumn> {
        self.known.iter().filter(|known| !self.there.contains(known.name.as_str()))
    }

    /// What is to be read: the columns that are there, then those that are empty.
    fn fields(&self) -> Vec<Field> {
        let Measure { policy, keeps_known } = self.measure;
        let is_read = |column: &&Column| policy != SchemaPolicy::IgnoreNew || self.before(&column.name).is_some();
        let fields: Vec<Field> = self.columns.iter().filter(is_read).map(Column::field).collect();
        if !keeps_known || policy == SchemaPolicy::Strict || self.columns.is_empty() {
            return fields;
        }
        let with_known = |field: &Field| {
            let known = self.before(field.name()).and_then(KnownColumn::json_type);
            let data_type = known.map_or_else(|| field.data_type().clone(), |known| filled(field.data_type(), &known));
            field.clone().with_data_type(data_type)
        };
        // Another spelling is another column, and whoever reads the old one is told.
        let lower: HashSet<String> = self.columns.iter().map(|column| column.name.to_lowercase()).collect();
        let absent = self.gone().filter(|known| !lower.contains(&known.name.to_lowercase()));
        let absent = absent.filter_map(|known| Some(Field::new(&known.name, known.json_type()?, true)));
        let kept: Vec<Field> = fields.iter().map(with_known).chain(absent).collect();
        let count: usize = kept.iter().map(|field| count_parts(field.data_type())).sum();
        if count > MOST_KEPT { fields } else { kept }
    }

    fn known_after(&self, fields: &[Field]) -> Vec<KnownColumn> {
        if self.columns.is_empty() {
            return self.known.to_vec();
        }
        let read = |field: &Field| match self.before(field.name()) {
            Some(known) if !self.there.contains(field.name().as_str()) => {
                KnownColumn { is_absent: true, ..known.clone() }
            }
            _ => KnownColumn::of(field),
        };
        if self.measure.policy != SchemaPolicy::IgnoreNew {
            return fields.iter().map(read).collect();
        }
        let by_name: HashMap<&str, &Field> = fields.iter().map(|field| (field.name().as_str(), field)).collect();
        let renewed = |known: &KnownColumn| match by_name.get(known.name.as_str()) {
            Some(field) => read(field),
            None => KnownColumn { is_absent: true, ..known.clone() },
        };
        self.known.iter().map(renewed).collect()
    }

    /// What is as it was at the last reading is not told again.
    fn notices(&self, fields: &[Field]) -> Vec<String> {
        let by_name: HashMap<&str, &Field> = fields.iter().map(|field| (field.name().as_str(), field)).collect();
        // The first record of a file without a header is not shown.
        let is_suspect = self.columns.iter().any(|column| may_be_value(&column.name));
        let mut notices = Vec::new();
        for column in self.columns {
            let object = &column.object;
            let name = match is_suspect && self.before(&column.name).is_none() {
                true => VALUE_LIKE.to_owned(),
                false => format!("column `{}`", column.name),
            };
            let read = by_name.get(column.name.as_str()).map(|field| KnownColumn::of(field));
            match (self.before(&column.name), read) {
                (_, None) => notices.push(format!(
                    "left out: {name} of `{object}`, which was not known before; a run with `schema: widen` takes it in"
                )),
                (None, Some(read)) => notices.push(format!("{name} ({}) is new, in `{object}`", read.data_type)),
                (Some(known), Some(read)) if known.data_type != read.data_type => {
                    notices
                        .push(format!("{name} was {} before and is {} in `{object}`", known.data_type, read.data_type));
                }
                (Some(_), Some(_)) => {}
            }
        }
        if let Some(newest) = self.columns.first() {
            let gone = self.gone().filter(|known| !known.is_absent);
            let told = |known: &KnownColumn| {
                format!("column `{}` is gone: `{}` has it not", known.name, newest.object_of_order)
            };
            notices.extend(gone.map(told));
        }
        notices.extend(self.told_reordered());
        notices
    }

    /// Whether columns that were known have changed places among themselves; those of the newest object stand in front.
    fn told_reordered(&self) -> Option<String> {
        let place = |column: &Column| {
            self.known_places.get(column.name.as_str()).copied().filter(|place| !self.known[*place].is_absent)
        };
        let places: Vec<usize> = self.columns.iter().filter_map(place).collect();
        let moved = places.windows(2).position(|pair| pair[0] > pair[1])?;
        let first = self.known.get(places[moved])?;
        let newest = self.columns.first()?;
        Some(format!(
            "columns stand in another order than before in `{}`, from `{}` on",
            newest.object_of_order, first.name
        ))
    }
}

const VALUE_LIKE: &str = "a column whose name looks like a value";

/// A type with what it leaves out of one that was known, at any depth: where there was no value.
fn filled(new: &DataType, known: &DataType) -> DataType {
    match (new, known) {
        (DataType::Null, known) => known.clone(),
        (DataType::Struct(new), DataType::Struct(known)) => {
            let part = |known: &FieldRef| match new.find(known.name()) {
                Some((_, part)) => with_type(part, filled(part.data_type(), known.data_type())),
                None => Arc::clone(known),
            };
            let more = new.iter().filter(|part| known.find(part.name()).is_none()).cloned();
            DataType::Struct(known.iter().map(part).chain(more).collect())
        }
        (DataType::List(new), DataType::List(known)) => {
            DataType::List(with_type(new, filled(new.data_type(), known.data_type())))
        }
        (new, _) => new.clone(),
    }
}

fn with_type(field: &FieldRef, data_type: DataType) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Whether values of JSON are read as this type.
fn is_of_json(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::Boolean | DataType::Int64 | DataType::Float64 | DataType::Utf8 => true,
        DataType::Struct(parts) => parts.iter().all(|part| is_of_json(part.data_type())),
        DataType::List(item) => is_of_json(item.data_type()),
        _ => false,
    }
}

fn count_parts(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(parts) => 1 + parts.iter().map(|part| count_parts(part.data_type())).sum::<usize>(),
        DataType::List(item) => 1 + count_parts(item.data_type()),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(parts: &[(&str, DataType)]) -> DataType {
        DataType::Struct(parts.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect())
    }

    fn list(item: DataType) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(item, true)))
    }

    #[test]
    fn only_what_is_left_out_is_taken_from_what_was_known() {
        use DataType::{Float64, Int64, Null, Utf8};
        let known = object(&[("email", Utf8), ("name", Utf8), ("age", Int64)]);
        for (new, known, expected) in [
            (Null, Utf8, Utf8),
            (Int64, Utf8, Int64),
            (Utf8, object(&[("a", Utf8)]), Utf8),
            // In the order that was known, so that an object that is read whole is written as before.
            (object(&[("name", Utf8)]), known.clone(), known.clone()),
            (
                object(&[("age", Float64), ("city", Utf8), ("email", Null)]),
                known,
                object(&[("email", Utf8), ("name", Utf8), ("age", Float64), ("city", Utf8)]),
            ),
            (list(Null), list(object(&[("a", Utf8)])), list(object(&[("a", Utf8)]))),
        ] {
            assert_eq!(filled(&new, &known), expected, "{new} with {known}");
        }
    }

    #[test]
    fn types_come_back_from_their_words_or_not_at_all() {
        let known = |data_type: DataType| KnownColumn::of(&Field::new("a", data_type, true)).json_type();
        for data_type in [DataType::Utf8, DataType::Null, list(object(&[("größe", list(DataType::Int64))]))] {
            assert_eq!(known(data_type.clone()), Some(data_type));
        }
        for data_type in [
            DataType::Date32,
            list(DataType::Int32),
            object(&[("a\"b", DataType::Utf8)]),
            object(&[("a\\", DataType::Utf8), ("b", DataType::Utf8)]),
        ] {
            assert_eq!(known(data_type.clone()), None, "{data_type}");
        }
    }

    #[test]
    fn names_without_end_are_not_kept() {
        let column = |name: String| {
            let mut columns = crate::columns::Columns::default();
            columns.add("b.ndjson", &Fields::from(vec![Field::new(name, DataType::Utf8, true)])).unwrap();
            columns
        };
        let measure = Measure { policy: SchemaPolicy::Widen, keeps_known: true };
        let mut known = None;
        let mut most = 0;
        for number in 0..MOST_KEPT + 10 {
            let columns = column(format!("n{number}"));
            known = since(known.as_deref(), columns.all(), measure).known;
            most = most.max(known.as_ref().unwrap().len());
        }
        assert_eq!(most, MOST_KEPT);
    }
}
