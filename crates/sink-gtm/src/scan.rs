//! Reads a whole audience, one page after the other.
//!
//! Rows come in the order in which the API gives them, that of creation, so rows added meanwhile come last. Up to
//! page 100 the list is read as it is. Beyond that page the vendor's platform refuses, so a longer audience is read
//! in slices, each a list of its own: rows without a key cell, rows whose key cell is not ours, and rows by the
//! first digits of their key cell, with one digit more wherever a slice is still too long. Rows without a key cell,
//! or all where the key column cannot be searched by its beginning, are cut by a mapped column that can. Where
//! nothing can, the pages are asked for all the same, and a refusal is an error that names the limit.
//!
//! A scan that silently lacks rows would make doubles. So each page of a list must tell the same total as its first,
//! no row may show twice, and at the end the rows read are compared with the total: a difference is an error.

mod slice;

use std::collections::HashSet;

use convoke_core::sink::{AudienceBinding, ScanPage, ScannedRow};
use convoke_core::{RowId, SinkError};

use crate::answers::Purpose;
use crate::api::Api;
use crate::row_document::{Row, RowList};
use crate::search::{PAGE_LIMIT, PAGE_ROWS, changed_meanwhile, length_changed, read_page, search_call};
use crate::survey::column_to_cut_by;
use slice::{Cut, Slice};

/// Rows that can be read without going beyond [`PAGE_LIMIT`].
const REACHABLE_ROWS: u64 = PAGE_ROWS as u64 * PAGE_LIMIT as u64;

/// With more columns than this the address would grow too long to name them; all cells are read then.
const NAMED_COLUMNS: usize = 100;

/// See [`Sink::scan`](convoke_core::sink::Sink::scan).
pub(crate) async fn scan(api: &Api, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
    let mut position = match cursor {
        None => Position::START,
        Some(text) => Position::parse(text).ok_or_else(|| foreign_cursor(audience))?,
    };
    loop {
        let columns = named_columns(audience);
        let call = search_call(api, Purpose::Scan, audience, &columns, position.slice.search(audience));
        let body = read_page(api, &call, position.page).await;
        let body =
            body.map_err(|error| if position.is_out_of_reach() { beyond_limit(audience, error) } else { error })?;
        let list = RowList::parse(&body).ok_or_else(|| call.unreadable())?;
        if position.page > 1 && list.total() != position.slice_total {
            return Err(length_changed(&call));
        }
        if position.page == 1
            && list.total().is_some_and(|total| total > REACHABLE_ROWS)
            && let Some(finer) = finer_slice(api, audience, &position.slice).await?
        {
            position = position.cut(finer, list.total());
            continue;
        }
        let rows = list.data.iter().map(|row| scanned_row(audience, row)).collect::<Option<Vec<_>>>();
        let rows = rows.ok_or_else(|| call.unreadable())?;
        if position.shows_a_row_again(&rows) {
            return Err(length_changed(&call));
        }
        let next = position.after(&list);
        if rows.is_empty() && next.as_ref().is_some_and(|next| next.slice == position.slice) {
            return Err(call.unreadable());
        }
        if next.as_ref().is_none_or(|next| next.slice != position.slice) && position.is_slice_short(&list) {
            return Err(changed_meanwhile(&call));
        }
        match next {
            // An empty slice is no page.
            Some(next) if rows.is_empty() => position = next,
            Some(next) => return Ok(ScanPage { rows, next: Some(next.to_string()) }),
            None if position.is_whole_short(rows.len()) => return Err(changed_meanwhile(&call)),
            None => return Ok(ScanPage { rows, next: None }),
        }
    }
}

/// Where a scan stands. Its text is the cursor:
/// `<slice>;<page>;<seen in slice>;<seen>;<total>;<total of the slice>;<last row>`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    slice: Slice,
    page: u32,
    seen_in_slice: u64,
    /// Rows read so far, in all slices.
    seen: u64,
    /// What the audience was said to hold when it was cut into slices.
    total: Option<u64>,
    /// What the slice was said to hold on its first page.
    slice_total: Option<u64>,
    /// The last row of the page before: where a list has moved meanwhile, the next page begins with it again.
    last_row: String,
}

impl Position {
    const START: Self = Self {
        slice: Slice::Whole,
        page: 1,
        seen_in_slice: 0,
        seen: 0,
        total: None,
        slice_total: None,
        last_row: String::new(),
    };

    fn parse(text: &str) -> Option<Self> {
        // A row id is the destination's and may hold anything.
        let mut parts = text.splitn(7, ';');
        let slice = Slice::parse(parts.next()?)?;
        let (page, seen_in_slice) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let seen = parts.next()?.parse().ok()?;
        let (total, slice_total) = (parse_total(parts.next()?)?, parse_total(parts.next()?)?);
        Some(Self { slice, page, seen_in_slice, seen, total, slice_total, last_row: parts.next()?.to_owned() })
    }

