//! Brings the records of a file under the schema of all files.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use convoke_core::source::SourceBatch;

use crate::csv::may_be_value;
use crate::outlet::{Outlet, Stop};

pub(super) struct Conforming {
    wanted: SchemaRef,
    /// For each field that is wanted, its place in the file.
    places: Vec<Option<usize>>,
}

impl Conforming {
    pub(super) fn new(own: &SchemaRef, wanted: &SchemaRef) -> Result<Self, Stop> {
        let mut places = Vec::with_capacity(wanted.fields().len());
        for field in wanted.fields() {
            let found = own.column_with_name(field.name());
            if let Some((_, own)) = found
                && !can_cast_types(own.data_type(), field.data_type())
            {
                let (from, to) = (own.data_type(), field.data_type());
                return Err(Stop::Broken(format!("{} is {from}, and cannot be read as {to}", told(field.name()))));
            }
            places.push(found.map(|(place, _)| place));
        }
        Ok(Self { wanted: Arc::clone(wanted), places })
    }

    /// Passes on the records whose values fit, and tells the others.
    pub(super) fn pass(&self, batch: SourceBatch, outlet: &mut Outlet<'_>) -> Result<(), Stop> {
        let count = batch.records.num_rows();
        let mut misfits = vec![None; count];
        let mut arrays = Vec::with_capacity(self.places.len());
        for (field, place) in self.wanted.fields().iter().zip(&self.places) {
            let array = match place {
                None => new_null_array(field.data_type(), count),
                Some(place) => {
                    let own = batch.records.column(*place);
                    let array = fitted(own, field.data_type())?;
                    for row in lost(own, &array) {
                        misfits[row].get_or_insert_with(|| field.name().as_str());
                    }
                    array
                }
            };
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let records =
            RecordBatch::try_new_with_options(Arc::clone(&self.wanted), arrays, &options).map_err(impossible)?;
        let batch = SourceBatch { records, ..batch };
        if misfits.iter().all(Option::is_none) {
            return outlet.batch(batch);
        }
        pass_fitting(batch, &misfits, outlet)
    }
}

fn pass_fitting(batch: SourceBatch, misfits: &[Option<&str>], outlet: &mut Outlet<'_>) -> Result<(), Stop> {
    let fits = BooleanArray::from_iter(misfits.iter().map(|misfit| Some(misfit.is_none())));
    let records = filter_record_batch(&batch.records, &fits).map_err(impossible)?;
    let rows = || batch.positions.iter().zip(misfits);
    for (position, misfit) in rows() {
        if let Some(name) = misfit {
            outlet.malformed(*position, format!("{} has a value that does not fit its type", told(name)))?;
        }
    }
    let positions: Vec<u64> = rows().filter(|(_, misfit)| misfit.is_none()).map(|(position, _)| *position).collect();
    if positions.is_empty() {
        return Ok(());
    }
    outlet.batch(SourceBatch { records, positions, bytes_read: batch.bytes_read })
}

/// The values in another type; those that it does not hold are NULL.
fn fitted(own: &ArrayRef, data_type: &arrow::datatypes::DataType) -> Result<ArrayRef, Stop> {
    if own.data_type() == data_type {
        return Ok(Arc::clone(own));
    }
    cast_with_options(own, data_type, &CastOptions { safe: true, ..CastOptions::default() }).map_err(impossible)
}

/// The rows whose value was there and is NULL now.
fn lost(before: &ArrayRef, after: &ArrayRef) -> Vec<usize> {
    let Some(nulls) = after.logical_nulls() else { return Vec::new() };
    let own = before.logical_nulls();
    let was_null = |row| own.as_ref().is_some_and(|own| own.is_null(row));
    (0..after.len()).filter(|row| nulls.is_null(*row) && !was_null(*row)).collect()
}

fn told(name: &str) -> String {
    if may_be_value(name) { "a field".to_owned() } else { format!("`{name}`") }
}

/// A schema that no record of the file can be brought under.
fn impossible(error: arrow::error::ArrowError) -> Stop {
    Stop::Broken(format!("the records cannot be brought under the schema of all files: {error}"))
}
