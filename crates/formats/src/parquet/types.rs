//! In which Arrow types a file's columns are told, and how their values appear in a mapping.
//!
//! They follow from the file's own types, never from its writer's notes on how it held a column in memory: those differ
//! from writer to writer for the same values. Where Parquet's reader would lose something, it is asked for another type.
//! Deprecated annotations are told like those that took their place.
//!
//! | in the file | told as | appears as |
//! | --- | --- | --- |
//! | whole numbers, signed or not | the same | `-5`, `4294967295` |
//! | DECIMAL over any physical type | decimal | `-123.45`, with all its digits |
//! | FLOAT16, FLOAT, DOUBLE | the same | the shortest digits: `1.5` |
//! | DATE, TIME, TIMESTAMP | the same | ISO 8601; with `Z` if the file says that it is UTC |
//! | INT96, the time of old writers | microseconds: nanoseconds end in 2262, and "never" is often 9999 | ISO 8601 |
//! | UTF8, JSON, ENUM | text | as it is |
//! | UUID | text | `00112233-4455-6677-8899-aabbccddeeff` |
//! | BYTE_ARRAY without more, BSON, other fixed bytes | bytes | not at all: `CAST(x AS VARCHAR)` takes them for UTF-8 |
//! | UNKNOWN | NULL | NULL |
//! | LIST of two or three levels, `repeated` | list | JSON as a whole, `tags[1]` in part |
//! | MAP, a group | map, struct | JSON as a whole, `address.city` in part |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, MapArray, StringBuilder, StructArray};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

const UUID_BYTES: i32 = 16;

/// The columns of a file, in the types in which they are told.
pub(super) fn told_fields(schema: &SchemaDescriptor) -> Result<Fields, ParquetError> {
    Ok(with_leaves(&read_fields(schema)?, schema, told_leaf))
}

/// The columns as Parquet's reader gives them.
fn read_fields(schema: &SchemaDescriptor) -> Result<Fields, ParquetError> {
    let plain = parquet_to_arrow_schema(schema, None)?.fields;
    Ok(with_leaves(&plain, schema, read_leaf))
}

/// What Parquet's reader needs to know to read a file in these types.
pub(super) fn reader_metadata(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, ParquetError> {
    let fields = read_fields(metadata.file_metadata().schema_descr())?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ArrowReaderMetadata::try_new(metadata, options.with_schema(Arc::new(Schema::new(fields))))
}

/// The schema in which a file is told.
pub(super) fn told_schema(metadata: &ParquetMetaData) -> Result<SchemaRef, ParquetError> {
    Ok(Arc::new(Schema::new(told_fields(metadata.file_metadata().schema_descr())?)))
}

type OfLeaf = fn(&DataType, &ColumnDescriptor) -> DataType;

fn read_leaf(data_type: &DataType, column: &ColumnDescriptor) -> DataType {
    let is_enum =
        column.converted_type() == ConvertedType::ENUM || matches!(column.logical_type_ref(), Some(LogicalType::Enum));
    match data_type {
        DataType::Timestamp(..) if column.physical_type() == PhysicalType::INT96 => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Binary if is_enum => DataType::Utf8,
        other => other.clone(),
    }
}

fn told_leaf(data_type: &DataType, column: &ColumnDescriptor) -> DataType {
    match data_type {
        DataType::FixedSizeBinary(UUID_BYTES) if matches!(column.logical_type_ref(), Some(LogicalType::Uuid)) => {
            DataType::Utf8
        }
        other => other.clone(),
    }
}

/// The fields with another type for each leaf. Leaves come in the order of the file's columns.
fn with_leaves(fields: &Fields, schema: &SchemaDescriptor, of_leaf: OfLeaf) -> Fields {
    let mut columns = schema.columns().iter().map(AsRef::as_ref);
    fields.iter().map(|field| with_leaves_of(field, &mut columns, of_leaf)).collect()
}

fn with_leaves_of(field: &FieldRef, columns: &mut dyn Iterator<Item = &ColumnDescriptor>, of_leaf: OfLeaf) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| with_leaves_of(field, columns, of_leaf)).collect())
        }
        DataType::List(item) => DataType::List(with_leaves_of(item, columns, of_leaf)),
        DataType::Map(entries, sorted) => DataType::Map(with_leaves_of(entries, columns, of_leaf), *sorted),
        leaf => columns.next().map_or_else(|| leaf.clone(), |column| of_leaf(leaf, column)),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Brings a column from the type in which it was read to the one in which it is told.
pub(super) fn as_told(column: &ArrayRef, told: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == told {
        return Ok(Arc::clone(column));
    }
    Ok(match told {
        DataType::Utf8 => uuid_texts(column.as_fixed_size_binary()),
        DataType::Struct(fields) => {
            let read = column.as_struct();
            let told = read.columns().iter().zip(fields).map(|(part, field)| as_told(part, field.data_type()));
            Arc::new(StructArray::try_new(fields.clone(), told.collect::<Result<_, _>>()?, read.nulls().cloned())?)
        }
        DataType::List(item) => {
            let read = column.as_list::<i32>();
            let items = as_told(read.values(), item.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(item), read.offsets().clone(), items, read.nulls().cloned())?)
        }
        DataType::Map(entries, sorted) => {
            let read = column.as_map();
            let parts: ArrayRef = Arc::new(read.entries().clone());
            let told = as_told(&parts, entries.data_type())?.as_struct().clone();
            let offsets = read.offsets().clone();
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, told, read.nulls().cloned(), *sorted)?)
        }
        _ => Arc::clone(column),
    })
}

fn uuid_texts(column: &FixedSizeBinaryArray) -> ArrayRef {
    const TEXT_LENGTH: usize = 36;
    let mut texts = StringBuilder::with_capacity(column.len(), column.len() * TEXT_LENGTH);
    let mut text = String::with_capacity(TEXT_LENGTH);
    for value in column {
        text.clear();
        let parts = value.map(|bytes| {
            for (place, byte) in bytes.iter().enumerate() {
                if let 4 | 6 | 8 | 10 = place {
                    text.push('-');
                }
                text.extend([byte >> 4, byte & 0x0f].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
            }
            text.as_str()
        });
        texts.append_option(parts);
    }
    Arc::new(texts.finish())
}
