//! Which type holds the values of two types without loss.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

/// The narrowest type into which both can be cast and nothing is lost; none if there is no such type. Values of both are
/// compared and written as this type from then on, so text is not the common type of everything.
pub(crate) fn common_type(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType::{Decimal128, Decimal256, Null, Timestamp};
    match (one, other) {
        _ if one == other => Some(one.clone()),
        // A column in which a writer has met no value.
        (Null, known) | (known, Null) => Some(known.clone()),
        (Timestamp(unit, zone), Timestamp(other_unit, other_zone)) if zone.is_some() == other_zone.is_some() => {
            // Moments, or else wall clocks; a zone is only how a moment is shown.
            let zone = if zone == other_zone { zone.clone() } else { Some(Arc::from("UTC")) };
            Some(Timestamp(finer(*unit, *other_unit), zone))
        }
        (Decimal128(digits, scale), Decimal128(other_digits, other_scale)) if scale == other_scale => {
            Some(Decimal128(*digits.max(other_digits), *scale))
        }
        (
            Decimal128(digits, scale) | Decimal256(digits, scale),
            Decimal128(other_digits, other_scale) | Decimal256(other_digits, other_scale),
        ) if scale == other_scale => Some(Decimal256(*digits.max(other_digits), *scale)),
        _ => common_number(one, other),
    }
}

/// The same type without what files note beside it, at any depth.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect::<Fields>()),
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()))
}

fn finer(one: TimeUnit, other: TimeUnit) -> TimeUnit {
    let per_second = |unit: TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    if per_second(one) >= per_second(other) { one } else { other }
}

/// A number as far as widening is concerned.
#[derive(Clone, Copy)]
enum Number {
    Signed(u8),
    Unsigned(u8),
    /// Bits of the mantissa: integers up to two to this power are exact.
    Float(u8),
}

fn common_number(one: &DataType, other: &DataType) -> Option<DataType> {
    use Number::{Float, Signed, Unsigned};
    match (number(one)?, number(other)?) {
        (Signed(bits), Signed(other_bits)) => signed(bits.max(other_bits)),
        (Unsigned(bits), Unsigned(other_bits)) => unsigned(bits.max(other_bits)),
        (Signed(bits), Unsigned(unsigned_bits)) | (Unsigned(unsigned_bits), Signed(bits)) => {
            signed(bits.max(unsigned_bits * 2))
        }
        (Float(bits), Float(other_bits)) => float(bits.max(other_bits)),
        (Float(bits), Signed(integer_bits)) | (Signed(integer_bits), Float(bits)) => float(bits.max(integer_bits - 1)),
        (Float(bits), Unsigned(integer_bits)) | (Unsigned(integer_bits), Float(bits)) => float(bits.max(integer_bits)),
    }
}

fn number(data_type: &DataType) -> Option<Number> {
    Some(match data_type {
        DataType::Int8 => Number::Signed(8),
        DataType::Int16 => Number::Signed(16),
        DataType::Int32 => Number::Signed(32),
        DataType::Int64 => Number::Signed(64),
        DataType::UInt8 => Number::Unsigned(8),
        DataType::UInt16 => Number::Unsigned(16),
        DataType::UInt32 => Number::Unsigned(32),
        DataType::UInt64 => Number::Unsigned(64),
        DataType::Float16 => Number::Float(11),
        DataType::Float32 => Number::Float(24),
        DataType::Float64 => Number::Float(53),
        _ => return None,
    })
}

fn signed(bits: u8) -> Option<DataType> {
    match bits {
        8 => Some(DataType::Int8),
        16 => Some(DataType::Int16),
        32 => Some(DataType::Int32),
        64 => Some(DataType::Int64),
        _ => None,
    }
}

fn unsigned(bits: u8) -> Option<DataType> {
    match bits {
        8 => Some(DataType::UInt8),
        16 => Some(DataType::UInt16),
        32 => Some(DataType::UInt32),
        64 => Some(DataType::UInt64),
        _ => None,
    }
}

/// The narrowest float with at least these bits of mantissa.
fn float(bits: u8) -> Option<DataType> {
    match bits {
        0..=11 => Some(DataType::Float16),
        12..=24 => Some(DataType::Float32),
        25..=53 => Some(DataType::Float64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DataType::*;

    fn timestamp(unit: TimeUnit, zone: Option<&str>) -> DataType {
        Timestamp(unit, zone.map(Arc::from))
    }

    #[test]
    fn types_widen_only_without_loss_and_whichever_comes_first() {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond};
        let cases = [
            (Int8, Int64, Some(Int64)),
            (UInt8, UInt32, Some(UInt32)),
            (UInt8, Int8, Some(Int16)),
            (UInt32, Int16, Some(Int64)),
            (UInt32, Int64, Some(Int64)),
            (UInt64, Int64, None),
            (Int32, Float64, Some(Float64)),
            (Int32, Float32, Some(Float64)),
            (Int16, Float32, Some(Float32)),
            (UInt8, Float16, Some(Float16)),
            (Int64, Float64, None),
            (UInt64, Float64, None),
            (Float32, Float64, Some(Float64)),
            (Null, Utf8, Some(Utf8)),
            (Utf8, Int64, None),
            (Utf8, Binary, None),
            (Utf8, Boolean, None),
            (Date32, timestamp(Millisecond, None), None),
            (timestamp(Millisecond, None), timestamp(Nanosecond, None), Some(timestamp(Nanosecond, None))),
            (timestamp(Millisecond, None), timestamp(Millisecond, Some("UTC")), None),
            (
                timestamp(Millisecond, Some("UTC")),
                timestamp(Microsecond, Some("+01:00")),
                Some(timestamp(Microsecond, Some("UTC"))),
            ),
            (Decimal128(10, 2), Decimal128(12, 2), Some(Decimal128(12, 2))),
            (Decimal128(10, 2), Decimal256(40, 2), Some(Decimal256(40, 2))),
            (Decimal128(10, 2), Decimal128(10, 3), None),
            (Decimal128(10, 0), Int32, None),
        ];
        for (one, other, expected) in cases {
            assert_eq!(common_type(&one, &other), expected, "{one} and {other}");
            assert_eq!(common_type(&other, &one), expected, "{other} and {one}");
            assert_eq!(common_type(&one, &one), Some(one));
        }
    }

    #[test]
    fn what_files_note_beside_their_columns_makes_no_other_type() {
        let noted = |id: &str| {
            let item = Field::new("element", Utf8, true).with_metadata([("id".to_owned(), id.to_owned())].into());
            Struct(vec![Field::new("tags", List(Arc::new(item)), true)].into())
        };
        assert_ne!(noted("1"), noted("2"));
        assert_eq!(plain_type(&noted("1")), plain_type(&noted("2")));
    }
}
