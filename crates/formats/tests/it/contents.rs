//! A file in memory, and all that comes of it.

use std::io::{self, Read};
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use convoke_core::source::{MalformedRecord, SplitItem};
use convoke_formats::{FileFormat, FileReader};

/// What a whole file yields. Cells are shown as Arrow displays them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contents {
    pub(crate) records: Vec<Vec<Option<String>>>,
    pub(crate) columns: Vec<String>,
    pub(crate) positions: Vec<u64>,
    pub(crate) malformed: Vec<MalformedRecord>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) broken: Option<String>,
    /// How many records were passed on together.
    pub(crate) most_at_once: usize,
}

impl Contents {
    pub(crate) fn of(format: &FileFormat, input: impl Read) -> Self {
        Self::with(FileReader { format, max_malformed: 1.0 }, input, None)
    }

    pub(crate) fn with(reader: FileReader<'_>, input: impl Read, schema: Option<&SchemaRef>) -> Self {
        let mut contents = Self::default();
        reader
            .read(input, schema, &mut |item| {
                contents.take(item);
                ControlFlow::Continue(())
            })
            .unwrap();
        contents
    }

    fn take(&mut self, item: SplitItem) {
        assert!(self.fingerprint.is_none() && self.broken.is_none(), "an end is the last item");
        match item {
            SplitItem::Records(batch) => {
                let fields = batch.records.schema();
                self.columns = fields.fields().iter().map(|field| field.name().clone()).collect();
                assert_eq!(batch.records.num_rows(), batch.positions.len());
                self.records.extend(shown(&batch.records));
                self.most_at_once = self.most_at_once.max(batch.positions.len());
                self.positions.extend(batch.positions);
            }
            SplitItem::Malformed(record) => self.malformed.push(record),
            SplitItem::Broken { reason } => self.broken = Some(reason),
            SplitItem::End { fingerprint } => self.fingerprint = Some(fingerprint),
        }
    }

    /// Lines and reasons of what could not be carried.
    pub(crate) fn told(&self) -> Vec<(u64, &str)> {
        self.malformed.iter().map(|record| (record.position, record.reason.as_str())).collect()
    }
}

fn shown(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let options = FormatOptions::default();
    let formatters: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let cell = |row: usize, column: usize| {
        let array = batch.column(column);
        let is_null = array.is_null(row) || *array.data_type() == DataType::Null;
        (!is_null).then(|| formatters[column].value(row).to_string())
    };
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|column| cell(row, column)).collect()).collect()
}

/// Cells as they are expected; those without characters are NULL.
pub(crate) fn cells(record: &[&str]) -> Vec<Option<String>> {
    record.iter().map(|cell| (!cell.is_empty()).then(|| (*cell).to_owned())).collect()
}

pub(crate) fn digest(bytes: impl AsRef<[u8]>) -> Option<String> {
    Some(blake3::hash(bytes.as_ref()).to_hex().to_string())
}

/// Hands out one byte at a time, so that every boundary between two reads is met.
pub(crate) struct OneByOne<'a>(pub(crate) &'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}
