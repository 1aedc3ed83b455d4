//! `part(value, step)`: one step into a struct, a list or a map.
//!
//! The stock `get_field` knows no lists, and the optimizer moves it about.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::array::{Array, ArrayRef, AsArray, MapArray, UInt64Array, new_null_array};
use arrow::compute::{nullif, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::whole_number;
use crate::text_column::{as_text, text_at};

pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(Part { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Part {
    signature: Signature,
}

impl ScalarUDFImpl for Part {
    fn name(&self) -> &str {
        "part"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        plan_err!("the type of a part depends on which one it is")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let Some(step) = args.scalar_arguments[1] else {
            return plan_err!("which part is wanted must be written out, as in `address['city']` or `tags[1]`");
        };
        let value = &args.arg_fields[0];
        Ok(Arc::new(Field::new(value.name(), part_type(value.name(), value.data_type(), step)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = args.args[0].to_array(args.number_rows)?;
        let ColumnarValue::Scalar(step) = &args.args[1] else {
            return exec_err!("which part is wanted is not written out");
        };
        Ok(ColumnarValue::Array(part_of(&value, step)?))
    }
}

fn name_of(step: &ScalarValue) -> Option<&str> {
    step.try_as_str().flatten()
}

/// The type of a part, or why there is none.
fn part_type(value: &str, data_type: &DataType, step: &ScalarValue) -> Result<DataType> {
    match (data_type, name_of(step), whole_number(step)) {
        (DataType::Struct(fields), Some(name), _) => match fields.find(name) {
            Some((_, field)) => Ok(field.data_type().clone()),
            None => plan_err!("`{value}` has no field `{name}`; it has {}", names(fields)),
        },
        (DataType::Struct(fields), ..) => plan_err!("`{value}` has fields, which are named: {}", names(fields)),
        (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _), _, Some(number)) => {
            match number {
                0 => plan_err!("the elements of `{value}` are counted from 1"),
                _ => Ok(item.data_type().clone()),
            }
        }
        (DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..), ..) => {
            plan_err!("`{value}` is a list, whose elements are numbered: `{value}[1]` is the first")
        }
        (DataType::Map(entries, _), Some(_), _) | (DataType::Map(entries, _), _, Some(_)) => {
            match entries.data_type() {
                DataType::Struct(parts) if parts.len() == 2 => Ok(parts[1].data_type().clone()),
                _ => plan_err!("`{value}` is a map of another kind than is known"),
            }
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, ..) => {
            plan_err!("`{value}` is text, which has no parts; if it is JSON, write `{value}->>'name'` in `sql`")
        }
        (other, ..) => plan_err!("`{value}` is of type {other}, which has no parts"),
    }
}

fn names(fields: &Fields) -> String {
    fields.iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ")
}

fn part_of(value: &ArrayRef, step: &ScalarValue) -> Result<ArrayRef> {
    let number = whole_number(step);
    match value.data_type() {
        DataType::Struct(fields) => {
            let found = name_of(step).and_then(|name| fields.find(name));
            let Some((index, _)) = found else { return exec_err!("there is no such field") };
            let whole = value.as_struct();
            let field = whole.column(index);
            // A field of a struct that is NULL is NULL, whatever stands beneath.
            Ok(match whole.nulls() {
                Some(nulls) => nullif(field, &BooleanArray::new(!nulls.inner(), None))?,
                None => Arc::clone(field),
            })
        }
        DataType::List(_) => {
            let list = value.as_list::<i32>();
            let bounds = |row: usize| (list.value_offsets()[row] as u64, list.value_length(row) as u64);
            elements(value, list.values(), number, bounds)
        }
        DataType::LargeList(_) => {
            let list = value.as_list::<i64>();
            let bounds = |row: usize| (list.value_offsets()[row] as u64, list.value_length(row) as u64);
            elements(value, list.values(), number, bounds)
        }
        DataType::FixedSizeList(..) => {
            let list = value.as_fixed_size_list();
            let bounds = |row: usize| (list.value_offset(row) as u64, list.value_length() as u64);
            elements(value, list.values(), number, bounds)
        }
        DataType::Map(..) => {
            let key = number.map_or_else(|| name_of(step).unwrap_or_default().to_owned(), |number| number.to_string());
            under_key(value.as_map(), &key)
        }
        other => exec_err!("a value of type {other} has no parts"),
    }
}

/// The element with this number of each list; lists that are too short have none.
fn elements(
    lists: &ArrayRef,
    values: &ArrayRef,
    number: Option<i64>,
    bounds: impl Fn(usize) -> (u64, u64),
) -> Result<ArrayRef> {
    let Some(number) = number else { return exec_err!("elements are numbered") };
    let place = |row: usize| {
        let (start, length) = bounds(row);
        let within = if number > 0 { number.unsigned_abs() - 1 } else { length.checked_sub(number.unsigned_abs())? };
        (lists.is_valid(row) && within < length).then_some(start + within)
    };
    let places: UInt64Array = (0..lists.len()).map(place).collect();
    Ok(take(values, &places, None)?)
}

/// The value under this key of each map; of a key that stands there twice, the last.
fn under_key(maps: &MapArray, key: &str) -> Result<ArrayRef> {
    if maps.values().is_empty() {
        return Ok(new_null_array(maps.value_type(), maps.len()));
    }
    let keys = as_text(maps.keys())?;
    let place = |row: usize| {
        let (start, end) = (maps.value_offsets()[row] as usize, maps.value_offsets()[row + 1] as usize);
        let found = (start..end).rev().find(|entry| text_at(&keys, *entry) == Some(key));
        found.filter(|_| maps.is_valid(row)).map(|entry| entry as u64)
    };
    let places: UInt64Array = (0..maps.len()).map(place).collect();
    Ok(take(maps.values(), &places, None)?)
}
