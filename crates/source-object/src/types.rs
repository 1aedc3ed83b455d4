//! Which type holds the values of two types as they are.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

/// The narrowest type into which the values of both can be cast and are still written alike; none if there is no such type.
///
/// Values are compared and sent as text: a `5` among floats becomes `5.0`, and a narrow float gets other digits as a wide
/// one, so a key would be another key. Text itself is not the common type of everything either: one that stands in for
/// numbers in one object is most likely a mistake there. Of timestamps the finer unit counts, though it spans fewer years:
/// who casts a moment that lies outside of them has to fail.
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
        _ => common_integer(one, other),
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

/// A whole number of so many bits.
#[derive(Clone, Copy)]
enum Integer {
    Signed(u8),
    Unsigned(u8),
}

fn common_integer(one: &DataType, other: &DataType) -> Option<DataType> {
    use Integer::{Signed, Unsigned};
    match (integer(one)?, integer(other)?) {
        (Signed(bits), Signed(other_bits)) => signed(bits.max(other_bits)),
        (Unsigned(bits), Unsigned(other_bits)) => unsigned(bits.max(other_bits)),
        (Signed(bits), Unsigned(unsigned_bits)) | (Unsigned(unsigned_bits), Signed(bits)) => {
            signed(bits.max(unsigned_bits * 2))
        }
    }
}

fn integer(data_type: &DataType) -> Option<Integer> {
    Some(match data_type {
        DataType::Int8 => Integer::Signed(8),
        DataType::Int16 => Integer::Signed(16),
        DataType::Int32 => Integer::Signed(32),
        DataType::Int64 => Integer::Signed(64),
        DataType::UInt8 => Integer::Unsigned(8),
        DataType::UInt16 => Integer::Unsigned(16),
        DataType::UInt32 => Integer::Unsigned(32),
        DataType::UInt64 => Integer::Unsigned(64),
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

#[cfg(test)]
mod tests {
    use super::*;
    use DataType::*;

    fn timestamp(unit: TimeUnit, zone: Option<&str>) -> DataType {
        Timestamp(unit, zone.map(Arc::from))
    }

    #[test]
    fn types_widen_only_if_values_stay_as_they_are_and_whichever_comes_first() {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond};
        let cases = [
            (Int8, Int64, Some(Int64)),
            (UInt8, UInt32, Some(UInt32)),
            (UInt8, Int8, Some(Int16)),
            (UInt32, Int16, Some(Int64)),
            (UInt32, Int64, Some(Int64)),
            (UInt64, Int64, None),
            (Int8, Float64, None),
            (Int64, Float64, None),
            (UInt8, Float16, None),
            (Float16, Float32, None),
            (Float32, Float64, None),
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
