//! Reads one file into Arrow batches. Runs on a blocking thread.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayBuilder, ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use convoke_core::SourceError;
use convoke_core::source::{MalformedRecord, SourceBatch, SplitItem};
use tokio::sync::mpsc::Sender;

use crate::file::Identity;
use crate::header::Aliases;
use crate::moving::cannot;
use crate::records::{Next, Records};

/// A batch is passed on once its cells take this many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or once it has this many records, so that narrow files make no long batches.
const BATCH_RECORDS: usize = 16_384;

/// One file to be read.
pub(crate) struct FileReader {
    pub(crate) path: PathBuf,
    /// What the file was when it was listed.
    pub(crate) identity: Identity,
    pub(crate) delimiter: u8,
    pub(crate) aliases: Aliases,
    pub(crate) max_malformed: f64,
}

/// Why reading stopped early.
enum Stop {
    Error(SourceError),
    /// Nobody listens any more.
    Unheard,
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Error(error)
    }
}

/// What was seen of a file.
#[derive(Default)]
struct Tally {
    records: u64,
    malformed: u64,
    /// The first malformed records: what to tell of a file that is quarantined for them.
    first_malformed: Vec<MalformedRecord>,
}

/// Malformed records that are named in the reason of a quarantine.
const NAMED_MALFORMED: usize = 3;

/// A file read as far as its header, and the names of its columns.
type Started = (Records<File>, Vec<String>);

type Items = Sender<Result<SplitItem, SourceError>>;

impl FileReader {
    /// Reads the names of the columns. The inner error says why the file is broken.
    pub(crate) fn columns(&self) -> Result<Result<Vec<String>, String>, SourceError> {
        Ok(self.start()?.map(|(_, columns)| columns))
    }

    /// Reads the whole file and passes its items on; ends early if nobody listens.
    pub(crate) fn run(&self, items: &Items) {
        let end = match self.read(items) {
            Ok(item) => Ok(item),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Unheard) => return,
        };
        // A receiver that has gone needs no end.
        let _ = items.blocking_send(end);
    }

    /// Tells the last item.
    fn read(&self, items: &Items) -> Result<SplitItem, Stop> {
        self.check_unchanged()?;
        let broken = |reason| Ok(SplitItem::Broken { reason });
        let (mut records, columns) = match self.start()? {
            Ok(started) => started,
            Err(reason) => {
                self.check_unchanged()?;
                return broken(reason);
            }
        };
        let tally = match self.pass_records(&mut records, &columns, items)? {
            Ok(tally) => tally,
            Err(reason) => return broken(reason),
        };
        if tally.malformed as f64 > self.max_malformed * tally.records as f64 {
            let Tally { records, malformed, first_malformed } = tally;
            let named = first_malformed.iter().map(|record| format!("line {}: {}", record.position, record.reason));
            return broken(format!(
                "{malformed} of {records} records are malformed, more than `max_malformed` allows; first: {}",
                named.collect::<Vec<_>>().join("; ")
            ));
        }
        Ok(SplitItem::End { fingerprint: records.fingerprint() })
    }

    /// Passes on everything behind the header. The inner error says why the file is broken.
    fn pass_records(
        &self,
        records: &mut Records<File>,
        columns: &[String],
        items: &Items,
    ) -> Result<Result<Tally, String>, Stop> {
        let mut batch = Batch::new(columns);
        let mut tally = Tally::default();
        let reason = loop {
            let (next, cell_count) = records.advance().map_err(|error| cannot("read", &self.path, error))?;
            let line = match next {
                Next::Record { line } => line,
                Next::End => break None,
                Next::Broken(reason) => break Some(reason),
            };
            tally.records += 1;
            if let Err(reason) = batch.push(records, cell_count, line) {
                // A record with cells to spare is wrong in itself; one that ends early is half a file.
                if records.is_cut() && cell_count <= columns.len() {
                    break Some(format!(
                        "the file ends in the middle of the record at line {line} ({reason}); drop it again, whole"
                    ));
                }
                tally.malformed += 1;
                let record = MalformedRecord { position: line, reason };
                if tally.first_malformed.len() < NAMED_MALFORMED {
                    tally.first_malformed.push(record.clone());
                }
                send(items, SplitItem::Malformed(record))?;
            }
            if batch.is_full() {
                send(items, SplitItem::Records(batch.take(records.bytes_read())))?;
            }
        };
        self.check_unchanged()?;
        if let Some(reason) = reason {
            return Ok(Err(reason));
        }
        if !batch.positions.is_empty() {
            send(items, SplitItem::Records(batch.take(records.bytes_read())))?;
        }
        Ok(Ok(tally))
    }

    /// Opens the file and reads its header. The inner error says why the file is broken.
    fn start(&self) -> Result<Result<Started, String>, SourceError> {
        let cannot_read = |error| cannot("read", &self.path, error);
        let file = File::open(&self.path).map_err(|error| cannot("open", &self.path, error))?;
        let mut records = match Records::start(file, self.delimiter).map_err(cannot_read)? {
            Ok(records) => records,
            Err(reason) => return Ok(Err(reason)),
        };
        let (next, cell_count) = records.advance().map_err(cannot_read)?;
        let columns = match next {
            Next::End => Err("the file is empty: it has not even a header".to_owned()),
            Next::Broken(reason) => Err(reason),
            Next::Record { .. } if records.has_stray_text() => {
                Err("the header has text behind a closing quote; is a quote missing?".to_owned())
            }
            Next::Record { .. } => self.aliases.column_names(records.cells(cell_count)),
        };
        Ok(columns.map(|columns| (records, columns)))
    }

    /// Refuses a file that is not, or no longer, the one that was listed: what its writer has not finished may look
    /// broken, and that is no reason to quarantine it.
    fn check_unchanged(&self) -> Result<(), SourceError> {
        let metadata = fs::metadata(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => SourceError::changed(format!("`{}` went away; run again", self.path.display())),
            _ => cannot("look at", &self.path, error),
        })?;
        if self.identity.is_moved(&Identity::of(&metadata)) {
            return Ok(());
        }
        let message = format!(
            "`{}` changed while it was read; run again when it is complete, or raise `settle`",
            self.path.display()
        );
        Err(SourceError::changed(message))
    }
}

