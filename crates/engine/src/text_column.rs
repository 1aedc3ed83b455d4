//! Columns as text, whatever their type.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::nested::json;

/// Gives a column's values as text: numbers in their shortest form, times as ISO 8601, structs, lists and maps as JSON.
pub(crate) fn as_text(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    if let Some(text) = column.as_string_opt::<i32>() {
        return Ok(text.clone());
    }
    if column.data_type().is_nested() {
        return json::texts(column);
    }
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Whether values of this type have a text form that means something to a person.
pub(crate) fn has_text_form(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => has_text_form(values),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => false,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_text_form(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| has_text_form(field.data_type())),
        other => !other.is_nested(),
    }
}

pub(crate) fn text_at(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}
