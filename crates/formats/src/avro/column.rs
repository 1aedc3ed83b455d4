//! A column under way.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Builder, Float32Builder, Float64Builder, Int32Builder,
    Int64Builder, ListArray, MapArray, NullArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::types::{Kind, entries};

pub(super) enum Column {
    Null(usize),
    Bool(BooleanBuilder),
    /// What the numbers mean is said when the column is finished.
    Int(Int32Builder, DataType),
    Long(Int64Builder, DataType),
    Float(Float32Builder),
    Double(Float64Builder),
    Bytes(BinaryBuilder),
    Text(StringBuilder),
    Decimal {
        builder: Decimal128Builder,
        data_type: DataType,
    },
    Struct {
        fields: Fields,
        columns: Vec<Self>,
        is_there: Vec<bool>,
    },
    List {
        item: FieldRef,
        values: Box<Self>,
        lengths: Vec<usize>,
        is_there: Vec<bool>,
    },
    Map {
        entries: FieldRef,
        keys: StringBuilder,
        values: Box<Self>,
        lengths: Vec<usize>,
        is_there: Vec<bool>,
    },
}

impl Column {
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Null => Self::Null(0),
            Kind::Boolean => Self::Bool(BooleanBuilder::with_capacity(0)),
            Kind::Int(data_type) => Self::Int(Int32Builder::with_capacity(0), data_type.clone()),
            Kind::Long(data_type) => Self::Long(Int64Builder::with_capacity(0), data_type.clone()),
            Kind::Float => Self::Float(Float32Builder::with_capacity(0)),
            Kind::Double => Self::Double(Float64Builder::with_capacity(0)),
            Kind::Bytes | Kind::Fixed(_) => Self::Bytes(BinaryBuilder::with_capacity(0, 0)),
            Kind::Text | Kind::Enum(_) | Kind::Uuid | Kind::Duration => Self::Text(StringBuilder::with_capacity(0, 0)),
            Kind::Decimal { .. } => {
                Self::Decimal { builder: Decimal128Builder::with_capacity(0), data_type: kind.to_arrow() }
            }
            Kind::Record(record) => Self::Struct {
                fields: record.to_arrow(),
                columns: record.fields.iter().map(|field| Self::of(&field.kind)).collect(),
                is_there: Vec::new(),
            },
            Kind::Array(item) => Self::List {
                item: Arc::new(Field::new_list_field(item.to_arrow(), true)),
                values: Box::new(Self::of(item)),
                lengths: Vec::new(),
                is_there: Vec::new(),
            },
            Kind::Map(value) => Self::Map {
                entries: Arc::new(entries(value.to_arrow())),
                keys: StringBuilder::with_capacity(0, 0),
                values: Box::new(Self::of(value)),
                lengths: Vec::new(),
                is_there: Vec::new(),
            },
            Kind::Union(kinds) => {
                kinds.iter().find(|kind| kind.to_arrow() != DataType::Null).map_or(Self::Null(0), Self::of)
            }
        }
    }

    /// How many columns take a null of this one.
    pub(super) fn places(&self) -> usize {
        match self {
            Self::Struct { columns, .. } => 1 + columns.iter().map(Self::places).sum::<usize>(),
            _ => 1,
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Null(count) => *count += 1,
            Self::Bool(builder) => builder.append_null(),
            Self::Int(builder, _) => builder.append_null(),
            Self::Long(builder, _) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Bytes(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Decimal { builder, .. } => builder.append_null(),
            Self::Struct { columns, is_there, .. } => {
                columns.iter_mut().for_each(Self::push_null);
                is_there.push(false);
            }
            Self::List { lengths, is_there, .. } | Self::Map { lengths, is_there, .. } => {
                lengths.push(0);
                is_there.push(false);
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Null(count) => Arc::new(NullArray::new(std::mem::take(count))),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int(builder, data_type) => meaning(&builder.finish(), data_type),
            Self::Long(builder, data_type) => meaning(&builder.finish(), data_type),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Bytes(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Decimal { builder, data_type } => Arc::new(builder.finish().with_data_type(data_type.clone())),
            Self::Struct { fields, columns, is_there } => {
                let arrays = columns.iter_mut().map(Self::finish).collect();
                let there = std::mem::take(is_there);
                let length = there.len();
                let nulls = Some(NullBuffer::from(there));
                let structs = StructArray::try_new_with_length(fields.clone(), arrays, nulls, length);
                Arc::new(structs.expect("each value puts one into every field"))
            }
            Self::List { item, values, lengths, is_there } => {
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                let nulls = Some(NullBuffer::from(std::mem::take(is_there)));
                let lists = ListArray::try_new(Arc::clone(item), offsets, values.finish(), nulls);
                Arc::new(lists.expect("the lengths add up to the values"))
            }
            Self::Map { entries, keys, values, lengths, is_there } => {
                let DataType::Struct(fields) = entries.data_type() else { unreachable!("entries are pairs") };
                let pairs = StructArray::new(fields.clone(), vec![Arc::new(keys.finish()), values.finish()], None);
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                let nulls = Some(NullBuffer::from(std::mem::take(is_there)));
                let maps = MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false);
                Arc::new(maps.expect("the lengths add up to the pairs"))
            }
        }
    }
}

/// The same numbers as dates, times or whatever they mean.
fn meaning(numbers: &dyn Array, data_type: &DataType) -> ArrayRef {
    cast(numbers, data_type).expect("dates and times are numbers of the same width")
}
