//! Canonical cells: one text per value, per data type.
//!
//! Two values that mean the same have the same canonical text, so that content can be compared by hash and keys by
//! identity. Blank text is NULL in every type. Text types keep their text as it is; the others are trimmed.
//! Whatever does not fit its type makes the record invalid, with a code and a reason that never shows the value.
//! A change of what this module returns needs a new [`NORMALIZER_VERSION`].

mod date;
mod json;
mod number;
mod text;

use std::borrow::Cow;

use arrow::array::{Array, StringArray, StringBuilder};
use convoke_core::DataType;

use crate::text_column::text_at;

/// Version of the canonical form; named in each ledger manifest.
pub(crate) const NORMALIZER_VERSION: u32 = 1;

/// Why a cell makes its record invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellProblem {
    pub column: String,
    /// Stable short reason: `invalid_email`.
    pub code: &'static str,
    /// One sentence without the value.
    pub reason: &'static str,
}

/// Why a text is no value of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellRefusal {
    /// Stable short reason: `invalid_email`.
    pub(crate) code: &'static str,
    /// One sentence without the value.
    pub(crate) reason: &'static str,
}

/// Why a record without a complete key is invalid.
pub(crate) const EMPTY_KEY: CellRefusal =
    CellRefusal { code: "empty_key", reason: "the key column is empty, so the record cannot be identified" };

const fn refusal(code: &'static str, reason: &'static str) -> CellRefusal {
    CellRefusal { code, reason }
}

/// Brings a text to the canonical form of a type; `None` is NULL.
pub(crate) fn canonical_cell(data_type: DataType, text: &str) -> Result<Option<Cow<'_, str>>, CellRefusal> {
    let trimmed = trimmed(text);
    if trimmed.is_empty() {
        return Ok(None);
    }
    match data_type {
        DataType::Text
        | DataType::OpaqueIdentifier
        | DataType::Reference
        | DataType::Picklist
        | DataType::ZiContactId
        | DataType::ZiCompanyId => text::short(text).map(Some),
        DataType::LargeText | DataType::Markup => text::any(text).map(Some),
        DataType::Email => text::email(trimmed).map(Some),
        DataType::Phone => text::phone(trimmed).map(Some),
        DataType::Url => text::url(trimmed).map(Some),
        DataType::Boolean | DataType::Checkbox => boolean(trimmed).map(Some),
        DataType::Date => date::day(trimmed).map(Some),
        DataType::Integer | DataType::OrdinalIdentifier => number::integer(trimmed).map(Some),
        DataType::Decimal | DataType::Currency => number::decimal(trimmed).map(Some),
        DataType::Percent => number::decimal(trimmed.strip_suffix('%').map_or(trimmed, str::trim_end)).map(Some),
        DataType::Object => json::document(trimmed).map(Some),
        DataType::StringList | DataType::Multipicklist => json::list(trimmed, DataType::Text),
        DataType::NumberList => json::list(trimmed, DataType::Decimal),
        DataType::EmailList => json::list(trimmed, DataType::Email),
        DataType::PhoneList => json::list(trimmed, DataType::Phone),
        DataType::UrlList => json::list(trimmed, DataType::Url),
    }
}

/// The text without white space around it. Most have none, which two looks tell.
fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [b'!'..=b'~'] | [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim(),
    }
}

/// Brings a column to the canonical form of a type. What does not fit is reported by its row, and NULL.
///
/// A column that is canonical as it stands, which most are, is not copied.
pub(crate) fn canonical_column(
    data_type: DataType,
    texts: &StringArray,
    mut report: impl FnMut(usize, CellRefusal),
) -> StringArray {
    let canonical = |row| text_at(texts, row).map_or(Ok(None), |text| canonical_cell(data_type, text));
    let stands = |row: &usize| canonical(*row).is_ok_and(|cell| cell.as_deref() == text_at(texts, *row));
    let standing = (0..texts.len()).take_while(stands).count();
    if standing == texts.len() {
        return texts.clone();
    }
    let mut column = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for row in 0..standing {
        column.append_option(text_at(texts, row));
    }
    for row in standing..texts.len() {
        match canonical(row) {
            Ok(cell) => column.append_option(cell),
            Err(refusal) => {
                report(row, refusal);
                column.append_null();
            }
        }
    }
    column.finish()
}

fn boolean(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    let is_any = |spellings: [&str; 4]| spellings.iter().any(|spelling| text.eq_ignore_ascii_case(spelling));
    if is_any(["true", "yes", "1", "t"]) {
        return Ok(Cow::Borrowed("true"));
    }
    if is_any(["false", "no", "0", "f"]) {
        return Ok(Cow::Borrowed("false"));
    }
    Err(refusal("invalid_boolean", "it is none of true, false, yes, no, t, f, 1 and 0"))
}

#[cfg(test)]
mod tests;
