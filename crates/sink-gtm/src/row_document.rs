//! A list of rows as the API gives it, read without owning its texts.
//!
//! Everything that could be absent may be: a row without an id or cells is the reader's to judge. Unknown members
//! and states are no error.

use std::borrow::Cow;
use std::fmt;

use convoke_core::sink::KeyCell;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::wire::{ListLinks, ListMeta};

/// Bytes of a key cell's text: the key in hexadecimal, a point, the tag in hexadecimal.
const KEY_CELL_BYTES: usize = 32 + 1 + 8;

/// The answer to an upsert, or a page of a search.
#[derive(Deserialize)]
pub(crate) struct RowList<'a> {
    #[serde(borrow)]
    pub(crate) data: Vec<Row<'a>>,
    pub(crate) meta: Option<ListMeta>,
    pub(crate) links: Option<ListLinks>,
}

/// The answer to an upsert: of its cells only those that tell something, since it repeats all that was sent.
#[derive(Deserialize)]
pub(crate) struct AnsweredRows<'a> {
    #[serde(borrow)]
    pub(crate) data: Vec<AnsweredRow<'a>>,
}

/// A row with all its cells.
pub(crate) type Row<'a> = RowOf<'a, Vec<Cell<'a>>>;

/// A row with those cells that may be key cells, or have failed.
pub(crate) type AnsweredRow<'a> = RowOf<'a, TellingCells<'a>>;

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a, C: Deserialize<'de> + Default"))]
pub(crate) struct RowOf<'a, C> {
    id: Option<Text<'a>>,
    attributes: Option<Attributes<C>>,
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
#[serde(bound = "C: Deserialize<'de> + Default")]
struct Attributes<C> {
    #[serde(default)]
    values: C,
}

#[derive(Default)]
pub(crate) struct TellingCells<'a>(Vec<Cell<'a>>);

impl<'a> AsRef<[Cell<'a>]> for TellingCells<'a> {
    fn as_ref(&self) -> &[Cell<'a>] {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TellingCells<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(TellingCellsVisitor).map(Self)
    }
}

struct TellingCellsVisitor;

impl<'de> Visitor<'de> for TellingCellsVisitor {
    type Value = Vec<Cell<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of cells")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<Self::Value, A::Error> {
        let mut telling = Vec::new();
        while let Some(cell) = cells.next_element::<Cell<'de>>()? {
            if cell.has_failed() || cell.may_be_key_cell() {
                telling.push(cell);
            }
        }
        Ok(telling)
    }
}

#[derive(Deserialize)]
struct ErrorDetails<'a> {
    #[serde(borrow)]
    summary: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> AnsweredRows<'a> {
    /// `None`: the body is not a list of rows.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        parse(body)
    }
}

/// Looks for UTF-8 in the whole body at once, which is faster than in text after text.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

impl<'a> RowList<'a> {
    /// `None`: the body is not a list of rows.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        parse(body)
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

impl<'a, C: AsRef<[Cell<'a>]>> RowOf<'a, C> {
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_ref().map(|id| &*id.0).filter(|id| !id.is_empty())
    }

    pub(crate) fn cells(&self) -> &[Cell<'a>] {
        self.attributes.as_ref().map_or(&[], |attributes| attributes.values.as_ref())
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
    /// Whether the value is long enough to be a key cell.
    fn may_be_key_cell(&self) -> bool {
        self.value.is_some_and(|json| json.get().len() > KEY_CELL_BYTES)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.0 == "ERROR")
    }

    /// How the cell stands, in the words of the API.
    pub(crate) fn state(&self) -> Option<&str> {
        self.state.as_ref().map(|state| &*state.0)
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
