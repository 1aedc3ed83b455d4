//! How columns differ from those of what was read before, and what the declared policy makes of it.
//!
//! What was known before is remembered in the position: name, type and order of the columns, as the last settled run had
//! them. Before there is a position it is what the newest object has. The policies:
//!
//! - `strict`: any difference is refused, with the object, the column and both types: a column that has come, has gone, has
//!   another type (also a wider one), another spelling, or another place.
//! - `widen`: columns come and go, and types are widened where no value changes; what does not fit is refused. Differences
//!   from what was known are told, and known from then on. A column that new additions lack is empty in them.
//! - `ignore_new`: as `widen`, but columns that were not known are left out, and told, with each run until they are taken
//!   in by a run with `schema: widen`. What is known stays known.
//!
//! A backfill is held against nothing that was read before: for it every column is known, and `strict` compares the objects
//! of a window with each other.

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use convoke_core::spec::SchemaPolicy;
use convoke_core::{Origin, SourceError};
use serde::{Deserialize, Serialize};

use crate::columns::Column;
use crate::types::{common_type, plain_type};

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

    /// None of a type whose words are not understood.
    fn arrow_type(&self) -> Option<DataType> {
        self.data_type.parse().ok()
    }

    fn field(&self) -> Field {
        Field::new(&self.name, self.arrow_type().unwrap_or(DataType::Null), true)
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
            return match known.iter().find(is_same) {
                Some(spelt) => format!("spells column `{}`, as it is in {known_from}, `{}`", spelt.name, column.name),
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
    /// What adds may leave a column out, or parts of one, as writers of JSON do where there is no value: such a column is
    /// read as it was known, and is empty.
    pub(crate) keeps_known: bool,
}

/// Compares merged columns with those that were known.
pub(crate) fn since(known: Option<&[KnownColumn]>, columns: &[Column], measure: Measure) -> Drift {
    let Some(known) = known else {
        let schema = Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>());
        let known = (!columns.is_empty()).then(|| schema.fields().iter().map(|field| KnownColumn::of(field)).collect());
        return Drift { schema: schema.into(), known, notices: Vec::new() };
    };
    let comparison = Comparison { known, columns, measure };
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
}

impl Comparison<'_> {
    fn before(&self, name: &str) -> Option<&KnownColumn> {
        self.known.iter().find(|known| known.name == name)
    }

    fn gone(&self) -> impl Iterator<Item = &KnownColumn> {
        self.known.iter().filter(|known| !self.columns.iter().any(|column| column.name == known.name))
    }

    /// What is to be read: the columns that are there, then those that are empty.
    fn fields(&self) -> Vec<Field> {
        let Measure { policy, keeps_known } = self.measure;
        let is_read = |column: &&Column| policy != SchemaPolicy::IgnoreNew || self.before(&column.name).is_some();
        let mut fields: Vec<Field> = self.columns.iter().filter(is_read).map(Column::field).collect();
        if keeps_known && policy != SchemaPolicy::Strict && !self.columns.is_empty() {
            for field in &mut fields {
                let known = self.before(field.name()).and_then(KnownColumn::arrow_type);
                let widened = known.and_then(|known| common_type(field.data_type(), &known));
                field.set_data_type(widened.unwrap_or_else(|| field.data_type().clone()));
            }
            fields.extend(self.gone().map(KnownColumn::field));
        }
        fields
    }

    fn known_after(&self, fields: &[Field]) -> Vec<KnownColumn> {
        if self.columns.is_empty() {
            return self.known.to_vec();
        }
        let is_absent = |name: &str| !self.columns.iter().any(|column| column.name == name);
        let as_read =
            fields.iter().map(|field| KnownColumn { is_absent: is_absent(field.name()), ..KnownColumn::of(field) });
        let as_read: Vec<KnownColumn> = as_read.collect();
        if self.measure.policy != SchemaPolicy::IgnoreNew {
            return as_read;
        }
        let renewed = |known: &KnownColumn| {
            let read = as_read.iter().find(|read| read.name == known.name).cloned();
            read.unwrap_or_else(|| KnownColumn { is_absent: true, ..known.clone() })
        };
        self.known.iter().map(renewed).collect()
    }

    /// What is as it was at the last reading is not told again.
    fn notices(&self, fields: &[Field]) -> Vec<String> {
        let mut notices = Vec::new();
        for column in self.columns {
            let (name, object) = (&column.name, &column.object);
            let read = fields.iter().find(|field| field.name() == name).map(KnownColumn::of);
            match (self.before(name), read) {
                (_, None) => notices.push(format!(
                    "left out: column `{name}` of `{object}`, which was not known before; a run with `schema: widen` takes it in"
                )),
                (None, Some(_)) => notices.push(format!("column `{name}` ({}) is new, in `{object}`", column.data_type)),
                (Some(known), Some(read)) if known.data_type != read.data_type => {
                    notices.push(format!(
                        "column `{name}` was {} before and is {} in `{object}`",
                        known.data_type, column.data_type
                    ));
                }
                (Some(_), Some(_)) => {}
            }
        }
        if let Some(newest) = self.columns.first() {
            let gone = self.gone().filter(|known| !known.is_absent);
            notices.extend(
                gone.map(|known| format!("column `{}` is gone: `{}` has it not", known.name, newest.object_of_order)),
            );
        }
        notices.extend(self.told_reordered());
        notices
    }

    /// Whether columns that were known have changed places among themselves; those of the newest object stand in front.
    fn told_reordered(&self) -> Option<String> {
        let place = |column: &Column| self.known.iter().position(|known| known.name == column.name && !known.is_absent);
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
