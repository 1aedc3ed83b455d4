//! The batch under way.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListArray, NullArray, RecordBatchOptions, StringBuilder,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use convoke_core::source::SourceBatch;

use super::object::Object;
use super::value::{Value, places};
use crate::cells::Cells;
use crate::csv::may_be_value;
use crate::outlet::Stop;

/// A batch is passed on once its lines have this many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or it has this many records …
const BATCH_RECORDS: usize = 16_384;
/// … or this many cells, nested ones and NULL counted.
const BATCH_CELLS: usize = 1 << 20;

pub(super) struct Batch {
    schema: SchemaRef,
    places: HashMap<String, usize>,
    columns: Vec<Column>,
    /// Of each column, whether a record of the batch has the field.
    is_met: Vec<bool>,
    positions: Vec<u64>,
    bytes: usize,
    cells: usize,
    /// How many cells a record has of which no field is given.
    empty_cells: usize,
}

impl Batch {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Stop> {
        let places = schema.fields().iter().enumerate().map(|(place, field)| (field.name().clone(), place)).collect();
        let columns = columns_of(schema.fields())?;
        let empty_cells = schema.fields().iter().map(|field| self::places(field.data_type())).sum();
        let (schema, is_met) = (Arc::clone(schema), vec![false; columns.len()]);
        Ok(Self { schema, places, columns, is_met, positions: Vec::new(), bytes: 0, cells: 0, empty_cells })
    }

    /// Appends the record on a line; the error says what is wrong with it and never shows a value.
    pub(super) fn push(&mut self, text: &str, line: u64) -> Result<(), String> {
        let object = Object::parse(text)?;
        let mut cells = Cells::of_record();
        let mut values: Vec<Option<Value<'_>>> = self.columns.iter().map(|_| None).collect();
        for (name, value) in &object.fields {
            let Some(&place) = self.places.get(name.as_ref()) else { continue };
            let data_type = self.schema.field(place).data_type();
            let value = Value::of(value, data_type, &mut cells).map_err(|reason| match may_be_value(name) {
                true => format!("a field has {reason}"),
                false => format!("`{name}` has {reason}"),
            })?;
            values[place] = Some(value);
        }
        for ((column, is_met), value) in self.columns.iter_mut().zip(&mut self.is_met).zip(values) {
            *is_met |= value.is_some();
            column.push(value.unwrap_or(Value::Null));
        }
        self.bytes += text.len();
        self.cells += self.empty_cells + cells.taken();
        self.positions.push(line);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.positions.len() >= BATCH_RECORDS || self.cells >= BATCH_CELLS
    }

    /// The records, without the columns that none of them has.
    pub(super) fn take(&mut self, bytes_read: u64) -> SourceBatch {
        let arrays = self.columns.iter_mut().map(Column::finish);
        let columns = self.schema.fields().iter().zip(arrays).zip(&mut self.is_met);
        let met = columns.filter_map(|(column, is_met)| std::mem::take(is_met).then_some(column));
        let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) =
            met.map(|(field, array)| (Arc::clone(field), array)).unzip();
        let options = RecordBatchOptions::new().with_row_count(Some(self.positions.len()));
        let records = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .expect("each record puts one value into every column");
        (self.bytes, self.cells) = (0, 0);
        SourceBatch { records, positions: std::mem::take(&mut self.positions), bytes_read }
    }
}

fn columns_of(fields: &Fields) -> Result<Vec<Column>, Stop> {
    fields.iter().map(Column::of).collect()
}

/// A column under way. There may be tens of thousands, so none sets memory aside.
enum Column {
    Null(usize),
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Struct { fields: Fields, columns: Vec<Self>, is_there: Vec<bool> },
    List { item: FieldRef, values: Box<Self>, lengths: Vec<usize>, is_there: Vec<bool> },
}

impl Column {
    fn of(field: &FieldRef) -> Result<Self, Stop> {
        Ok(match field.data_type() {
            DataType::Null => Self::Null(0),
            DataType::Boolean => Self::Bool(BooleanBuilder::with_capacity(0)),
            DataType::Int64 => Self::Int(Int64Builder::with_capacity(0)),
            DataType::Float64 => Self::Float(Float64Builder::with_capacity(0)),
            DataType::Utf8 => Self::Text(StringBuilder::with_capacity(0, 0)),
            DataType::Struct(fields) => {
                Self::Struct { fields: fields.clone(), columns: columns_of(fields)?, is_there: Vec::new() }
            }
            DataType::List(item) => Self::List {
                item: Arc::clone(item),
                values: Box::new(Self::of(item)?),
                lengths: Vec::new(),
                is_there: Vec::new(),
            },
            other => return Err(Stop::Broken(format!("no value of JSON can be read as {other}"))),
        })
    }

    /// Appends a value of the column's type; anything else is NULL.
    fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Null(count), _) => *count += 1,
            (Self::Bool(builder), Value::Bool(value)) => builder.append_value(value),
            (Self::Bool(builder), _) => builder.append_null(),
            (Self::Int(builder), Value::Int(value)) => builder.append_value(value),
            (Self::Int(builder), _) => builder.append_null(),
            (Self::Float(builder), Value::Float(value)) => builder.append_value(value),
            (Self::Float(builder), _) => builder.append_null(),
            (Self::Text(builder), Value::Text(value)) => builder.append_value(value),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Struct { columns, is_there, .. }, Value::Struct(values)) => {
                columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                is_there.push(true);
            }
            (Self::Struct { columns, is_there, .. }, _) => {
                columns.iter_mut().for_each(|column| column.push(Value::Null));
                is_there.push(false);
            }
            (Self::List { values, lengths, is_there, .. }, Value::List(list)) => {
                lengths.push(list.len());
                is_there.push(true);
                list.into_iter().for_each(|value| values.push(value));
            }
            (Self::List { lengths, is_there, .. }, _) => {
                lengths.push(0);
                is_there.push(false);
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Null(count) => Arc::new(NullArray::new(std::mem::take(count))),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Struct { fields, columns, is_there } => {
                let arrays = columns.iter_mut().map(Self::finish).collect();
                let there = std::mem::take(is_there);
                let length = there.len();
                let structs =
                    StructArray::try_new_with_length(fields.clone(), arrays, Some(NullBuffer::from(there)), length);
                Arc::new(structs.expect("each value puts one into every field"))
            }
            Self::List { item, values, lengths, is_there } => {
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                let nulls = NullBuffer::from(std::mem::take(is_there));
                let lists = ListArray::try_new(Arc::clone(item), offsets, values.finish(), Some(nulls));
                Arc::new(lists.expect("the lengths add up to the values"))
            }
        }
    }
}
