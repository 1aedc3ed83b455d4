//! A value as the type of its field holds it.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use serde_json::value::RawValue;

use super::number::exact_float;
use super::object::{Kind, Object, Text};
use crate::cells::Cells;

/// A value that fits its field.
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Struct(Vec<Self>),
    List(Vec<Self>),
}

impl<'a> Value<'a> {
    /// The error says what is wrong, and shows neither the value nor a name.
    pub(super) fn of(value: &'a RawValue, data_type: &DataType, cells: &mut Cells) -> Result<Self, String> {
        let kind = Kind::of(value);
        cells.take(if kind == Kind::Null { places(data_type) } else { 1 })?;
        let misfit = || format!("a value that is not {}", told(data_type));
        Ok(match (data_type, kind) {
            (_, Kind::Null) => Self::Null,
            (DataType::Utf8, Kind::String) => {
                let text: Text<'a> = serde_json::from_str(value.get())
                    .map_err(|_| "a string with an escape that is no character".to_owned())?;
                Self::Text(text.0)
            }
            (DataType::Utf8, _) => Self::Text(Cow::Borrowed(value.get())),
            (DataType::Boolean, Kind::Bool(value)) => Self::Bool(value),
            (DataType::Int64, Kind::Number) => Self::Int(value.get().parse().map_err(|_| misfit())?),
            (DataType::Float64, Kind::Number) => Self::Float(exact_float(value.get()).ok_or_else(misfit)?),
            // An object without fields holds nothing either.
            (DataType::Null, Kind::Object) if Object::parse(value.get())?.fields.is_empty() => Self::Null,
            (DataType::Struct(_), Kind::Object) => Self::of_object(value, data_type, cells)?,
            (DataType::List(item), Kind::Array) => {
                let values: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| misfit())?;
                let values = values.into_iter().map(|value| Self::of(value, item.data_type(), cells));
                Self::List(values.collect::<Result<_, _>>()?)
            }
            _ => return Err(misfit()),
        })
    }

    fn of_object(value: &'a RawValue, data_type: &DataType, cells: &mut Cells) -> Result<Self, String> {
        let DataType::Struct(fields) = data_type else { return Ok(Self::Null) };
        let object = Object::parse(value.get())?;
        let values = fields.iter().map(|field| {
            let found = object.fields.iter().find(|(name, _)| name == field.name());
            match found {
                Some((_, value)) => Self::of(value, field.data_type(), cells),
                None => cells.take(places(field.data_type())).map(|()| Self::Null).map_err(str::to_owned),
            }
        });
        Ok(Self::Struct(values.collect::<Result<_, _>>()?))
    }
}

/// How many columns take a null of this type.
pub(super) fn places(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => 1 + fields.iter().map(|field| places(field.data_type())).sum::<usize>(),
        _ => 1,
    }
}

fn told(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "true or false",
        DataType::Int64 => "an integer of 64 bits",
        DataType::Float64 => "a number that a float holds",
        DataType::Struct(_) => "an object",
        DataType::List(_) => "an array",
        _ => "null",
    }
}