    /// Whether a row stands twice on a page, or ended the page before.
    fn shows_a_row_again(&self, rows: &[ScannedRow]) -> bool {
        let mut ids = HashSet::with_capacity(rows.len());
        rows.iter().any(|row| row.row_id.as_str() == self.last_row || !ids.insert(row.row_id.as_str()))
    }

    /// Begins with the first of the slices that this one is cut into.
    fn cut(self, finer: Slice, total: Option<u64>) -> Self {
        let total = if self.slice == Slice::Whole { total } else { self.total };
        Self { slice: finer, total, ..self }
    }

    /// Whether the API need not give the page.
    fn is_out_of_reach(&self) -> bool {
        self.page > PAGE_LIMIT
    }

    /// Where the scan goes on after a page; none at the end.
    fn after(&self, list: &RowList<'_>) -> Option<Self> {
        let read = list.data.len() as u64;
        let (seen_in_slice, seen) = (self.seen_in_slice + read, self.seen + read);
        if !list.is_last(seen_in_slice) {
            let slice_total = list.total();
            let last_row = list.data.last().and_then(Row::id).unwrap_or_default().to_owned();
            return Some(Self { page: self.page + 1, seen_in_slice, seen, slice_total, last_row, ..self.clone() });
        }
        let slice = self.slice.next()?;
        Some(Self { slice, seen, total: self.total, ..Self::START })
    }

    /// Whether the slice ended before all rows that it was said to hold were read.
    fn is_slice_short(&self, list: &RowList<'_>) -> bool {
        list.total().is_some_and(|total| self.seen_in_slice + (list.data.len() as u64) < total)
    }

    fn is_whole_short(&self, last_rows: usize) -> bool {
        self.total.is_some_and(|total| self.seen + (last_rows as u64) < total)
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |total: Option<u64>| total.map_or_else(String::new, |total| total.to_string());
        let (total, slice_total) = (text(self.total), text(self.slice_total));
        let Self { slice, page, seen_in_slice, seen, last_row, .. } = self;
        write!(f, "{slice};{page};{seen_in_slice};{seen};{total};{slice_total};{last_row}")
    }
}

/// The outer `Option` tells damage, the inner one a total that is not known.
fn parse_total(text: &str) -> Option<Option<u64>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

fn named_columns(audience: &AudienceBinding) -> Vec<&str> {
    if audience.columns.len() >= NAMED_COLUMNS {
        return Vec::new();
    }
    let ids = audience.columns.iter().map(|column| column.id.as_str());
    ids.chain([audience.key_column_id.as_str()]).collect()
}

fn scanned_row(audience: &AudienceBinding, row: &Row<'_>) -> Option<ScannedRow> {
    let cell_text = |id: &str| row.cell(id).and_then(|cell| cell.canonical_text());
    Some(ScannedRow {
        row_id: RowId::new(row.id()?),
        key_cell: row.key_cell(&audience.key_column_id),
        cells: audience.columns.iter().map(|column| cell_text(&column.id)).collect(),
    })
}

/// The first of the slices that one is to be cut into; none if it cannot be cut.
async fn finer_slice(api: &Api, audience: &AudienceBinding, slice: &Slice) -> Result<Option<Slice>, SinkError> {
    let by_key = audience.key_look_up.is_some_and(|look_up| look_up.by_prefix);
    match slice.cut(by_key) {
        Cut::Into(finer) => Ok(Some(finer)),
        Cut::ByCells(scope) => {
            let column = column_to_cut_by(api, audience).await?;
            Ok(column.map(|column| Slice::of_cells(scope, column)))
        }
        Cut::Never => Ok(None),
    }
}

/// The error for a list of which the API does not give all pages.
fn beyond_limit(audience: &AudienceBinding, error: SinkError) -> SinkError {
    match error {
        SinkError::Protocol { message } => SinkError::Protocol {
            message: format!(
                "audience `{}` cannot be read whole: no more than {REACHABLE_ROWS} rows of one list are given, and no column that is mapped can be searched by its beginning finely enough to part it ({message})",
                audience.name
            ),
        },
        other => other,
    }
}

fn foreign_cursor(audience: &AudienceBinding) -> SinkError {
    SinkError::Protocol { message: format!("the scan of audience `{}` was asked for an unknown page", audience.name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_the_position_it_was_made_from() {
        let positions = [
            Position { page: 7, seen_in_slice: 3000, seen: 3000, last_row: "a;b".into(), ..Position::START },
            Position { slice: Slice::ForeignKey, seen: 9, total: Some(60_000), ..Position::START },
            Position { slice: Slice::Prefix("0a".into()), page: 2, slice_total: Some(700), ..Position::START },
            Position { slice: Slice::of_cells(slice::Scope::WithoutKey, "a;b-c".into()), page: 3, ..Position::START },
        ];
        for position in positions {
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        for text in
            ["", "whole", "key-;1;0;0;;;", "key-xyz;1;0;0;;;", "whole;1;0;0;", "whole;a;0;0;;;", "whole;1;0;0;x;;"]
        {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
