//! Which type holds the values of two types as they are.

use std::sync::Arc;

use arrow::datatypes::DataType::Struct;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

/// The narrowest type into which the values of both can be cast and are still written alike; none if there is no such type.
///
/// Values are compared and sent as text: a `5` among floats becomes `5.0`, and a narrow float gets other digits as a wide
/// one, so a key would be another key. Text itself is not the common type of everything either: one that stands in for
/// numbers in one object is most likely a mistake there. Of timestamps the finer unit counts, though it spans fewer years:
/// who casts a moment that lies outside of them has to fail.
pub(crate) fn common_type(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType::{Decimal128, Decimal256, List, Map, Null, Timestamp};
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
        (Struct(fields), Struct(other_fields)) => Some(Struct(common_fields(fields, other_fields)?)),
        (List(item), List(other_item)) => Some(List(common_item(item, other_item)?)),
        (Map(entries, sorted), Map(other_entries, other_sorted)) => {
            Some(Map(common_entries(entries, other_entries)?, *sorted && *other_sorted))
        }
        _ => common_integer(one, other),
    }
}

/// The fields of both, those of the first in front. What one of them lacks may be NULL. Names that differ only in case do
/// not fit.
fn common_fields(one: &Fields, other: &Fields) -> Option<Fields> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(one.len());
    for field in one {
        fields.push(match other.find(field.name()) {
            Some((_, other_field)) => common_field(field, other_field)?,
            None => Arc::new(field.as_ref().clone().with_nullable(true)),
        });
    }
    for field in other.iter().filter(|field| one.find(field.name()).is_none()) {
        if fields.iter().any(|known| known.name().eq_ignore_ascii_case(field.name())) {
            return None;
        }
        fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
    }
    Some(fields.into())
}

fn common_field(one: &Field, other: &Field) -> Option<FieldRef> {
    let data_type = common_type(one.data_type(), other.data_type())?;
    Some(Arc::new(Field::new(one.name(), data_type, one.is_nullable() || other.is_nullable())))
}

/// The items of a list may be called anything.
fn common_item(one: &Field, other: &Field) -> Option<FieldRef> {
    common_field(one, other)
}

/// Key and value of a map may be called anything, too.
fn common_entries(one: &Field, other: &Field) -> Option<FieldRef> {
    let (Struct(pair), Struct(other_pair)) = (one.data_type(), other.data_type()) else { return None };
    let ([key, value], [other_key, other_value]) = (pair.as_ref(), other_pair.as_ref()) else { return None };
    let pair = vec![common_item(key, other_key)?, common_item(value, other_value)?];
    Some(Arc::new(Field::new(one.name(), Struct(pair.into()), one.is_nullable() || other.is_nullable())))
}

/// The same type without what files note beside it and without how values are held in memory, at any depth.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect::<Fields>()),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(plain_field(item))
        }
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
    fn nested_types_are_merged_field_by_field() {
        let field = |name: &str, data_type: DataType| Field::new(name, data_type, false);
        let of = |fields: Vec<Field>| Struct(fields.into());
        let one = of(vec![field("city", Utf8), field("zip", Int32)]);
        let other = of(vec![field("zip", Int64), field("country", Utf8)]);
        let may_be_null = |name: &str| Field::new(name, Utf8, true);
        let expected = of(vec![may_be_null("city"), field("zip", Int64), may_be_null("country")]);
        assert_eq!(common_type(&one, &other), Some(expected.clone()));
        let list = |item: DataType| List(Arc::new(Field::new("element", item, true)));
        assert_eq!(common_type(&list(one.clone()), &list(other)), Some(list(expected)));
        let map = |names: [&str; 2], value: DataType| {
            let pair = vec![field(names[0], Utf8), Field::new(names[1], value, true)];
            Map(Arc::new(field("entries", of(pair))), false)
        };
        let named_otherwise = common_type(&map(["key", "value"], Int32), &map(["k", "v"], Int64));
        assert_eq!(named_otherwise, Some(map(["key", "value"], Int64)));
        for unfit in [of(vec![field("zip", Utf8)]), of(vec![field("City", Utf8)])] {
            assert_eq!(common_type(&one, &unfit), None, "{unfit}");
        }
    }

    #[test]
    fn how_values_are_held_in_memory_makes_no_other_type() {
        let coded = Dictionary(Box::new(Int32), Box::new(LargeUtf8));
        let held = [(coded.clone(), Utf8), (LargeUtf8, Utf8), (Utf8View, Utf8), (BinaryView, Binary)];
        for (held, expected) in held {
            assert_eq!(plain_type(&held), expected, "{held}");
        }
        let nested =
            Struct(vec![Field::new("tags", LargeList(Arc::new(Field::new("item", coded, true))), true)].into());
        let plain = Struct(vec![Field::new("tags", List(Arc::new(Field::new("item", Utf8, true))), true)].into());
        assert_eq!(plain_type(&nested), plain);
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
