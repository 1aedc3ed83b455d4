//! NDJSON: one JSON object on each line, by a schema that is learnt from the whole file before.
//!
//! Numbers without a fraction are `Int64`; others are `Float64`, unless that would lose digits. What no type holds as it
//! was written is text: a string stands for its characters, anything else for its JSON. So are fields of several kinds.
//! Objects and arrays are structs and lists if they are alike, else text. A field that is always `null`, or an object
//! without fields, has the type `Null`.

mod batch;
mod lines;
mod number;
mod object;
mod shape;
mod value;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use self::batch::Batch;
use self::lines::{Line, Lines};
use self::object::Object;
use self::shape::Fields;
use crate::input::Raw;
use crate::outlet::{Outlet, Stop};
use crate::unpacking::unpacked;

/// The fields of all objects together, in the order in which they are met. Lines that are malformed add nothing.
pub(crate) fn schema(raw: Raw<'_>) -> Result<SchemaRef, Stop> {
    let mut lines = Lines::new(unpacked(raw)?);
    let mut fields = Fields::default();
    while let Some(Line { text, .. }) = lines.advance()? {
        if let Ok(object) = text.and_then(Object::parse) {
            fields.see_object(&object).map_err(|reason| Stop::Broken(reason.to_owned()))?;
        }
    }
    Ok(Arc::new(Schema::new(fields.to_arrow())))
}

/// Passes on all records, with those fields of the schema that any of their batch has.
pub(crate) fn read(raw: Raw<'_>, schema: &SchemaRef, outlet: &mut Outlet<'_>) -> Result<(), Stop> {
    let seen = raw.seen();
    let mut lines = Lines::new(unpacked(raw)?);
    let mut batch = Batch::new(schema)?;
    while let Some(Line { number, is_cut, text }) = lines.advance()? {
        if let Err(reason) = text.and_then(|text| batch.push(text, number)) {
            if is_cut {
                return Err(Stop::Broken(format!(
                    "the file ends in the middle of the record at line {number} ({reason}); drop it again, whole"
                )));
            }
            outlet.malformed(number, reason)?;
        }
        if batch.is_full() {
            outlet.batch(batch.take(seen.bytes()))?;
        }
    }
    if !batch.is_empty() {
        outlet.batch(batch.take(seen.bytes()))?;
    }
    Ok(())
}
