//! A JSON object whose values are checked and still as they were written.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Fields up to which comparing each with each is faster than a set.
const FEW: usize = 16;

/// The fields of an object, in their order; no two have the same name.
pub(super) struct Object<'a> {
    pub(super) fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// The error says what is wrong and shows no value.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err("no JSON object".to_owned());
        }
        let object: Self = serde_json::from_str(text).map_err(|error| match error.is_eof() {
            true => "JSON that ends too early".to_owned(),
            false => format!("JSON that is not valid at its {}. byte", error.column()),
        })?;
        if object.repeats_a_name() {
            return Err("a field that stands in its object twice".to_owned());
        }
        Ok(object)
    }

    fn repeats_a_name(&self) -> bool {
        let names = || self.fields.iter().map(|(name, _)| name);
        if self.fields.len() <= FEW {
            return names().enumerate().any(|(index, name)| names().take(index).any(|earlier| earlier == name));
        }
        let mut seen = HashSet::with_capacity(self.fields.len());
        !names().all(|name| seen.insert(name))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((Text(name), value)) = map.next_entry()? {
            fields.push((name, value));
        }
        Ok(Object { fields })
    }
}

/// A string, borrowed unless it has escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

/// What a value is, by its first character: its text has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number,
    String,
    Object,
    Array,
}

impl Kind {
    pub(super) fn of(value: &RawValue) -> Self {
        match value.get().as_bytes() {
            [b'n', ..] => Self::Null,
            [b't', ..] => Self::Bool(true),
            [b'f', ..] => Self::Bool(false),
            [b'"', ..] => Self::String,
            [b'{', ..] => Self::Object,
            [b'[', ..] => Self::Array,
            _ => Self::Number,
        }
    }
}
