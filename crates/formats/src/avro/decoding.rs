//! Decodes values into columns.

use super::column::Column;
use super::container::zigzag;
use super::types::Kind;
use crate::cells::Cells;

/// What is wrong with the bytes of a record.
type Damage = &'static str;

const TOO_MUCH: Damage = "has more than 64 MB of text in its symbols";
const TOO_MANY: Damage = "has more than a million values, nested ones counted";

/// Encoded values, from the next one on.
pub(super) struct Encoded<'a>(&'a [u8]);

impl<'a> Encoded<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("ends within a value")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Damage> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("ends within a value")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn long(&mut self) -> Result<i64, Damage> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f).unbounded_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(zigzag(number));
            }
        }
        Err("has a number of more than 64 bits")
    }

    fn int(&mut self) -> Result<i32, Damage> {
        self.long()?.try_into().map_err(|_| "has an `int` of more than 32 bits")
    }

    fn index(&mut self) -> Result<usize, Damage> {
        self.long()?.try_into().map_err(|_| "has a length or an index below 0")
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.index()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "has text that is not UTF-8")
    }

    /// How many values the next part of an array or a map has; 0 behind the last.
    fn part(&mut self) -> Result<usize, Damage> {
        let count = self.long()?;
        if count < 0 {
            // The size of the part follows, which lets it be skipped.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).ok().filter(|count| *count <= self.0.len());
        count.ok_or("has an array of more values than bytes")
    }
}

/// Decodes the next value into a column of its kind.
pub(super) fn decode(
    kind: &Kind,
    encoded: &mut Encoded<'_>,
    column: &mut Column,
    cells: &mut Cells,
) -> Result<(), Damage> {
    cells.take(if matches!(kind, Kind::Null) { column.places() } else { 1 }).map_err(|_| TOO_MANY)?;
    match (kind, &mut *column) {
        (Kind::Null, _) => column.push_null(),
        (Kind::Union(kinds), _) => {
            let kind = kinds.get(encoded.index()?).ok_or("has a value that its union does not know")?;
            return decode(kind, encoded, column, cells);
        }
        (Kind::Boolean, Column::Bool(builder)) => match encoded.array()? {
            [0] => builder.append_value(false),
            [1] => builder.append_value(true),
            _ => return Err("has a boolean that is neither true nor false"),
        },
        (Kind::Int(_), Column::Int(builder, _)) => builder.append_value(encoded.int()?),
        (Kind::Long(_), Column::Long(builder, _)) => builder.append_value(encoded.long()?),
        (Kind::Float, Column::Float(builder)) => builder.append_value(f32::from_le_bytes(encoded.array()?)),
        (Kind::Double, Column::Double(builder)) => builder.append_value(f64::from_le_bytes(encoded.array()?)),
        (Kind::Bytes, Column::Bytes(builder)) => builder.append_value(encoded.bytes()?),
        (Kind::Fixed(size), Column::Bytes(builder)) => builder.append_value(encoded.take(*size)?),
        (Kind::Text, Column::Text(builder)) => builder.append_value(encoded.text()?),
        (Kind::Enum(symbols), Column::Text(builder)) => {
            let symbol = symbols.get(encoded.index()?).ok_or("has a value that its enum does not know")?;
            cells.take_text(symbol.len()).map_err(|_| TOO_MUCH)?;
            builder.append_value(symbol);
        }
        (Kind::Uuid, Column::Text(builder)) => builder.append_value(uuid(encoded.array()?)),
        (Kind::Duration, Column::Text(builder)) => builder.append_value(duration(encoded.array()?)),
        (Kind::Decimal { precision, size, .. }, Column::Decimal { builder, .. }) => {
            let bytes = match size {
                Some(size) => encoded.take(*size)?,
                None => encoded.bytes()?,
            };
            let number = decimal(bytes).filter(|number| number.unsigned_abs() < 10_u128.pow(u32::from(*precision)));
            builder.append_value(number.ok_or("has a decimal of more digits than its type")?);
        }
        _ => return decode_nested(kind, encoded, column, cells),
    }
    Ok(())
}

fn decode_nested(kind: &Kind, encoded: &mut Encoded<'_>, column: &mut Column, cells: &mut Cells) -> Result<(), Damage> {
    match (kind, column) {
        (Kind::Record(record), Column::Struct { columns, is_there, .. }) => {
            for (field, column) in record.fields.iter().zip(columns) {
                decode(&field.kind, encoded, column, cells)?;
            }
            is_there.push(true);
        }
        (Kind::Array(item), Column::List { values, lengths, is_there, .. }) => {
            lengths.push(decode_parts(encoded, |encoded| decode(item, encoded, values, cells))?);
            is_there.push(true);
        }
        (Kind::Map(value), Column::Map { keys, values, lengths, is_there, .. }) => {
            lengths.push(decode_parts(encoded, |encoded| {
                keys.append_value(encoded.text()?);
                decode(value, encoded, values, cells)
            })?);
            is_there.push(true);
        }
        _ => return Err("does not fit its schema"),
    }
    Ok(())
}

/// Decodes the values of an array or a map, and tells how many there are.
fn decode_parts(
    encoded: &mut Encoded<'_>,
    mut decode_one: impl FnMut(&mut Encoded<'_>) -> Result<(), Damage>,
) -> Result<usize, Damage> {
    let mut length = 0;
    loop {
        let count = encoded.part()?;
        if count == 0 {
            return Ok(length);
        }
        (0..count).try_for_each(|_| decode_one(encoded))?;
        length += count;
    }
}

/// A number of any length, highest byte first, if 128 bits hold it.
fn decimal(bytes: &[u8]) -> Option<i128> {
    const LENGTH: usize = 16;
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign = if is_negative { 0xff } else { 0 };
    let (spare, own) = bytes.split_at(bytes.len().saturating_sub(LENGTH));
    let mut number = [sign; LENGTH];
    number[LENGTH - own.len()..].copy_from_slice(own);
    let number = i128::from_be_bytes(number);
    (spare.iter().all(|byte| *byte == sign) && (number < 0) == is_negative).then_some(number)
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// As ISO 8601 writes it.
fn duration(bytes: [u8; 12]) -> String {
    let part = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (months, days, millis) = (part(0), part(4), part(8));
    format!("P{months}M{days}DT{}.{:03}S", millis / 1_000, millis % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_any_length_are_numbers_of_128_bits_or_none() {
        for (bytes, number) in [
            (&[][..], Some(0)),
            (&[0x7f], Some(127)),
            (&[0x80], Some(-128)),
            (&[0xff, 0x7f], Some(-129)),
            (&[0; 40], Some(0)),
            (&[0xff; 17], Some(-1)),
        ] {
            assert_eq!(decimal(bytes), number, "{bytes:?}");
        }
        let mut large = [0; 17];
        large[0] = 1;
        assert_eq!(decimal(&large), None);
        (large[0], large[1]) = (0, 0x80);
        assert_eq!(decimal(&large), None, "the sign would turn");
        assert_eq!(decimal(&i128::MIN.to_be_bytes()), Some(i128::MIN));
    }

    #[test]
    fn fixed_bytes_with_a_meaning_are_told_in_letters() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(bytes.try_into().unwrap()), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(duration([1, 0, 0, 0, 2, 0, 0, 0, 0xe9, 3, 0, 0]), "P1M2DT1.001S");
    }
}
