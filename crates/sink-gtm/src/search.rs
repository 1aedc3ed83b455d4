//! Row search: finds rows by key cell or id, through all pages of hits.
//!
//! What is found decides whether a row is created again, so nothing may be missing: a page that ends early, a list
//! that changes its length while it is read, and a hit whose key cell cannot be read are errors, never an absence.

use std::collections::HashSet;

use bytes::Bytes;
use convoke_core::rule::Operator;
use convoke_core::sink::{AudienceBinding, FoundRow, KeyCell, KeyLookUp, LookUp};
use convoke_core::{KeyHash, RowId, SinkError};
use reqwest::Method;

use crate::answers::Purpose;
use crate::api::{Api, Call};
use crate::row_document::{Row, RowList};
use crate::wire::{Filter, FilterGroup, RowSearch, encode};

/// Largest page of rows that the API gives.
pub(crate) const PAGE_ROWS: usize = 500;

/// Pages beyond this one are refused by other parts of the vendor's platform, perhaps here too.
pub(crate) const PAGE_LIMIT: u32 = 100;

/// See [`Sink::look_up`](convoke_core::sink::Sink::look_up).
pub(crate) async fn look_up(api: &Api, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
    let mut found = Found { audience, rows: Vec::new(), seen_ids: HashSet::new() };
    match query {
        LookUp::KeyCells(key_cells) => {
            let searchable = searchable(audience, "by its whole cells", |_| true)?;
            for part in key_cells.chunks(searchable.values_per_request) {
                let wanted: HashSet<_> = part.iter().copied().collect();
                let values = part.iter().map(ToString::to_string).collect();
                let search = by_key(audience, Operator::Equals, values);
                let is_wanted = |row: &FoundRow| row.key_cell.is_some_and(|cell| wanted.contains(&cell));
                found.collect(api, search, Shown::KeyCell, is_wanted).await?;
            }
        }
        LookUp::Keys(keys) => {
            let searchable = searchable(audience, "by the beginning of its cells", |look_up| look_up.by_prefix)?;
            for part in keys.chunks(searchable.values_per_request) {
                let wanted: HashSet<KeyHash> = part.iter().copied().collect();
                let search = by_key(audience, Operator::StartsWith, part.iter().map(|key| key.to_hex()).collect());
                let is_wanted = |row: &FoundRow| row.key_cell.is_some_and(|cell| wanted.contains(&cell.key));
                found.collect(api, search, Shown::KeyText, is_wanted).await?;
            }
        }
        LookUp::RowIds(row_ids) => {
            for part in row_ids.chunks(PAGE_ROWS) {
                let wanted: HashSet<&RowId> = part.iter().collect();
                let ids = part.iter().map(RowId::as_str).collect();
                let search = RowSearch { filter: None, ids: Some(ids) };
                found.collect(api, search, Shown::RowId, |row| wanted.contains(&row.row_id)).await?;
            }
        }
    }
    Ok(found.rows)
}

/// A search for rows; `columns` limits the cells that come back, unless it is empty.
pub(crate) fn search_call(
    api: &Api,
    purpose: Purpose,
    audience: &AudienceBinding,
    columns: &[&str],
    search: RowSearch<'_>,
) -> Call {
    let path = ["audiences", &audience.key.audience_id, "rows", "actions", "search"];
    let call = api.call(purpose, Method::POST, &path).body(encode("RowSearch", search));
    let call = call.query("page[size]", &PAGE_ROWS.to_string());
    if columns.is_empty() { call } else { call.query_ids("columns", columns) }
}

/// The text of a page, whose rows borrow from it.
pub(crate) async fn read_page(api: &Api, call: &Call, number: u32) -> Result<Bytes, SinkError> {
    api.read(&call.clone().query("page[number]", &number.to_string())).await
}

/// The error for a list whose total does not agree with its rows.
pub(crate) fn changed_meanwhile(call: &Call) -> SinkError {
    SinkError::Unavailable {
        message: format!("{call} announced more rows than it gave; the audience changed meanwhile, or is incomplete"),
        retry_after: None,
        cause: None,
    }
}

/// The error for a list that grew or shrank between two of its pages, so that rows may have slipped through.
pub(crate) fn length_changed(call: &Call) -> SinkError {
    SinkError::Unavailable {
        message: format!("{call} told another number of rows on each page; try again once nobody else adds or removes"),
        retry_after: None,
        cause: None,
    }
}

/// What a hit must show to say anything, besides its id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    RowId,
    /// A text in the key column: one that a person edited is not ours any more.
    KeyText,
    /// A key cell: what equals one of ours is one.
    KeyCell,
}

struct Found<'a> {
    audience: &'a AudienceBinding,
    rows: Vec<FoundRow>,
    seen_ids: HashSet<String>,
}

impl Found<'_> {
    /// Reads all pages of one search. Hits that were not asked for are dropped, whatever the service matched.
    async fn collect(
        &mut self,
        api: &Api,
        search: RowSearch<'_>,
        shown: Shown,
        is_wanted: impl Fn(&FoundRow) -> bool,
    ) -> Result<(), SinkError> {
        let call = search_call(api, Purpose::LookUp, self.audience, &[&self.audience.key_column_id], search);
        let mut seen = 0;
        let mut told = None;
        for number in 1..=PAGE_LIMIT {
            let body = read_page(api, &call, number).await?;
            let page = RowList::parse(&body).ok_or_else(|| call.unreadable())?;
            if *told.get_or_insert(page.total()) != page.total() {
                return Err(length_changed(&call));
            }
            seen += page.data.len() as u64;
            for row in &page.data {
                let found = self.found_row(row, shown).ok_or_else(|| call.unreadable())?;
                if is_wanted(&found) && self.seen_ids.insert(found.row_id.as_str().to_owned()) {
                    self.rows.push(found);
                }
            }
            if page.is_last(seen) {
                let is_short = page.total().is_some_and(|total| seen < total);
                return if is_short { Err(changed_meanwhile(&call)) } else { Ok(()) };
            }
        }
        Err(SinkError::Protocol { message: format!("{call} found more rows than can be paged through") })
    }

    /// `None`: the row does not show what it must.
    fn found_row(&self, row: &Row<'_>, shown: Shown) -> Option<FoundRow> {
        let key_text = row.key_text(&self.audience.key_column_id);
        let key_cell = key_text.as_deref().and_then(KeyCell::parse);
        let is_readable = match shown {
            Shown::RowId => true,
            Shown::KeyText => key_text.is_some(),
            Shown::KeyCell => key_cell.is_some(),
        };
        is_readable.then_some(FoundRow { row_id: RowId::new(row.id()?), key_cell })
    }
}

fn by_key(audience: &AudienceBinding, operator: Operator, values: Vec<String>) -> RowSearch<'_> {
    let filters = vec![Filter::new(&audience.key_column_id, operator, values)];
    RowSearch { filter: Some(FilterGroup { operator: "AND", filters }), ids: None }
}

fn searchable(
    audience: &AudienceBinding,
    how: &str,
    suffices: impl Fn(&KeyLookUp) -> bool,
) -> Result<KeyLookUp, SinkError> {
    let usable = audience.key_look_up.filter(|look_up| look_up.values_per_request > 0 && suffices(look_up));
    usable.ok_or_else(|| SinkError::Protocol {
        message: format!(
            "the key column of audience `{}` cannot be searched {how}; its filter metadata says so",
            audience.name
        ),
    })
}
