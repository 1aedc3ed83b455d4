//! PostgreSQL's `numeric`: digits to the base of 10,000 behind their number, the weight of the first, a sign and the
//! number of decimal digits behind the point.

use std::io::Write as _;

use crate::scalar::BadForm;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;

/// Decimal digits in one of the base of 10,000.
const GROUP: i32 = 4;

struct Parts<'f> {
    /// Two bytes each.
    digits: &'f [u8],
    /// Power of 10,000 of the first digit.
    weight: i32,
    sign: u16,
    decimals: usize,
}

impl<'f> Parts<'f> {
    fn of(field: &'f [u8]) -> Result<Self, BadForm> {
        let (head, digits) = field.split_first_chunk::<8>().ok_or(BadForm)?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        if digits.len() != usize::from(word(0)) * 2 {
            return Err(BadForm);
        }
        let weight = i32::from(i16::from_be_bytes([head[2], head[3]]));
        Ok(Self { digits, weight, sign: word(4), decimals: usize::from(word(6)) })
    }

    /// The digit with this power of 10,000.
    fn digit(&self, power: i32) -> u16 {
        let Ok(index) = usize::try_from(self.weight - power) else { return 0 };
        self.digits.get(index * 2..index * 2 + 2).map_or(0, |digit| u16::from_be_bytes([digit[0], digit[1]]))
    }
}

/// Appends a number with all its digits, as PostgreSQL writes it.
pub(crate) fn write(field: &[u8], text: &mut Vec<u8>) -> Result<(), BadForm> {
    let parts = Parts::of(field)?;
    match parts.sign {
        0 => {}
        NEGATIVE => text.push(b'-'),
        NAN => return append(text, b"NaN"),
        INFINITY => return append(text, b"Infinity"),
        NEGATIVE_INFINITY => return append(text, b"-Infinity"),
        _ => return Err(BadForm),
    }
    write!(text, "{}", parts.digit(parts.weight.max(0))).expect("a vector takes every text");
    for power in (0..parts.weight).rev() {
        write!(text, "{:04}", parts.digit(power)).expect("a vector takes every text");
    }
    if parts.decimals > 0 {
        text.push(b'.');
        let end = text.len() + parts.decimals;
        let mut power = -1;
        while text.len() < end {
            write!(text, "{:04}", parts.digit(power)).expect("a vector takes every text");
            power -= 1;
        }
        text.truncate(end);
    }
    Ok(())
}

fn append(text: &mut Vec<u8>, word: &[u8]) -> Result<(), BadForm> {
    text.extend_from_slice(word);
    Ok(())
}

/// A number times ten to the power of `scale`; none if it is not finite. What lies behind the scale is cut: the type of
/// the column, from which the scale is, allows nothing there.
pub(crate) fn scaled(field: &[u8], scale: i8) -> Result<Option<i128>, BadForm> {
    let parts = Parts::of(field)?;
    if matches!(parts.sign, NAN | INFINITY | NEGATIVE_INFINITY) {
        return Ok(None);
    }
    let mut value: i128 = 0;
    for (index, digit) in parts.digits.chunks_exact(2).enumerate() {
        let digit = i128::from(u16::from_be_bytes([digit[0], digit[1]]));
        let power = i32::try_from(index).map_err(|_| BadForm)?;
        let exponent = (parts.weight - power) * GROUP + i32::from(scale);
        let part = match u32::try_from(exponent) {
            Ok(exponent) => 10_i128.checked_pow(exponent).and_then(|unit| unit.checked_mul(digit)).ok_or(BadForm)?,
            Err(_) => digit / 10_i128.pow(exponent.unsigned_abs().min(GROUP as u32)),
        };
        value = value.checked_add(part).ok_or(BadForm)?;
    }
    Ok(Some(if parts.sign == NEGATIVE { -value } else { value }))
}
