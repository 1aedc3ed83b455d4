//! Our own functions for users' SQL.
//!
//! All are immutable, take text of any string type and give NULL for NULL. They never fail: what cannot be normalised
//! becomes NULL, and the column's type decides whether that is allowed.

mod domain;
mod title_case;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::StringBuilder;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use sha2::{Digest, Sha256};

use crate::text_column::{as_text, text_at};

/// Every function, ready to register.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let one = |name, apply| TextFunction::new(name, Apply::One(apply));
    [
        one("normalize_email", normalize_email),
        TextFunction::new("normalize_phone", Apply::Two(normalize_phone)),
        one("normalize_domain", domain::normalize),
        one("sha256_hex", sha256_hex),
        one("title_case", title_case::convert),
    ]
    .into_iter()
    .map(ScalarUDF::from)
    .collect()
}

#[derive(Clone, Copy, Debug)]
enum Apply {
    One(fn(&str) -> Option<String>),
    Two(fn(&str, &str) -> Option<String>),
}

/// A function from text to text.
#[derive(Debug)]
struct TextFunction {
    name: &'static str,
    apply: Apply,
    signature: Signature,
}

impl TextFunction {
    fn new(name: &'static str, apply: Apply) -> Self {
        let parameters = match apply {
            Apply::One(_) => 1,
            Apply::Two(_) => 2,
        };
        Self { name, apply, signature: Signature::string(parameters, Volatility::Immutable) }
    }
}

impl PartialEq for TextFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TextFunction {}

impl Hash for TextFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut columns = Vec::with_capacity(args.args.len());
        for argument in args.args {
            columns.push(as_text(&argument.into_array(args.number_rows)?)?);
        }
        let mut results = StringBuilder::with_capacity(args.number_rows, args.number_rows * 16);
        for row in 0..args.number_rows {
            let first = text_at(&columns[0], row);
            let result = match self.apply {
                Apply::One(function) => first.and_then(function),
                Apply::Two(function) => {
                    first.zip(text_at(&columns[1], row)).and_then(|(text, option)| function(text, option))
                }
            };
            results.append_option(result);
        }
        Ok(ColumnarValue::Array(Arc::new(results.finish())))
    }
}

/// Trims, strips `mailto:`, lower-cases; NULL if nothing is left.
///
/// What is no address stays as it is, so that the column's type EMAIL refuses it with its reason.
fn normalize_email(text: &str) -> Option<String> {
    let trimmed = text.trim();
    let address = match trimmed.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("mailto:") => trimmed[7..].trim_start(),
        _ => trimmed,
    };
    (!address.is_empty()).then(|| address.to_lowercase())
}

/// Longer texts are no phone numbers, and need not be parsed to know it.
const PHONE_CHARACTERS: usize = 64;

/// Reads a number as dialled in a region (`DE`) and gives its international form (E.164); NULL if it is not valid.
fn normalize_phone(text: &str, region: &str) -> Option<String> {
    let trimmed = text.trim();
    if trimmed.len() > PHONE_CHARACTERS {
        return None;
    }
    let country = region.trim().to_ascii_uppercase().parse::<phonenumber::country::Id>().ok();
    let number = phonenumber::parse(country, trimmed).ok()?;
    phonenumber::is_valid(&number).then(|| number.format().mode(phonenumber::Mode::E164).to_string())
}

/// SHA-256 of the UTF-8 bytes, lower-case hexadecimal.
fn sha256_hex(text: &str) -> Option<String> {
    let digest = Sha256::digest(text.as_bytes());
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
