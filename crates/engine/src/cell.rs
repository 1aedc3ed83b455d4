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

use convoke_core::DataType;

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
    if text.trim_start().is_empty() {
        return Ok(None);
    }
    let trimmed = text.trim();
    match data_type {
        DataType::Text
        | DataType::OpaqueIdentifier
        | DataType::Reference
        | DataType::Picklist
        | DataType::ZiContactId
        | DataType::ZiCompanyId => text::short(text).map(Some),
        DataType::LargeText | DataType::Markup => Ok(Some(Cow::Borrowed(text))),
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
