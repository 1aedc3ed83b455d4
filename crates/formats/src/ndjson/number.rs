//! Whether a number keeps its digits as a float.

/// So many digits survive being a float and back, whichever they are.
const SURE_DIGITS: usize = 15;
/// Powers of ten that are far from where floats end.
const SURE_EXPONENTS: std::ops::RangeInclusive<i64> = -280..=280;

/// No float has more digits, written out in full.
const MOST_DIGITS: usize = 767;

/// The float that this JSON number stands for, if it has the same digits: written with as many, it is the same number.
pub(super) fn exact_float(text: &str) -> Option<f64> {
    let float: f64 = text.parse().ok()?;
    let decimal = Decimal::of(text);
    let count = decimal.digits.len();
    let is_sure = count <= SURE_DIGITS && SURE_EXPONENTS.contains(&decimal.exponent);
    let is_same = || Decimal::of(&format!("{float:.*e}", count.saturating_sub(1))) == decimal;
    let is_exact = is_sure || (float.is_finite() && count <= MOST_DIGITS && is_same());
    is_exact.then_some(float)
}

/// The digits of a number from the first to the last that is not 0, and the power of ten of the last. The sign is left
/// out: a float always keeps it.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let mantissa = mantissa.trim_start_matches('-');
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_end_matches('0');
        let zeros = (all.len() - digits.len()) as i64;
        let digits = digits.trim_start_matches('0').to_owned();
        // An exponent beyond all bounds is of no float; 0 has none.
        let exponent = exponent.parse().unwrap_or(i64::MAX);
        let exponent =
            if digits.is_empty() { 0 } else { exponent.saturating_sub(fraction.len() as i64).saturating_add(zeros) };
        Self { digits, exponent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_that_keep_their_digits_are_exact() {
        for text in [
            "0",
            "-0.0",
            "1",
            "-1.50",
            "0.1",
            "1e3",
            "1E+3",
            "1.7976931348623157e308",
            "5e-324",
            "9007199254740992",
            "247.16275024414062",
            "4.9e-324",
        ] {
            assert_eq!(exact_float(text), Some(text.parse().unwrap()), "{text}");
        }
        for text in [
            "9007199254740993",
            "0.1234567890123456789",
            "1e309",
            "1e-400",
            "1e99999999999999999999",
            "-0.30000000000000000001",
        ] {
            assert_eq!(exact_float(text), None, "{text}");
        }
    }
}
