//! A list of rows as the API gives it, read without owning its texts.
//!
//! Everything that could be absent may be: a row without an id or cells is the reader's to judge. Unknown members
//! and states are no error.

use std::borrow::Cow;

use convoke_core::sink::KeyCell;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::wire::{ListLinks, ListMeta};

/// The answer to an upsert, or a page of a search.
#[derive(Deserialize)]
pub(crate) struct RowList<'a> {
    #[serde(borrow)]
    pub(crate) data: Vec<Row<'a>>,
    pub(crate) meta: Option<ListMeta>,
    pub(crate) links: Option<ListLinks>,
}

#[derive(Deserialize)]
pub(crate) struct Row<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    attributes: Option<Attributes<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cell<'a> {
    #[serde(borrow)]
    pub(crate) column_id: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<Text<'a>>,
    #[serde(borrow)]
    error_details: Option<ErrorDetails<'a>>,
}

#[derive(Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, default)]
    values: Vec<Cell<'a>>,
}

#[derive(Deserialize)]
struct ErrorDetails<'a> {
    #[serde(borrow)]
    summary: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> RowList<'a> {
    /// `None`: the body is not a list of rows.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Whether this page ends the list, of which `seen` rows have been read, this page's included.
    ///
    /// A page with fewer rows than were asked for is no end: the service may give smaller pages than it was asked.
    pub(crate) fn is_last(&self, seen: u64) -> bool {
        match (self.total(), &self.links) {
            (Some(total), _) => seen >= total || self.data.is_empty(),
            // An empty page that names another one is not the last.
            (None, Some(links)) => links.next.is_none(),
            (None, None) => self.data.is_empty(),
        }
    }

    pub(crate) fn total(&self) -> Option<u64> {
        self.meta.and_then(|meta| meta.total)
    }
}

impl<'a> Row<'a> {
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_ref().map(|id| &*id.0).filter(|id| !id.is_empty())
    }

    pub(crate) fn cells(&self) -> &[Cell<'a>] {
        self.attributes.as_ref().map_or(&[], |attributes| &attributes.values)
    }

    pub(crate) fn cell(&self, column_id: &str) -> Option<&Cell<'a>> {
        self.cells().iter().find(|cell| cell.column_id == column_id)
    }

    /// The key cell, if the row has one that parses.
    pub(crate) fn key_cell(&self, key_column_id: &str) -> Option<KeyCell> {
        KeyCell::parse(&self.key_text(key_column_id)?)
    }

    /// What stands in the key column, if that is shown and a text.
    pub(crate) fn key_text(&self, key_column_id: &str) -> Option<Cow<'a, str>> {
        let json = self.cell(key_column_id)?.value?;
        let text: Text<'a> = serde_json::from_str(json.get()).ok()?;
        Some(text.0)
    }
}

impl Cell<'_> {
    pub(crate) fn has_failed(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.0 == "ERROR")
    }

    pub(crate) fn summary(&self) -> Option<&str> {
        self.error_details.as_ref()?.summary.as_ref().map(|summary| &*summary.0)
    }

    /// The cell's canonical text: a string's content, a number or truth value as it stands, a list without spaces.
    pub(crate) fn canonical_text(&self) -> Option<String> {
        if self.state.as_ref().is_some_and(|state| state.0 == "BLANK") {
            return None;
        }
        let json = self.value?.get();
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str(json).ok(),
            Some(b'[' | b'{') => serde_json::from_str::<Value>(json).ok().map(|value| value.to_string()),
            _ => Some(json.to_owned()),
        }
    }
}