/// Finishes a column; the next batch of it will be about as large.
fn finish(builder: &mut StringBuilder) -> ArrayRef {
    let next = StringBuilder::with_capacity(builder.len(), builder.values_slice().len());
    Arc::new(std::mem::replace(builder, next).finish())
}

fn send(items: &Items, item: SplitItem) -> Result<(), Stop> {
    items.blocking_send(Ok(item)).map_err(|_| Stop::Unheard)
}

/// The schema of a file with these columns.
pub(crate) fn schema_of(columns: &[String]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

/// The batch under way.
struct Batch {
    schema: SchemaRef,
    builders: Vec<StringBuilder>,
    positions: Vec<u64>,
    bytes: usize,
}

impl Batch {
    fn new(columns: &[String]) -> Self {
        let builders = columns.iter().map(|_| StringBuilder::new()).collect();
        Self { schema: schema_of(columns), builders, positions: Vec::new(), bytes: 0 }
    }

    /// Appends a record; the error says what is wrong with it and never shows a value.
    fn push(&mut self, records: &Records<File>, cell_count: usize, line: u64) -> Result<(), String> {
        let expected = self.builders.len();
        if records.has_stray_text() {
            return Err("text behind a closing quote, so a quote may be missing and lines may run together".to_owned());
        }
        if cell_count != expected {
            return Err(format!("{cell_count} fields where the header has {expected}"));
        }
        let not_text = || "bytes that are not UTF-8".to_owned();
        let (bytes, ends) = records.joined(cell_count);
        let text = std::str::from_utf8(bytes).map_err(|_| not_text())?;
        // Two cells may join to valid text although each ends within a character.
        if !text.is_ascii() && !ends.iter().all(|end| text.is_char_boundary(*end)) {
            return Err(not_text());
        }
        let mut start = 0;
        for (builder, &end) in self.builders.iter_mut().zip(ends) {
            match &text[start..end] {
                "" => builder.append_null(),
                cell => builder.append_value(cell),
            }
            start = end;
        }
        self.bytes += text.len();
        self.positions.push(line);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.positions.len() >= BATCH_RECORDS
    }

    fn take(&mut self, bytes_read: u64) -> SourceBatch {
        let arrays: Vec<ArrayRef> = self.builders.iter_mut().map(finish).collect();
        let records = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .expect("each record puts one cell into every column");
        self.bytes = 0;
        SourceBatch { records, positions: std::mem::take(&mut self.positions), bytes_read }
    }
}
