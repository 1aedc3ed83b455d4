//! Brings a column to another type and tells the records whose values got lost on the way.
//!
//! Parts of structs are found by their names, items of lists and the two parts of maps by their places; what a struct lacks
//! is NULL. Arrow's own cast takes structs only if both have as many parts, and takes a value that does not fit for NULL,
//! of which nobody hears if it lies within another.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;

/// A column in the type that was asked for.
#[derive(Debug)]
pub struct Fitted {
    pub column: ArrayRef,
    /// Set where a record has a value, at any depth, that the type does not hold: it is NULL in `column`. None if there is
    /// no such record.
    pub lost: Option<BooleanBuffer>,
}

/// Whether columns of one type can be brought to the other; single values may still not fit.
pub fn can_fit(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        _ if from == to => true,
        (DataType::Null, _) => true,
        (DataType::Struct(own), DataType::Struct(wanted)) => parts_of(own, wanted).is_some_and(|places| {
            places.iter().zip(wanted).all(|(place, wanted)| match place {
                Some(place) => can_fit(own[*place].data_type(), wanted.data_type()),
                None => wanted.is_nullable(),
            })
        }),
        (DataType::List(own), DataType::List(wanted)) => can_fit(own.data_type(), wanted.data_type()),
        (DataType::Map(own, _), DataType::Map(wanted, _)) => match (pair(own), pair(wanted)) {
            (Some([key, value]), Some([wanted_key, wanted_value])) => {
                can_fit(key.data_type(), wanted_key.data_type()) && can_fit(value.data_type(), wanted_value.data_type())
            }
            _ => false,
        },
        _ => !from.is_nested() && !to.is_nested() && can_cast_types(from, to),
    }
}

/// Brings a column to a type. An error means that [`can_fit`] would have said no, or that a value got lost where the type
/// has no NULL to stand for it; its text holds no values.
pub fn fit(column: &ArrayRef, to: &DataType) -> Result<Fitted, ArrowError> {
    match (column.data_type(), to) {
        (from, _) if from == to => Ok(Fitted { column: Arc::clone(column), lost: None }),
        (DataType::Null, _) => Ok(Fitted { column: new_null_array(to, column.len()), lost: None }),
        (DataType::Struct(_), DataType::Struct(wanted)) => fit_struct(column.as_struct(), wanted),
        (DataType::List(_), DataType::List(item)) => fit_list(column.as_list::<i32>(), item),
        (DataType::Map(..), DataType::Map(entries, is_sorted)) => fit_map(column.as_map(), entries, *is_sorted),
        (from, _) if from.is_nested() || to.is_nested() => Err(no_way(from, to)),
        _ => fit_values(column, to),
    }
}

fn fit_values(column: &ArrayRef, to: &DataType) -> Result<Fitted, ArrowError> {
    let fitted = cast_with_options(column, to, &CastOptions { safe: true, ..CastOptions::default() })?;
    let lost = match fitted.logical_nulls() {
        Some(after) => match column.logical_nulls() {
            Some(before) => before.inner() & &!after.inner(),
            None => !after.inner(),
        },
        None => BooleanBuffer::new_unset(column.len()),
    };
    Ok(Fitted { column: fitted, lost: some_of(lost) })
}

fn fit_struct(own: &StructArray, wanted: &Fields) -> Result<Fitted, ArrowError> {
    let places =
        parts_of(own.fields(), wanted).ok_or_else(|| no_way(own.data_type(), &DataType::Struct(wanted.clone())))?;
    let mut columns = Vec::with_capacity(wanted.len());
    let mut lost: Option<BooleanBuffer> = None;
    for (place, field) in places.into_iter().zip(wanted) {
        let Some(place) = place else {
            columns.push(new_null_array(field.data_type(), own.len()));
            continue;
        };
        let part = fit(own.column(place), field.data_type())?;
        columns.push(part.column);
        lost = match (lost, part.lost) {
            (Some(before), Some(more)) => Some(&before | &more),
            (before, more) => before.or(more),
        };
    }
    let column = StructArray::try_new_with_length(wanted.clone(), columns, own.nulls().cloned(), own.len())?;
    Ok(Fitted { column: Arc::new(column), lost: lost.and_then(|lost| where_there(lost, own.nulls())) })
}

fn fit_list(own: &ListArray, item: &FieldRef) -> Result<Fitted, ArrowError> {
    let items = fit(own.values(), item.data_type())?;
    let column = ListArray::try_new(Arc::clone(item), own.offsets().clone(), items.column, own.nulls().cloned())?;
    let lost = items.lost.and_then(|lost| where_there(of_lists(&lost, own.offsets()), own.nulls()));
    Ok(Fitted { column: Arc::new(column), lost })
}

