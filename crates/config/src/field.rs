//! Reads checked values, with the defaults behind them.
//!
//! A reading method gives `None` both for what is absent and for what does not fit: the latter was reported by the check
//! against the table, so decoding goes on and finds what else is wrong.

use std::time::Duration;

use crate::scalar;
use crate::yaml::{Entry, Node, Place, Scalar, Value, join};

/// A key of the configuration: what is given, and the default.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    given: Option<&'a Node>,
    default: Option<&'a Node>,
    pub(crate) path: String,
    /// Where the key stands, or else the nearest key around it.
    pub(crate) place: Place,
}

impl<'a> Field<'a> {
    /// The root of a file.
    pub(crate) fn root(given: &'a Node, default: Option<&'a Node>) -> Self {
        Self { given: Some(given), default, path: String::new(), place: given.place }
    }

    /// The key `name` of this block.
    pub(crate) fn field(&self, name: &str) -> Self {
        let entry = self.given.and_then(|node| node.entry(name));
        let default = self.default.and_then(|node| node.get(name));
        let place = entry.map_or(self.place, |entry| entry.key_place);
        Self { given: entry.map(|entry| &entry.value), default, path: join(&self.path, name), place }
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// The given value.
    pub(crate) fn given(&self) -> Option<&'a Node> {
        self.given
    }

    /// The given value, else the default, if there is one.
    pub(crate) fn node(&self) -> Option<&'a Node> {
        self.given.or(self.default).filter(|node| !node.is_null())
    }

    /// The names a user chose, with their values. Their default is the defaults' entry `<…>`.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        let Some(Value::Map(entries)) = self.given.map(|node| &node.value) else { return Vec::new() };
        let default = self.default.and_then(Node::placeholder);
        let field = |entry: &'a Entry| {
            let path = join(&self.path, &entry.key);
            Field { given: Some(&entry.value), default, path, place: entry.key_place }
        };
        entries.iter().map(|entry| (entry.key.as_str(), field(entry))).collect()
    }

    /// The items of a list, or the one value itself. Their default describes one item.
    pub(crate) fn items(&self) -> Vec<Field<'a>> {
        let Some(node) = self.given else { return Vec::new() };
        let Value::List(items) = &node.value else { return vec![self.clone()] };
        let item_field = |(index, item): (usize, &'a Node)| Field {
            given: Some(item),
            default: self.default,
            path: format!("{}[{index}]", self.path),
            place: item.place,
        };
        items.iter().enumerate().map(item_field).collect()
    }

    fn scalar(&self) -> Option<&'a Scalar> {
        match &self.node()?.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The scalar as given, with how it may be shown.
    pub(crate) fn given_scalar(&self) -> Option<&'a Scalar> {
        self.given.and(self.scalar())
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        self.scalar().map(|scalar| scalar.text.as_str()).filter(|text| !text.trim().is_empty())
    }

    /// The text as a message may show it: without what came in by reference.
    pub(crate) fn shown(&self) -> &'a str {
        self.scalar().map_or("", Scalar::shown)
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.text().and_then(scalar::duration)
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.text().and_then(scalar::size)
    }

    pub(crate) fn count(&self) -> Option<u64> {
        self.text().and_then(scalar::count)
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        self.text().and_then(scalar::boolean)
    }

    pub(crate) fn percent(&self) -> Option<f64> {
        self.text().and_then(scalar::percent)
    }

    /// The value that stands for the word.
    pub(crate) fn choice<T: Copy>(&self, values: &[(&str, T)]) -> Option<T> {
        let word = self.text()?;
        values.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
    }
}
