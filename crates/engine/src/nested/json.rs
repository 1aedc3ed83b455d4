//! Whole structs, lists and maps as JSON text.

use std::fmt::Write as _;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::text_column::{as_text, text_at};

/// Each value as JSON; NULL stays NULL.
///
/// Numbers and booleans stand as they are, all else as text. Fields that are NULL are left out, elements are not. What JSON
/// has no number for (NaN, infinity) is text.
pub(crate) fn texts(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    let parts = Parts::of(column)?;
    let mut texts = StringBuilder::with_capacity(column.len(), column.len() * 32);
    let mut text = String::new();
    for row in 0..column.len() {
        text.clear();
        let written = parts.write(row, &mut text);
        texts.append_option(written.then_some(text.as_str()));
    }
    Ok(texts.finish())
}

enum Parts {
    Nothing,
    Number(StringArray),
    Text(StringArray),
    Struct { names: Vec<String>, parts: Vec<Parts>, nulls: Option<NullBuffer> },
    List { bounds: Vec<Range<usize>>, items: Box<Parts>, nulls: Option<NullBuffer> },
    Map { bounds: Vec<Range<usize>>, keys: StringArray, values: Box<Parts>, nulls: Option<NullBuffer> },
}

impl Parts {
    fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        let nulls = column.nulls().cloned();
        let between = |offsets: &[i32]| -> Vec<Range<usize>> {
            offsets.windows(2).map(|pair| pair[0] as usize..pair[1] as usize).collect()
        };
        Ok(match column.data_type() {
            DataType::Null => Self::Nothing,
            DataType::Struct(fields) => {
                let parts = column.as_struct().columns().iter().map(Self::of).collect::<Result<_, _>>()?;
                Self::Struct { names: fields.iter().map(|field| quoted(field.name())).collect(), parts, nulls }
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                let items = Box::new(Self::of(list.values())?);
                Self::List { bounds: between(list.value_offsets()), items, nulls }
            }
            DataType::LargeList(_) => {
                let list = column.as_list::<i64>();
                let bounds = list.value_offsets().windows(2).map(|pair| pair[0] as usize..pair[1] as usize).collect();
                Self::List { bounds, items: Box::new(Self::of(list.values())?), nulls }
            }
            DataType::FixedSizeList(..) => {
                let list = column.as_fixed_size_list();
                let length = list.value_length() as usize;
                let bounds =
                    (0..list.len()).map(|row| list.value_offset(row) as usize).map(|start| start..start + length);
                Self::List { bounds: bounds.collect(), items: Box::new(Self::of(list.values())?), nulls }
            }
            DataType::Map(..) => {
                let map = column.as_map();
                let (keys, values) = (as_text(map.keys())?, Box::new(Self::of(map.values())?));
                Self::Map { bounds: between(map.value_offsets()), keys, values, nulls }
            }
            DataType::Boolean => Self::Number(as_text(column)?),
            number if number.is_numeric() => Self::Number(as_text(column)?),
            _ => Self::Text(as_text(column)?),
        })
    }

    /// Writes a value; false if it is NULL.
    fn write(&self, row: usize, text: &mut String) -> bool {
        match self {
            Self::Nothing => return false,
            Self::Number(numbers) => match text_at(numbers, row) {
                Some("NaN" | "inf" | "-inf") => text.push_str(&quoted(numbers.value(row))),
                Some(number) => text.push_str(number),
                None => return false,
            },
            Self::Text(texts) => match text_at(texts, row) {
                Some(value) => text.push_str(&quoted(value)),
                None => return false,
            },
            Self::Struct { nulls, .. } | Self::List { nulls, .. } | Self::Map { nulls, .. }
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) =>
            {
                return false;
            }
            Self::Struct { names, parts, .. } => {
                write_members(text, names.iter().zip(parts).map(|(name, part)| (name.as_str(), part, row)));
            }
            Self::List { bounds, items, .. } => {
                text.push('[');
                for item in bounds[row].clone() {
                    if item > bounds[row].start {
                        text.push(',');
                    }
                    if !items.write(item, text) {
                        text.push_str("null");
                    }
                }
                text.push(']');
            }
            Self::Map { bounds, keys, values, .. } => {
                let named: Vec<_> = bounds[row].clone().map(|entry| (quoted(keys.value(entry)), entry)).collect();
                write_members(text, named.iter().map(|(key, entry)| (key.as_str(), values.as_ref(), *entry)));
            }
        }
        true
    }
}

fn write_members<'a>(text: &mut String, members: impl Iterator<Item = (&'a str, &'a Parts, usize)>) {
    text.push('{');
    let start = text.len();
    for (name, part, row) in members {
        let before = text.len();
        let comma = if before > start { "," } else { "" };
        write!(text, "{comma}{name}:").expect("a string takes every text");
        if !part.write(row, text) {
            text.truncate(before);
        }
    }
    text.push('}');
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
