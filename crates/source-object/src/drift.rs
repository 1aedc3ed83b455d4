//! How columns differ from those of what was read before, and what the declared policy makes of it.
//!
//! What was known before is remembered in the position: name, type and order of the columns, as the last settled run had
//! them. Before there is a position it is what the newest object has. The policies:
//!
//! - `strict`: any difference is refused, with the object, the column and both types: a column that has come, has gone, has
//!   another type (also a wider one), another spelling, or another place.
//! - `widen`: columns come and go, and types are widened where no value changes; what does not fit is refused. Differences
//!   from what was known are told, and known from then on.
//! - `ignore_new`: as `widen`, but columns that were not known are left out, and told, with each run until they are taken
//!   in by a run with `schema: widen`. What is known stays known.
//!
//! A backfill is held against nothing that was read before: for it every column is known, and `strict` compares the objects
//! of a window with each other.

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use convoke_core::spec::SchemaPolicy;
use convoke_core::{Origin, SourceError};
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
}

impl KnownColumn {
    pub(crate) fn of(field: &Field) -> Self {
        Self { name: field.name().clone(), data_type: plain_type(field.data_type()).to_string() }
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
    pub(crate) notices: Vec<String>,
}

/// Compares merged columns with those that were known.
pub(crate) fn since(known: Option<&[KnownColumn]>, columns: &[Column], policy: SchemaPolicy) -> Drift {
    let all = || columns.iter().map(Column::field);
    let Some(known) = known else {
        return Drift { schema: Schema::new(all().collect::<Vec<_>>()).into(), notices: Vec::new() };
    };
    let before = |name: &str| known.iter().find(|known| known.name == name);
    let mut notices = Vec::new();
    for column in columns {
        let (name, object, data_type) = (&column.name, &column.object, &column.data_type);
        match before(name) {
            None if policy == SchemaPolicy::IgnoreNew => notices.push(format!(
                "left out: column `{name}` of `{object}`, which was not known before; a run with `schema: widen` takes it in"
            )),
            None => notices.push(format!("column `{name}` ({data_type}) is new, in `{object}`")),
            Some(known) if known.data_type != data_type.to_string() => {
                notices.push(format!("column `{name}` was {} before and is {data_type} in `{object}`", known.data_type));
            }
            Some(_) => {}
        }
    }
    let is_gone = |known: &&KnownColumn| !columns.iter().any(|column| column.name == known.name);
    if let (Some(newest), gone) = (columns.first(), known.iter().filter(is_gone)) {
        let told =
            gone.map(|known| format!("column `{}` is gone: `{}` has it not", known.name, newest.object_of_order));
        notices.extend(told);
    }
    notices.extend(told_reordered(known, columns));
    let is_read = |column: &&Column| policy != SchemaPolicy::IgnoreNew || before(&column.name).is_some();
    let fields: Vec<Field> = columns.iter().filter(is_read).map(Column::field).collect();
    Drift { schema: Schema::new(fields).into(), notices }
}

/// Whether columns that were known have changed places among themselves; those of the newest object stand in front.
fn told_reordered(known: &[KnownColumn], columns: &[Column]) -> Option<String> {
    let places = columns.iter().filter_map(|column| known.iter().position(|known| known.name == column.name));
    let places: Vec<usize> = places.collect();
    let moved = places.windows(2).position(|pair| pair[0] > pair[1])?;
    let first = known.get(places[moved])?;
    let newest = columns.first()?;
    Some(format!(
        "columns stand in another order than before in `{}`, from `{}` on",
        newest.object_of_order, first.name
    ))
}

/// What is known after a run.
pub(crate) fn known_after(
    before: Option<&[KnownColumn]>,
    read: Option<&Schema>,
    policy: SchemaPolicy,
) -> Option<Vec<KnownColumn>> {
    let Some(read) = read else { return before.map(<[KnownColumn]>::to_vec) };
    let now: Vec<KnownColumn> = read.fields().iter().map(|field| KnownColumn::of(field)).collect();
    match (before, policy) {
        (Some(before), SchemaPolicy::IgnoreNew) => {
            let renewed =
                |column: &KnownColumn| now.iter().find(|new| new.name == column.name).unwrap_or(column).clone();
            Some(before.iter().map(renewed).collect())
        }
        _ if now.is_empty() => before.map(<[KnownColumn]>::to_vec),
        _ => Some(now),
    }
}
