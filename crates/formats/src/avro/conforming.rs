//! Brings the records of a file under the schema of all files.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatchOptions, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use convoke_core::source::SourceBatch;

use crate::csv::may_be_value;
use crate::fitting::{can_fit, fit};
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
                && !can_fit(own.data_type(), field.data_type())
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
                    let fitted = fit(batch.records.column(*place), field.data_type()).map_err(impossible)?;
                    for row in fitted.lost.iter().flat_map(BooleanBuffer::set_indices) {
                        misfits[row].get_or_insert_with(|| field.name().as_str());
                    }
                    fitted.column
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

fn told(name: &str) -> String {
    if may_be_value(name) { "a field".to_owned() } else { format!("`{name}`") }
}

/// A schema that no record of the file can be brought under.
fn impossible(error: arrow::error::ArrowError) -> Stop {
    Stop::Broken(format!("the records cannot be brought under the schema of all files: {error}"))
}
