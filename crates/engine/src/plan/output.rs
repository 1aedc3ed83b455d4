//! Writes a plan's files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::SchemaRef;
use convoke_core::journal::Operation;
use convoke_core::plan::{ChangeSample, PlanContent, PlanFile};

use super::schema;
use crate::cell::CellProblem;
use crate::error::EngineError;
use crate::files::{self, Layout, ParquetWriter};
use crate::text_column::text_at;

/// Rows per row group; reading a plan back holds one group at most.
const GROUP_ROWS: usize = 16_384;
/// Rows gathered before they are written.
const BATCH_ROWS: usize = 4_096;
/// Changes of one kind that a person is shown.
const SAMPLES: usize = 5;

/// A change without its values.
#[derive(Clone, Copy)]
pub(super) struct ChangeHead<'a> {
    pub(super) key: &'a [u8],
    pub(super) content: &'a [u8],
    pub(super) order: &'a [u8],
    pub(super) row_id: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
}

type Cells<'a> = [Option<Cow<'a, str>>];

pub(super) struct Output {
    names: Vec<String>,
    creates: Table,
    updates: Table,
    deletes: Table,
    invalid: Table,
    samples: [Vec<ChangeSample>; 3],
}

impl Output {
    pub(super) fn new(folder: &Path, names: Vec<String>) -> Result<Self, EngineError> {
        let mapped = || names.iter().map(String::as_str);
        let changes = schema::changes(mapped());
        let table = |content, schema| Table::new(folder, content, schema);
        Ok(Self {
            creates: table(PlanContent::Changes(Operation::Create), Arc::clone(&changes))?,
            updates: table(PlanContent::Changes(Operation::Update), changes)?,
            deletes: table(PlanContent::Changes(Operation::Delete), schema::changes(std::iter::empty()))?,
            invalid: table(PlanContent::Invalid, schema::invalid(mapped()))?,
            samples: Default::default(),
            names,
        })
    }

    pub(super) fn create(&mut self, head: &ChangeHead<'_>, cells: &Cells<'_>) -> Result<(), EngineError> {
        self.sample(Operation::Create, head, cells);
        self.creates.push_change(head, cells)
    }

    pub(super) fn update(&mut self, head: &ChangeHead<'_>, cells: &Cells<'_>) -> Result<(), EngineError> {
        self.sample(Operation::Update, head, cells);
        self.updates.push_change(head, cells)
    }

    pub(super) fn delete(&mut self, head: &ChangeHead<'_>) -> Result<(), EngineError> {
        self.sample(Operation::Delete, head, &[]);
        self.deletes.push_change(head, &[])
    }

    pub(super) fn invalid(
        &mut self,
        origin: &str,
        problem: &CellProblem,
        cells: &[StringArray],
        row: usize,
    ) -> Result<(), EngineError> {
        let column = Some(problem.column.as_str()).filter(|name| !name.is_empty());
        let head = [Some(origin), Some(problem.code), column, Some(problem.reason)];
        self.invalid.push_text(head.into_iter().chain(cells.iter().map(|column| text_at(column, row))))
    }

    pub(super) fn malformed(&mut self, origin: &str, reason: &str) -> Result<(), EngineError> {
        let head = [Some(origin), Some("malformed"), None, Some(reason)];
        self.invalid.push_text(head.into_iter().chain(self.names.iter().map(|_| None)))
    }

    pub(super) fn finish(self) -> Result<(Vec<PlanFile>, Vec<ChangeSample>), EngineError> {
        let mut files = Vec::new();
        for table in [self.updates, self.creates, self.deletes, self.invalid] {
            files.extend(table.finish()?);
        }
        Ok((files, self.samples.into_iter().flatten().collect()))
    }

    fn sample(&mut self, operation: Operation, head: &ChangeHead<'_>, cells: &Cells<'_>) {
        let kept = &mut self.samples[operation as usize];
        if kept.len() == SAMPLES {
            return;
        }
        let pairs = self.names.iter().zip(cells);
        let cells = pairs.map(|(name, cell)| (name.clone(), cell.as_deref().map(str::to_owned))).collect();
        kept.push(ChangeSample { operation, origin: head.origin.map(str::to_owned), cells });
    }
}

/// One file of a plan; it exists only if it has rows.
struct Table {
    path: PathBuf,
    content: PlanContent,
    schema: SchemaRef,
    hashes: Vec<BinaryBuilder>,
    texts: Vec<StringBuilder>,
    gathered: usize,
    writer: Option<ParquetWriter>,
}

impl Table {
    fn new(folder: &Path, content: PlanContent, schema: SchemaRef) -> Result<Self, EngineError> {
        let path = folder.join(schema::file_name(content));
        files::remove(&path)?;
        let hashes = if content == PlanContent::Invalid { 0 } else { 3 };
        let texts = schema.fields().len() - hashes;
        Ok(Self {
            path,
            content,
            hashes: (0..hashes).map(|_| BinaryBuilder::new()).collect(),
            texts: (0..texts).map(|_| StringBuilder::new()).collect(),
            schema,
            gathered: 0,
            writer: None,
        })
    }

    fn push_change(&mut self, head: &ChangeHead<'_>, cells: &Cells<'_>) -> Result<(), EngineError> {
        for (builder, hash) in self.hashes.iter_mut().zip([head.key, head.content, head.order]) {
            builder.append_value(hash);
        }
        self.push_text([head.row_id, head.origin].into_iter().chain(cells.iter().map(Option::as_deref)))
    }

    fn push_text<'a>(&mut self, texts: impl Iterator<Item = Option<&'a str>>) -> Result<(), EngineError> {
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_option(text);
        }
        self.gathered += 1;
        if self.gathered == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        if self.gathered == 0 {
            return Ok(());
        }
        let hashes = self.hashes.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let texts = self.texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), hashes.chain(texts).collect());
        self.gathered = 0;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(ParquetWriter::create(
                &self.path,
                Arc::clone(&self.schema),
                GROUP_ROWS,
                Layout::Kept,
            )?),
        };
        writer.write(&batch.expect("the builders grow together"))
    }

    fn finish(mut self) -> Result<Option<PlanFile>, EngineError> {
        self.flush()?;
        let Some(writer) = self.writer else { return Ok(None) };
        let written = writer.finish()?;
        let name = schema::file_name(self.content).to_owned();
        Ok(Some(PlanFile { name, content: self.content, rows: written.rows, digest: written.digest }))
    }
}
