//! Objects in formats that are read from front to back: Avro, CSV, NDJSON.
//!
//! They are read on a thread that may block, a part at a time and under their pins, and pass on what they hold through a
//! channel that is bounded. What their folders tell (hive partitions) is the same for all records of one.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use convoke_core::source::{SourceBatch, SplitItem, SplitStream};
use convoke_core::spec::ObjectFormat;
use convoke_core::{Origin, SourceError};
use convoke_formats::{CsvFormat, Delimiter, Encoding, FileFormat, FileReader, InputError};
use convoke_objects::{ObjectReader, Pin, Store, source_error};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::partitions::Partition;

/// Batches that wait for whoever takes them.
const ITEMS_IN_FLIGHT: usize = 4;

/// A format that is read from front to back.
#[derive(Clone, Debug)]
pub(crate) struct StreamFormat {
    format: Arc<FileFormat>,
    max_malformed: f64,
    /// For messages: `CSV`.
    word: &'static str,
}

impl StreamFormat {
    /// None: Parquet, which is not read so.
    pub(crate) fn of(format: &ObjectFormat) -> Result<Option<Self>, SourceError> {
        let (format, max_malformed, word) = match format {
            ObjectFormat::Parquet => return Ok(None),
            ObjectFormat::Avro { max_malformed } => (FileFormat::Avro, *max_malformed, "Avro"),
            ObjectFormat::Ndjson { max_malformed } => (FileFormat::Ndjson, *max_malformed, "NDJSON"),
            ObjectFormat::Csv(csv) => {
                let delimiter = match csv.delimiter {
                    None => Delimiter::Detected,
                    Some(delimiter) => Delimiter::Is(u8::try_from(delimiter).map_err(|_| no_delimiter(delimiter))?),
                };
                let encoding = Encoding::named(&csv.encoding).ok_or_else(|| no_encoding(&csv.encoding))?;
                let format = CsvFormat { delimiter, encoding, columns: None, aliases: csv.aliases.clone() };
                (FileFormat::Csv(format), csv.max_malformed, "CSV")
            }
        };
        Ok(Some(Self { format: Arc::new(format), max_malformed, word }))
    }

    pub(crate) fn word(&self) -> &'static str {
        self.word
    }

    fn reader(&self) -> FileReader<'_> {
        FileReader { format: &self.format, max_malformed: self.max_malformed }
    }

    /// The columns of an object. The inner error says why it is broken.
    pub(crate) async fn fields(&self, store: &Store, pin: &Pin) -> Result<Result<Fields, String>, SourceError> {
        let (format, input) = (self.clone(), store.reader(pin.clone()));
        let read = tokio::task::spawn_blocking(move || format.reader().schema(input)).await;
        let schema = read.map_err(ended)?.map_err(failed)?;
        Ok(schema.map(|schema| schema.fields().clone()))
    }

    /// Reads an object. `columns` are those that are to be read, without the ones in `constants`.
    pub(crate) fn stream(
        &self,
        store: &Store,
        pin: &Pin,
        columns: SchemaRef,
        constants: Vec<Partition>,
    ) -> SplitStream {
        let (sender, mut receiver) = mpsc::channel(ITEMS_IN_FLIGHT);
        let reading = Reading { format: self.clone(), columns, constants, fingerprint: pin.fingerprint() };
        let input = store.reader(pin.clone());
        // The thread ends by itself: at the end of the object, or when the stream is dropped.
        tokio::task::spawn_blocking(move || reading.run(input, &sender));
        futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
    }
}

/// One object being read.
struct Reading {
    format: StreamFormat,
    columns: SchemaRef,
    constants: Vec<Partition>,
    /// That of the pin.
    fingerprint: String,
}

type Items = mpsc::Sender<Result<SplitItem, SourceError>>;

impl Reading {
    fn run(&self, input: ObjectReader, items: &Items) {
        let mut take = |item| match items.blocking_send(Ok(self.placed(item))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        if let Err(error) = self.format.reader().read(input, Some(&self.columns), &mut take) {
            // A receiver that has gone needs no end.
            drop(items.blocking_send(Err(failed(error))));
        }
    }

    /// An item with what the place of the object tells.
    fn placed(&self, item: SplitItem) -> SplitItem {
        match item {
            SplitItem::Records(batch) => SplitItem::Records(with_constants(batch, &self.constants)),
            SplitItem::End { fingerprint } => {
                SplitItem::End { fingerprint: format!("{} {fingerprint}", self.fingerprint) }
            }
            other => other,
        }
    }
}

fn with_constants(batch: SourceBatch, constants: &[Partition]) -> SourceBatch {
    if constants.is_empty() {
        return batch;
    }
    let rows = batch.records.num_rows();
    let mut fields: Vec<Arc<Field>> = batch.records.schema_ref().fields().iter().cloned().collect();
    let mut columns: Vec<ArrayRef> = batch.records.columns().to_vec();
    for (name, value) in constants {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
        columns.push(match value {
            Some(value) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))),
            None => new_null_array(&DataType::Utf8, rows),
        });
    }
    let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .expect("a constant has as many rows as the batch, and a type that is its own");
    SourceBatch { records, ..batch }
}

fn failed(InputError(error): InputError) -> SourceError {
    source_error(error).unwrap_or_else(|error| {
        SourceError::new(Origin::External, "reading an object failed; try again").caused_by(error)
    })
}

fn ended(error: tokio::task::JoinError) -> SourceError {
    SourceError::new(Origin::Internal, "reading an object ended unexpectedly").caused_by(error)
}

fn no_delimiter(delimiter: char) -> SourceError {
    SourceError::new(Origin::User, format!("`delimiter` must be one ASCII character, not `{delimiter}`"))
}

fn no_encoding(encoding: &str) -> SourceError {
    let message =
        format!("`encoding: {encoding}` is not known; write `utf-8`, `utf-16le` or `windows-1252`, or `auto`");
    SourceError::new(Origin::User, message)
}
