//! What type holds all values of a field.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use serde_json::value::RawValue;

use super::number::exact_float;
use super::object::{Kind, Object};

/// An object with more fields than this has names that are values, and is kept as text.
const MOST_NESTED_FIELDS: usize = 1_000;
/// Of all records together, those of nested objects counted.
const MOST_FIELDS: isize = 1 << 16;
/// Objects and arrays within each other beyond this are kept as text.
const DEEPEST: usize = 8;

/// What the values of a field have in common so far.
#[derive(Debug, Default)]
pub(super) enum Shape {
    /// All were `null`.
    #[default]
    Nothing,
    Bool,
    /// Integers, and whether all of them keep their digits as floats.
    Int {
        are_floats: bool,
    },
    Float,
    Text,
    Struct(Fields),
    List(Box<Self>),
}

/// Fields of objects, in the order in which they were met.
#[derive(Debug, Default)]
pub(super) struct Fields {
    fields: Vec<(String, Shape)>,
    places: HashMap<String, usize>,
    /// Nested ones counted. Kept for the fields of records alone.
    count: isize,
}

impl Fields {
    /// Widens the fields by those of a record. The error says why there cannot be a schema.
    pub(super) fn see_object(&mut self, object: &Object<'_>) -> Result<(), &'static str> {
        self.count += self.see(object, 1);
        if self.count > MOST_FIELDS {
            return Err("the objects have more than 65536 different fields; are there values among their names?");
        }
        Ok(())
    }

    pub(super) fn to_arrow(&self) -> Vec<Field> {
        self.fields.iter().map(|(name, shape)| Field::new(name, shape.to_arrow(), true)).collect()
    }

    /// By how many fields there are more now.
    fn see(&mut self, object: &Object<'_>, depth: usize) -> isize {
        let mut more = 0;
        for (name, value) in &object.fields {
            let place = match self.places.get(name.as_ref()) {
                Some(&place) => place,
                None => {
                    more += 1;
                    self.add(name)
                }
            };
            more += self.fields[place].1.see(value, depth);
        }
        more
    }

    fn all(&self) -> isize {
        self.fields.iter().map(|(_, shape)| 1 + shape.fields()).sum()
    }

    fn add(&mut self, name: &str) -> usize {
        let place = self.fields.len();
        self.places.insert(name.to_owned(), place);
        self.fields.push((name.to_owned(), Shape::Nothing));
        place
    }
}

impl Shape {
    /// Widens the shape so that it holds this value; by how many fields there are more now.
    fn see(&mut self, value: &RawValue, depth: usize) -> isize {
        match (Kind::of(value), &mut *self) {
            (Kind::Null, _) | (_, Self::Text) => {}
            (Kind::Object, Self::Nothing | Self::Struct(_)) => return self.see_nested(value, depth),
            (Kind::Array, Self::Nothing | Self::List(_)) => return self.see_list(value, depth),
            (Kind::Bool(_), Self::Nothing | Self::Bool) => *self = Self::Bool,
            (Kind::Number, Self::Nothing | Self::Int { .. } | Self::Float) => self.see_number(value.get()),
            _ => return self.become_text(),
        }
        0
    }

    /// How many fields the objects have that are or stand in these values.
    fn fields(&self) -> isize {
        match self {
            Self::Struct(fields) => fields.all(),
            Self::List(item) => item.fields(),
            _ => 0,
        }
    }

    fn become_text(&mut self) -> isize {
        let gone = self.fields();
        *self = Self::Text;
        -gone
    }

    fn see_number(&mut self, text: &str) {
        let is_int = text.parse::<i64>().is_ok();
        // An integer of more than 64 bits is a key rather than a measure.
        let is_float = (is_int || text.contains(['.', 'e', 'E'])) && exact_float(text).is_some();
        *self = match self {
            Self::Nothing if is_int => Self::Int { are_floats: is_float },
            Self::Int { are_floats } if is_int => Self::Int { are_floats: *are_floats && is_float },
            Self::Nothing | Self::Int { are_floats: true } | Self::Float if is_float => Self::Float,
            _ => Self::Text,
        };
    }

    fn see_nested(&mut self, value: &RawValue, depth: usize) -> isize {
        if depth >= DEEPEST {
            return self.become_text();
        }
        if let Self::Nothing = self {
            *self = Self::Struct(Fields::default());
        }
        let Self::Struct(fields) = self else { return 0 };
        // An object that is not valid in itself makes its record malformed, which adds nothing.
        let more = Object::parse(value.get()).map_or(0, |object| fields.see(&object, depth + 1));
        if fields.fields.len() > MOST_NESTED_FIELDS { more + self.become_text() } else { more }
    }

    fn see_list(&mut self, value: &RawValue, depth: usize) -> isize {
        if depth >= DEEPEST {
            return self.become_text();
        }
        if let Self::Nothing = self {
            *self = Self::List(Box::default());
        }
        let Self::List(item) = self else { return 0 };
        let values: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        values.iter().map(|value| item.see(value, depth + 1)).sum()
    }

    fn to_arrow(&self) -> DataType {
        match self {
            Self::Nothing => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int { .. } => DataType::Int64,
            Self::Float => DataType::Float64,
            // A struct without fields cannot be written to Parquet, and other files may have its fields.
            Self::Struct(fields) if fields.fields.is_empty() => DataType::Null,
            Self::Text => DataType::Utf8,
            Self::Struct(fields) => DataType::Struct(fields.to_arrow().into()),
            Self::List(item) => DataType::List(Arc::new(Field::new_list_field(item.to_arrow(), true))),
        }
    }
}
