//! JSON documents and lists.

use std::borrow::Cow;

use convoke_core::DataType;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{CellRefusal, canonical_cell, refusal};

const NOT_LIST: CellRefusal =
    refusal("invalid_list", "it is neither a JSON array of plain values nor a list parted by `;` or `|`");

/// A JSON document without white space between its parts; numbers keep their spelling.
pub(super) fn document(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Err(refusal("invalid_json", "it is no JSON document"));
    }
    let mut compact = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            in_string = character == '"';
        }
        compact.push(character);
    }
    Ok(Cow::Owned(compact))
}

/// A list as a JSON array; blank elements do not count, and a list without elements is NULL.
pub(super) fn list(text: &str, element: DataType) -> Result<Option<Cow<'_, str>>, CellRefusal> {
    let mut canonical = String::with_capacity(text.len() + 2);
    let mut push = |part: &str| -> Result<(), CellRefusal> {
        let Some(cell) = canonical_cell(element, part.trim())? else { return Ok(()) };
        canonical.push(if canonical.is_empty() { '[' } else { ',' });
        match element {
            DataType::Decimal => canonical.push_str(&cell),
            _ => canonical.push_str(&Value::from(cell.as_ref()).to_string()),
        }
        Ok(())
    };
    if text.starts_with('[') {
        for value in serde_json::from_str::<Vec<Value>>(text).map_err(|_| NOT_LIST)? {
            match value {
                Value::Null => {}
                Value::String(part) => push(&part)?,
                Value::Number(_) | Value::Bool(_) => push(&value.to_string())?,
                Value::Array(_) | Value::Object(_) => return Err(NOT_LIST),
            }
        }
    } else {
        for part in text.split([';', '|']) {
            push(part)?;
        }
    }
    if canonical.is_empty() {
        return Ok(None);
    }
    canonical.push(']');
    Ok(Some(Cow::Owned(canonical)))
}