fn fit_map(own: &MapArray, entries: &FieldRef, is_sorted: bool) -> Result<Fitted, ArrowError> {
    let (DataType::Struct(fields), Some([key, value])) = (entries.data_type(), pair(entries)) else {
        return Err(no_way(own.data_type(), entries.data_type()));
    };
    let (keys, values) = (fit(own.keys(), key.data_type())?, fit(own.values(), value.data_type())?);
    let pairs = StructArray::try_new(fields.clone(), vec![keys.column, values.column], None)?;
    let column = MapArray::try_new(Arc::clone(entries), own.offsets().clone(), pairs, own.nulls().cloned(), is_sorted)?;
    let lost = match (keys.lost, values.lost) {
        (Some(keys), Some(values)) => Some(&keys | &values),
        (keys, values) => keys.or(values),
    };
    let lost = lost.and_then(|lost| where_there(of_lists(&lost, own.offsets()), own.nulls()));
    Ok(Fitted { column: Arc::new(column), lost })
}

/// For each part that is wanted, its place among one's own; none if two of one's own cannot be told apart.
fn parts_of(own: &Fields, wanted: &Fields) -> Option<Vec<Option<usize>>> {
    let places: HashMap<&str, usize> =
        own.iter().enumerate().map(|(place, field)| (field.name().as_str(), place)).collect();
    (places.len() == own.len()).then(|| wanted.iter().map(|field| places.get(field.name().as_str()).copied()).collect())
}

/// Key and value of a map's entries.
fn pair(entries: &Field) -> Option<[&FieldRef; 2]> {
    let DataType::Struct(fields) = entries.data_type() else { return None };
    let [key, value] = fields.as_ref() else { return None };
    Some([key, value])
}

/// The lists among whose items something got lost.
fn of_lists(lost: &BooleanBuffer, offsets: &OffsetBuffer<i32>) -> BooleanBuffer {
    let lists = offsets.windows(2).map(|pair| (pair[0].unsigned_abs() as usize, pair[1].unsigned_abs() as usize));
    lists.map(|(start, end)| end > start && lost.slice(start, end - start).count_set_bits() > 0).collect()
}

/// What lies beneath a NULL is nobody's.
fn where_there(lost: BooleanBuffer, nulls: Option<&NullBuffer>) -> Option<BooleanBuffer> {
    some_of(match nulls {
        Some(nulls) => &lost & nulls.inner(),
        None => lost,
    })
}

fn some_of(lost: BooleanBuffer) -> Option<BooleanBuffer> {
    (lost.count_set_bits() > 0).then_some(lost)
}

