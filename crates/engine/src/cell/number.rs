//! Numbers in one spelling: no sign but a minus, no exponent, no zeros that say nothing.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::{CellRefusal, refusal};

const NOT_DECIMAL: CellRefusal =
    refusal("invalid_number", "it is no decimal number of at most 28 digits with a point and without grouping");
const NOT_INTEGER: CellRefusal = refusal("invalid_integer", "it is no whole number of 64 bits");

pub(super) fn integer(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(spell(text, number.to_string()));
    }
    let value = parse_decimal(text).ok_or(NOT_INTEGER)?;
    if !value.fract().is_zero() {
        return Err(NOT_INTEGER);
    }
    let whole = value.trunc().to_string().parse::<i64>().map_err(|_| NOT_INTEGER)?;
    Ok(Cow::Owned(whole.to_string()))
}

pub(super) fn decimal(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    let value = parse_decimal(text).ok_or(NOT_DECIMAL)?;
    let canonical = if value.is_zero() { "0".to_owned() } else { value.normalize().to_string() };
    Ok(spell(text, canonical))
}

fn parse_decimal(text: &str) -> Option<Decimal> {
    // Underscores are a programmer's grouping, which the parser would let through.
    if text.contains('_') {
        return None;
    }
    if text.contains(['e', 'E']) {
        return Decimal::from_scientific(text).ok();
    }
    Decimal::from_str_exact(text).ok()
}

fn spell(text: &str, canonical: String) -> Cow<'_, str> {
    if text == canonical { Cow::Borrowed(text) } else { Cow::Owned(canonical) }
}
