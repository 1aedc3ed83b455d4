//! Columns as text, whatever their type.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Gives a column's values as text: numbers in their shortest form, times as ISO 8601.
pub(crate) fn as_text(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    if let Some(text) = column.as_string_opt::<i32>() {
        return Ok(text.clone());
    }
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Whether values of this type have a text form that means something to a person.
pub(crate) fn has_text_form(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => has_text_form(values),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => false,
        other => !other.is_nested(),
    }
}

pub(crate) fn text_at(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}
