//! A column under way.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int16Builder,
    Int32Builder, Int64Builder, StringArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

use crate::columns::ColumnType;
use crate::json_array::{Element, write_array};
use crate::moment::Reach;
use crate::scalar::{BadForm, Scalar, Written, chunk};
use crate::{moment, numeric};

/// The time zone of timestamps with time zone, in the one form that every build of Arrow knows.
const UTC: &str = "+00:00";

/// The cells of a column, by their form.
pub(crate) enum Cells {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal { builder: Decimal128Builder, scale: i8 },
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Oid(Int64Builder),
    Text { cells: TextCells, scalar: Scalar, reach: Reach },
    Array { cells: TextCells, element: Element },
}

/// Appends a field of so many bytes by this conversion.
macro_rules! append_fixed {
    ($builder:expr, $field:expr, $number:ty) => {{
        $builder.append_value(<$number>::from_be_bytes(chunk($field)?));
        Ok(Written::Kept)
    }};
}

impl Cells {
    pub(crate) fn new(column_type: ColumnType) -> Self {
        let scalar = match column_type {
            ColumnType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::new().with_data_type(DataType::Decimal128(precision, scale));
                return Self::Decimal { builder, scale };
            }
            ColumnType::Array(element, reach) => {
                return Self::Array { cells: TextCells::default(), element: (element, reach) };
            }
            ColumnType::Written(scalar) => {
                return Self::Text { cells: TextCells::default(), scalar, reach: Reach::Far };
            }
            ColumnType::Scalar(scalar) => scalar,
        };
        match scalar {
            Scalar::Bool => Self::Boolean(BooleanBuilder::new()),
            Scalar::Int2 => Self::Int16(Int16Builder::new()),
            Scalar::Int4 => Self::Int32(Int32Builder::new()),
            Scalar::Int8 => Self::Int64(Int64Builder::new()),
            Scalar::Float4 => Self::Float32(Float32Builder::new()),
            Scalar::Float8 => Self::Float64(Float64Builder::new()),
            Scalar::Date => Self::Date(Date32Builder::new()),
            Scalar::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            Scalar::TimestampTz => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone(UTC)),
            Scalar::Oid => Self::Oid(Int64Builder::new()),
            _ => Self::Text { cells: TextCells::default(), scalar, reach: Reach::Near },
        }
    }

    /// Arrow's type of such a column.
    pub(crate) fn data_type(column_type: ColumnType) -> DataType {
        // An empty column knows its type.
        Self::new(column_type).finish().map_or(DataType::Utf8, |column| column.data_type().clone())
    }

    /// Appends a field as PostgreSQL sends it.
    pub(crate) fn append(&mut self, field: Option<&[u8]>) -> Result<Written, BadForm> {
        let Some(field) = field else {
            self.append_null();
            return Ok(Written::Kept);
        };
        match self {
            Self::Boolean(builder) => {
                builder.append_value(chunk::<1>(field)?[0] != 0);
                Ok(Written::Kept)
            }
            Self::Int16(builder) => append_fixed!(builder, field, i16),
            Self::Int32(builder) => append_fixed!(builder, field, i32),
            Self::Int64(builder) => append_fixed!(builder, field, i64),
            Self::Float32(builder) => append_fixed!(builder, field, f32),
            Self::Float64(builder) => append_fixed!(builder, field, f64),
            Self::Decimal { builder, scale } => {
                let value = numeric::scaled(field, *scale)?;
                builder.append_option(value);
                Ok(Written::of(value))
            }
            Self::Date(builder) => {
                let day = moment::unix_day(i32::from_be_bytes(chunk(field)?));
                builder.append_option(day);
                Ok(Written::of(day))
            }
            Self::Timestamp(builder) => {
                let time = moment::unix_micros(i64::from_be_bytes(chunk(field)?));
                builder.append_option(time);
                Ok(Written::of(time))
            }
            Self::Oid(builder) => {
                builder.append_value(i64::from(u32::from_be_bytes(chunk(field)?)));
                Ok(Written::Kept)
            }
            Self::Text { cells, scalar, reach } => cells.append_with(|text| scalar.write_text(field, *reach, text)),
            Self::Array { cells, element } => cells.append_with(|text| write_array(*element, field, text)),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) | Self::Oid(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal { builder, .. } => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Text { cells, .. } | Self::Array { cells, .. } => cells.append_null(),
        }
    }

    /// Gives the column, and begins anew.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, BadForm> {
        Ok(match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) | Self::Oid(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal { builder, .. } => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Text { cells, .. } | Self::Array { cells, .. } => Arc::new(cells.finish()?),
        })
    }
}

/// Texts as bytes. That they are UTF-8 is checked for all of a batch at once, which is much quicker than one by one.
#[derive(Default)]
pub(crate) struct TextCells {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    is_valid: Vec<bool>,
}

impl TextCells {
    fn append_with(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Written, BadForm>,
    ) -> Result<Written, BadForm> {
        let written = write(&mut self.bytes)?;
        // A field has less than a gigabyte, and a batch is passed on after the first that makes it full.
        self.ends.push(i32::try_from(self.bytes.len()).map_err(|_| BadForm)?);
        self.is_valid.push(true);
        Ok(written)
    }

    fn append_null(&mut self) {
        self.ends.push(self.ends.last().copied().unwrap_or(0));
        self.is_valid.push(false);
    }

    fn finish(&mut self) -> Result<StringArray, BadForm> {
        // The next batch will be about as large.
        let next = Vec::with_capacity(self.bytes.len());
        let bytes = std::mem::replace(&mut self.bytes, next);
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let nulls = NullBuffer::from(self.is_valid.as_slice());
        self.is_valid.clear();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        StringArray::try_new(offsets, Buffer::from_vec(bytes), Some(nulls)).map_err(|_| BadForm)
    }
}
