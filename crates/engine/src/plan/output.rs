//! Writes a plan's files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use convoke_core::RowId;
use convoke_core::journal::Operation;
use convoke_core::plan::{ChangeSample, PlanContent, PlanFile};

use super::schema::{self, CHANGE_COLUMNS};
use crate::cell::CellProblem;
use crate::error::EngineError;
use crate::files::{self, Layout, ParquetWriter};
use crate::text_column::text_at;

/// Rows per row group; reading a plan back holds one group at most.
const GROUP_ROWS: usize = 16_384;
/// Invalid records gathered before they are written.
const BATCH_ROWS: usize = 4_096;
/// Changes of one kind that a person is shown.
const SAMPLES: usize = 5;

pub(super) struct Output {
    names: Vec<String>,
    creates: Table,
    updates: Table,
    deletes: Table,
    confirmed: Table,
    invalid: InvalidTable,
    samples: [Vec<ChangeSample>; 3],
}

impl Output {
    pub(super) fn new(folder: &Path, names: Vec<String>) -> Result<Self, EngineError> {
        let mapped = || names.iter().map(String::as_str);
        let changes = schema::changes(mapped());
        let table = |operation, schema| Table::new(folder, PlanContent::Changes(operation), schema);
        Ok(Self {
            creates: table(Operation::Create, Arc::clone(&changes))?,
            updates: table(Operation::Update, changes)?,
            deletes: table(Operation::Delete, schema::changes(std::iter::empty()))?,
            confirmed: Table::new(folder, PlanContent::Confirmed, schema::changes(std::iter::empty()))?,
            invalid: InvalidTable::new(Table::new(folder, PlanContent::Invalid, schema::invalid(mapped()))?),
            samples: Default::default(),
            names,
        })
    }

    /// Writes changes of one kind; the batch has the columns of [`schema::changes`].
    pub(super) fn changes(&mut self, operation: Operation, changes: &RecordBatch) -> Result<(), EngineError> {
        self.sample(operation, changes);
        match operation {
            Operation::Create => self.creates.write(changes),
            Operation::Update => self.updates.write(changes),
            Operation::Delete => self.deletes.write(changes),
        }
    }

    /// Writes deletes; the batch has the columns of [`schema::NARROW`].
    pub(super) fn deletes(&mut self, narrow: &RecordBatch) -> Result<(), EngineError> {
        self.changes(Operation::Delete, &without_cells(narrow, &self.deletes.schema))
    }

    /// Writes confirmed records; the batch has the columns of [`schema::NARROW`].
    pub(super) fn confirmed(&mut self, narrow: &RecordBatch) -> Result<(), EngineError> {
        self.confirmed.write(&without_cells(narrow, &self.confirmed.schema))
    }

    pub(super) fn invalid(
        &mut self,
        (origin, key): (&str, Option<String>),
        problem: &CellProblem,
        cells: &[StringArray],
        row: usize,
    ) -> Result<(), EngineError> {
        let column = Some(problem.column.as_str()).filter(|name| !name.is_empty());
        let head = [Some(origin), key.as_deref(), Some(problem.code), column, Some(problem.reason)];
        self.invalid.push(head.into_iter().chain(cells.iter().map(|column| text_at(column, row))))
    }

    pub(super) fn malformed(&mut self, origin: &str, reason: &str) -> Result<(), EngineError> {
        let head = [Some(origin), None, Some("malformed"), None, Some(reason)];
        self.invalid.push(head.into_iter().chain(self.names.iter().map(|_| None)))
    }

    pub(super) fn finish(self) -> Result<(Vec<PlanFile>, Vec<ChangeSample>), EngineError> {
        let mut files = Vec::new();
        for table in [self.updates, self.creates, self.deletes] {
            files.extend(table.finish()?);
        }
        files.extend(self.confirmed.finish()?);
        files.extend(self.invalid.finish()?);
        Ok((files, self.samples.into_iter().flatten().collect()))
    }

    fn sample(&mut self, operation: Operation, changes: &RecordBatch) {
        let kept = &mut self.samples[operation as usize];
        for row in 0..changes.num_rows().min(SAMPLES - kept.len()) {
            let text = |column: &ArrayRef| text_at(column.as_string(), row).map(str::to_owned);
            let cells = self.names.iter().cloned().zip(changes.columns().iter().skip(CHANGE_COLUMNS).map(text));
            let (row_id, origin) = (text(changes.column(3)), text(changes.column(4)));
            kept.push(ChangeSample { operation, origin, row_id: row_id.map(RowId::new), cells: cells.collect() });
        }
    }
}

fn without_cells(narrow: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let origins = new_null_array(&DataType::Utf8, narrow.num_rows());
    let columns = narrow.columns()[2..].iter().cloned().chain([origins]).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).expect("the columns are of one length")
}

/// One file of a plan; it exists only if it has rows.
struct Table {
    path: PathBuf,
    content: PlanContent,
    schema: SchemaRef,
    writer: Option<ParquetWriter>,
}

impl Table {
    fn new(folder: &Path, content: PlanContent, schema: SchemaRef) -> Result<Self, EngineError> {
        let path = folder.join(schema::file_name(content));
        files::remove(&path)?;
        Ok(Self { path, content, schema, writer: None })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), EngineError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let schema = Arc::clone(&self.schema);
                self.writer.insert(ParquetWriter::create(&self.path, schema, GROUP_ROWS, Layout::Waiting)?)
            }
        };
        writer.write(batch)
    }

    fn finish(self) -> Result<Option<PlanFile>, EngineError> {
        let Some(writer) = self.writer else { return Ok(None) };
        let written = writer.finish()?;
        let name = schema::file_name(self.content).to_owned();
        Ok(Some(PlanFile { name, content: self.content, rows: written.rows, digest: written.digest }))
    }
}

/// The file of invalid records, which come one by one.
struct InvalidTable {
    table: Table,
    texts: Vec<StringBuilder>,
    gathered: usize,
}

impl InvalidTable {
    fn new(table: Table) -> Self {
        Self { texts: table.schema.fields().iter().map(|_| StringBuilder::new()).collect(), table, gathered: 0 }
    }

    fn push<'a>(&mut self, texts: impl Iterator<Item = Option<&'a str>>) -> Result<(), EngineError> {
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_option(text);
        }
        self.gathered += 1;
        if self.gathered == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.gathered = 0;
        let texts = self.texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let batch = RecordBatch::try_new(Arc::clone(&self.table.schema), texts.collect());
        self.table.write(&batch.expect("the builders grow together"))
    }

    fn finish(mut self) -> Result<Option<PlanFile>, EngineError> {
        self.flush()?;
        self.table.finish()
    }
}