fn no_way(from: &DataType, to: &DataType) -> ArrowError {
    ArrowError::CastError(format!("{from} cannot be read as {to}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{Int64Type, TimeUnit};

    use super::*;

    fn field(name: &str, data_type: DataType) -> FieldRef {
        Arc::new(Field::new(name, data_type, true))
    }

    fn structs(parts: Vec<(&str, ArrayRef)>, nulls: Option<NullBuffer>) -> ArrayRef {
        let (fields, arrays): (Vec<_>, Vec<_>) =
            parts.into_iter().map(|(name, array)| (field(name, array.data_type().clone()), array)).unzip();
        Arc::new(StructArray::new(fields.into(), arrays, nulls))
    }

    fn list(items: ArrayRef, lengths: &[usize], nulls: Option<NullBuffer>) -> ArrayRef {
        let item = field("element", items.data_type().clone());
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths.iter().copied()), items, nulls))
    }

    fn map(values: ArrayRef, lengths: &[usize], names: [&str; 2]) -> ArrayRef {
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..values.len()).map(|key| key.to_string())));
        let fields: Fields =
            vec![Field::new(names[0], DataType::Utf8, false), Field::new(names[1], values.data_type().clone(), true)]
                .into();
        let entries = Arc::new(Field::new("entries", DataType::Struct(fields.clone()), false));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        Arc::new(MapArray::new(entries, offsets, StructArray::new(fields, vec![keys, values], None), None, false))
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    /// One that lies in nanoseconds, and one that does not.
    fn times() -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from(vec![0, 253_402_214_400_000]))
    }

    fn nanos() -> DataType {
        DataType::Timestamp(TimeUnit::Nanosecond, None)
    }

    fn lost_of(fitted: &Fitted) -> Vec<usize> {
        fitted.lost.iter().flat_map(BooleanBuffer::set_indices).collect()
    }

    #[test]
    fn parts_come_and_go_move_and_widen_at_any_depth() {
        let old = structs(vec![("city", texts(&["A", "B"])), ("zip", Arc::new(Int32Array::from(vec![1, 2])))], None);
        let fields: Fields =
            vec![field("zip", DataType::Int64), field("country", DataType::Utf8), field("city", DataType::Utf8)].into();
        let wanted = DataType::Struct(fields);
        let expected = structs(
            vec![
                ("zip", Arc::new(Int64Array::from(vec![1, 2]))),
                ("country", new_null_array(&DataType::Utf8, 2)),
                ("city", texts(&["A", "B"])),
            ],
            None,
        );
        let nested: [(ArrayRef, ArrayRef); 4] = [
            (Arc::clone(&old), Arc::clone(&expected)),
            (list(Arc::clone(&old), &[0, 2], None), list(Arc::clone(&expected), &[0, 2], None)),
            (map(Arc::clone(&old), &[1, 1], ["key", "value"]), map(Arc::clone(&expected), &[1, 1], ["k", "v"])),
            (structs(vec![("a", old)], None), structs(vec![("a", expected)], None)),
        ];
        assert_eq!(nested[0].1.data_type(), &wanted);
        for (own, expected) in nested {
            assert!(can_fit(own.data_type(), expected.data_type()), "{}", own.data_type());
            let fitted = fit(&own, expected.data_type()).unwrap();
            assert_eq!((&fitted.column, lost_of(&fitted)), (&expected, vec![]));
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_told_of_its_record_however_deep_it_lies() {
        let of = |part| DataType::Struct(vec![field("until", part)].into());
        let own = structs(vec![("until", times())], None);
        assert_eq!(lost_of(&fit(&own, &of(nanos())).unwrap()), [1]);
        let deeper = structs(vec![("until", Arc::clone(&own))], None);
        assert_eq!(lost_of(&fit(&deeper, &of(of(nanos()))).unwrap()), [1]);
        let lists = list(own, &[0, 2, 0], None);
        assert_eq!(lost_of(&fit(&lists, &DataType::List(field("item", of(nanos())))).unwrap()), [1]);
        let maps = map(times(), &[1, 1, 0], ["key", "value"]);
        let wanted = map(new_null_array(&nanos(), 0), &[], ["key", "value"]);
        assert_eq!(lost_of(&fit(&maps, wanted.data_type()).unwrap()), [1]);
        assert_eq!(lost_of(&fit(&times(), &nanos()).unwrap()), [1]);
    }

    #[test]
    fn what_lies_beneath_a_null_or_outside_of_a_slice_is_not_lost() {
        let nulls = NullBuffer::from(vec![true, false]);
        let own = structs(vec![("until", times())], Some(nulls.clone()));
        let wanted = DataType::Struct(vec![field("until", nanos())].into());
        assert!(lost_of(&fit(&own, &wanted).unwrap()).is_empty());
        let lists = list(times(), &[1, 1], Some(nulls));
        let wanted = DataType::List(field("element", nanos()));
        assert!(lost_of(&fit(&lists, &wanted).unwrap()).is_empty());
        let sliced = list(times(), &[1, 1], None).slice(0, 1);
        assert!(lost_of(&fit(&sliced, &wanted).unwrap()).is_empty());
    }

    #[test]
    fn types_of_another_shape_are_refused() {
        let record = DataType::Struct(vec![field("a", DataType::Utf8)].into());
        let twice = DataType::Struct(vec![field("a", DataType::Utf8), field("a", DataType::Int64)].into());
        let items = DataType::List(field("item", DataType::Int64));
        for (from, to) in [
            (&DataType::Utf8, &record),
            (&record, &DataType::Utf8),
            (&items, &record),
            (&DataType::Int64, &items),
            (&twice, &record),
        ] {
            assert!(!can_fit(from, to), "{from} as {to}");
            assert!(fit(&new_null_array(from, 1), to).is_err(), "{from} as {to}");
        }
        let number: ArrayRef = list(Arc::new(Int64Array::from_iter_values([1])), &[1], None);
        assert!(fit(&number, &DataType::List(field("item", record))).is_err());
        assert_eq!(number.as_list::<i32>().values().as_primitive::<Int64Type>().value(0), 1);
    }

    #[test]
    fn a_column_without_a_value_has_any_type() {
        let items = DataType::List(field("item", DataType::Int64));
        let fitted = fit(&new_null_array(&DataType::Null, 2), &items).unwrap();
        assert_eq!((fitted.column.null_count(), fitted.lost), (2, None));
    }
}
