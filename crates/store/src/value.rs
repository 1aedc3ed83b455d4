//! Checks of cell values, per data type.
//!
//! A value is kept as the JSON text that was sent, so that it comes back as it was. NULL, empty text and empty lists are
//! blank.

use std::borrow::Cow;

use chrono::NaiveDate;
use convoke_core::DataType;
use email_address::EmailAddress;

use crate::error::ProblemKind;

/// TEXT holds fewer characters than this; LARGE_TEXT takes any number.
const TEXT_CHARS: usize = 2000;

/// An accepted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    Blank,
    Value,
}

/// Why a value is refused; without the value.
pub(crate) type Refusal = (ProblemKind, &'static str);

type Checked = Result<Accepted, Refusal>;

/// Checks a value, given as JSON text, against the data type of its column.
pub(crate) fn check(data_type: DataType, json: &str) -> Checked {
    use DataType as T;
    if json == "null" {
        return Ok(Accepted::Blank);
    }
    match data_type {
        T::Integer => check_integer(json),
        T::Decimal | T::Percent | T::Currency | T::OrdinalIdentifier => check_number(json),
        T::Boolean | T::Checkbox => match json {
            "true" | "false" => Ok(Accepted::Value),
            _ => Err((ProblemKind::Shape, "must be true or false")),
        },
        T::NumberList => check_number_list(json),
        T::StringList | T::Multipicklist => check_text_list(json, |_| Ok(())),
        T::EmailList => check_text_list(json, check_email),
        T::PhoneList => check_text_list(json, check_phone),
        T::UrlList => check_text_list(json, check_url),
        T::Text => check_text(json, check_short),
        T::Date => check_text(json, check_date),
        T::Phone => check_text(json, check_phone),
        T::Email => check_text(json, check_email),
        T::Url => check_text(json, check_url),
        T::Object => check_text(json, check_object),
        T::LargeText
        | T::OpaqueIdentifier
        | T::Reference
        | T::Picklist
        | T::ZiContactId
        | T::ZiCompanyId
        | T::Markup => check_text(json, |_| Ok(())),
    }
}

/// Returns the text that a JSON string holds; none if the JSON is no string.
pub(crate) fn json_text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

fn check_text(json: &str, check: impl Fn(&str) -> Result<(), Refusal>) -> Checked {
    let text = json_text(json).ok_or((ProblemKind::Shape, "must be a string"))?;
    if text.is_empty() {
        return Ok(Accepted::Blank);
    }
    check_characters(&text)?;
    check(&text)?;
    Ok(Accepted::Value)
}

fn check_text_list(json: &str, check: impl Fn(&str) -> Result<(), Refusal>) -> Checked {
    let items: Vec<Cow<'_, str>> =
        serde_json::from_str(json).map_err(|_| (ProblemKind::Shape, "must be an array of strings"))?;
    for item in &items {
        check_characters(item)?;
        check(item)?;
    }
    Ok(if items.is_empty() { Accepted::Blank } else { Accepted::Value })
}

/// SQL text ends at U+0000, so a filter could not see what follows it.
fn check_characters(text: &str) -> Result<(), Refusal> {
    if text.contains('\0') { Err((ProblemKind::Value, "must not contain the character U+0000")) } else { Ok(()) }
}

fn check_integer(json: &str) -> Checked {
    check_number(json)?;
    if json.parse::<i64>().is_ok() { Ok(Accepted::Value) } else { Err((ProblemKind::Value, "must be a whole number")) }
}

fn check_number(json: &str) -> Checked {
    let starts_as_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if !starts_as_number {
        return Err((ProblemKind::Shape, "must be a number"));
    }
    match json.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Accepted::Value),
        _ => Err((ProblemKind::Value, "must be a number that fits into 64 bits")),
    }
}

fn check_number_list(json: &str) -> Checked {
    let items: Vec<f64> =
        serde_json::from_str(json).map_err(|_| (ProblemKind::Shape, "must be an array of numbers"))?;
    Ok(if items.is_empty() { Accepted::Blank } else { Accepted::Value })
}

fn check_short(text: &str) -> Result<(), Refusal> {
    // A text has at least as many bytes as characters.
    if text.len() < TEXT_CHARS || text.chars().count() < TEXT_CHARS {
        return Ok(());
    }
    Err((ProblemKind::Value, "must have fewer than 2000 characters; use `LARGE_TEXT` for longer text"))
}

fn check_date(text: &str) -> Result<(), Refusal> {
    let is_day = text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
    if is_day { Ok(()) } else { Err((ProblemKind::Value, "must be a day as `YYYY-MM-DD`")) }
}

fn check_email(text: &str) -> Result<(), Refusal> {
    if EmailAddress::is_valid(text) { Ok(()) } else { Err((ProblemKind::Value, "must be an email address")) }
}

fn check_phone(text: &str) -> Result<(), Refusal> {
    let has_digit = text.chars().any(|c| c.is_ascii_digit());
    // Extensions are written in many ways ("ext. 12", "x12", "#12"), so letters are let through.
    if has_digit && text.chars().count() <= 64 { Ok(()) } else { Err((ProblemKind::Value, "must be a phone number")) }
}

fn check_url(text: &str) -> Result<(), Refusal> {
    let refusal = (ProblemKind::Value, "must be a web address");
    if text.chars().any(char::is_whitespace) {
        return Err(refusal);
    }
    // Web addresses are often written without a scheme.
    let absolute = if text.contains("://") { Cow::Borrowed(text) } else { Cow::Owned(format!("https://{text}")) };
    match url::Url::parse(&absolute) {
        Ok(url) if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(()),
        _ => Err(refusal),
    }
}

fn check_object(text: &str) -> Result<(), Refusal> {
    let is_nested = text.trim_start().starts_with(['{', '[']);
    if is_nested && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return Ok(());
    }
    Err((ProblemKind::Value, "must be a string that holds a JSON object or array"))
}

#[cfg(test)]
mod tests;
