//! Writes the bodies of row requests, straight from the Arrow columns into one buffer.
//!
//! Cell texts are canonical already, so numbers, truth values and lists go out as they stand; a text that cannot
//! be what its column says is a bug upstream and stops the request before it leaves.

use arrow::array::{Array, AsArray, StringArray};
use arrow::record_batch::RecordBatch;
use convoke_core::data_type::JsonShape;
use convoke_core::sink::{AudienceBinding, BoundColumn, KeyCell};
use convoke_core::{RowId, SinkError};

/// Bytes that a cell takes beside its text, roughly: the column's id and the punctuation.
const CELL_OVERHEAD: usize = 64;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The body that makes rows; each gets its key cell last.
pub(crate) fn creates(
    audience: &AudienceBinding,
    cells: &RecordBatch,
    key_cells: &[KeyCell],
) -> Result<Vec<u8>, SinkError> {
    let columns = OpenColumn::all(audience, cells, key_cells.len())?;
    let key_opening = cell_opening(&audience.key_column_id);
    let mut body = body_for(cells, columns.len() + 1);
    for (row, key_cell) in key_cells.iter().enumerate() {
        begin_row(&mut body, row);
        body.extend_from_slice(br#"{"type":"Row","attributes":{"values":["#);
        push_cells(&mut body, &columns, row)?;
        if !columns.is_empty() {
            body.push(b',');
        }
        body.extend_from_slice(&key_opening);
        push_key_cell(&mut body, key_cell);
        body.extend_from_slice(b"}]}}");
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

/// The body that changes rows by id; key cells are not mentioned and so stay.
pub(crate) fn updates(
    audience: &AudienceBinding,
    cells: &RecordBatch,
    row_ids: &[RowId],
) -> Result<Vec<u8>, SinkError> {
    let columns = OpenColumn::all(audience, cells, row_ids.len())?;
    let mut body = body_for(cells, columns.len() + 1);
    for (row, row_id) in row_ids.iter().enumerate() {
        begin_row(&mut body, row);
        body.extend_from_slice(br#"{"id":"#);
        push_text(&mut body, row_id.as_str());
        body.extend_from_slice(br#","type":"Row","attributes":{"values":["#);
        push_cells(&mut body, &columns, row)?;
        body.extend_from_slice(b"]}}");
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

/// The body that deletes rows.
pub(crate) fn deletes(row_ids: &[RowId]) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + row_ids.len() * CELL_OVERHEAD);
    body.extend_from_slice(br#"{"data":["#);
    for (row, row_id) in row_ids.iter().enumerate() {
        if row > 0 {
            body.push(b',');
        }
        body.extend_from_slice(br#"{"id":"#);
        push_text(&mut body, row_id.as_str());
        body.extend_from_slice(br#","type":"Row"}"#);
    }
    body.extend_from_slice(b"]}");
    body
}

/// A column, ready to be written: `{"columnId":"…","value":` is the same for each of its cells.
struct OpenColumn<'a> {
    opening: Vec<u8>,
    texts: &'a StringArray,
    bound: &'a BoundColumn,
}

impl<'a> OpenColumn<'a> {
    fn all(audience: &'a AudienceBinding, cells: &'a RecordBatch, rows: usize) -> Result<Vec<Self>, SinkError> {
        if cells.num_columns() != audience.columns.len() || cells.num_rows() != rows {
            return Err(bug(format!(
                "a request with {} columns and {} rows does not fit the {} columns and {rows} rows it is for",
                cells.num_columns(),
                cells.num_rows(),
                audience.columns.len(),
            )));
        }
        let mut columns = Vec::with_capacity(audience.columns.len());
        for (bound, cells) in audience.columns.iter().zip(cells.columns()) {
            let texts = cells.as_string_opt::<i32>();
            let texts = texts.ok_or_else(|| bug(format!("the cells of column `{}` are not text", bound.name)))?;
            columns.push(Self { opening: cell_opening(&bound.id), texts, bound });
        }
        Ok(columns)
    }

    fn push_value(&self, body: &mut Vec<u8>, row: usize) -> Result<(), SinkError> {
        if self.texts.is_null(row) {
            body.extend_from_slice(b"null");
            return Ok(());
        }
        let text = self.texts.value(row);
        let shape = self.bound.data_type.json_shape();
        if shape == JsonShape::Text {
            push_text(body, text);
            return Ok(());
        }
        if !has_shape(text, shape) {
            let BoundColumn { name, data_type, .. } = self.bound;
            return Err(bug(format!("a cell of column `{name}` is not the canonical text of a {data_type}")));
        }
        body.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn body_for(cells: &RecordBatch, cells_per_row: usize) -> Vec<u8> {
    let texts: usize = cells.columns().iter().map(|column| column.get_buffer_memory_size()).sum();
    // A batch may be a slice of a larger one: its buffers then tell too much, which must not cost memory.
    let texts = texts.min(cells.num_rows() * cells_per_row * CELL_OVERHEAD);
    let mut body = Vec::with_capacity(64 + texts + cells.num_rows() * cells_per_row * CELL_OVERHEAD);
    body.extend_from_slice(br#"{"data":["#);
    body
}

fn begin_row(body: &mut Vec<u8>, row: usize) {
    if row > 0 {
        body.push(b',');
    }
}

fn push_cells(body: &mut Vec<u8>, columns: &[OpenColumn<'_>], row: usize) -> Result<(), SinkError> {
    for (position, column) in columns.iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&column.opening);
        column.push_value(body, row)?;
        body.push(b'}');
    }
    Ok(())
}

fn cell_opening(column_id: &str) -> Vec<u8> {
    let mut opening = br#"{"columnId":"#.to_vec();
    push_text(&mut opening, column_id);
    opening.extend_from_slice(br#","value":"#);
    opening
}

/// Writes what `KeyCell` displays, without allocating.
fn push_key_cell(body: &mut Vec<u8>, key_cell: &KeyCell) {
    body.push(b'"');
    push_hex(body, &key_cell.key.0);
    body.push(b'.');
    push_hex(body, &key_cell.tag.0.to_be_bytes());
    body.push(b'"');
}

fn push_hex(body: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        body.push(HEX[usize::from(byte >> 4)]);
        body.push(HEX[usize::from(byte & 15)]);
    }
}

/// Writes a JSON string. Runs of bytes that need no escape are copied whole; those of UTF-8 never do.
fn push_text(body: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    body.push(b'"');
    // Without an early end this is done for many bytes at once; hardly any text needs the rest.
    if !bytes.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        body.extend_from_slice(bytes);
        body.push(b'"');
        return;
    }
    let mut copied = 0;
    for (position, &byte) in bytes.iter().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        body.extend_from_slice(&bytes[copied..position]);
        push_escape(body, byte);
        copied = position + 1;
    }
    body.extend_from_slice(&bytes[copied..]);
    body.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn push_escape(body: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => body.extend_from_slice(br#"\""#),
        b'\\' => body.extend_from_slice(br"\\"),
        b'\n' => body.extend_from_slice(br"\n"),
        b'\r' => body.extend_from_slice(br"\r"),
        b'\t' => body.extend_from_slice(br"\t"),
        _ => {
            body.extend_from_slice(br"\u00");
            push_hex(body, &[byte]);
        }
    }
}

/// Whether a text can stand in JSON as it is, at least by its outline.
fn has_shape(text: &str, shape: JsonShape) -> bool {
    let bytes = text.as_bytes();
    match shape {
        JsonShape::Text => true,
        JsonShape::Boolean => matches!(text, "true" | "false"),
        JsonShape::Number => {
            bytes.iter().any(u8::is_ascii_digit)
                && bytes.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'))
        }
        JsonShape::Array => bytes.len() > 1 && bytes.starts_with(b"[") && bytes.ends_with(b"]"),
    }
}

fn bug(message: String) -> SinkError {
    SinkError::Protocol { message: format!("{message}; nothing was sent; this is a bug, please report it") }
}

#[cfg(test)]
mod tests;
