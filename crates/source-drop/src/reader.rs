//! Reads one file of the folder, as it was when it was listed or not at all. Runs on a blocking thread.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::SourceError;
use convoke_core::source::SplitItem;
use convoke_formats::{FileFormat, FileReader, InputError};
use tokio::sync::mpsc::Sender;

use crate::file::DroppedFile;
use crate::storage::{Storage, cannot_read};

/// One file to be read.
pub(crate) struct DroppedReader {
    pub(crate) storage: Arc<dyn Storage>,
    /// The file as it was listed.
    pub(crate) file: DroppedFile,
    pub(crate) format: FileFormat,
    pub(crate) max_malformed: f64,
}

type Items = Sender<Result<SplitItem, SourceError>>;

impl DroppedReader {
    /// Reads the names of the columns. The inner error says why the file is broken.
    pub(crate) fn columns(&self) -> Result<Result<Vec<String>, String>, SourceError> {
        let schema = self.reader().schema(self.open()?).map_err(|error| self.cannot_read(error))?;
        Ok(schema.map(|schema| schema.fields().iter().map(|field| field.name().clone()).collect()))
    }

    /// Reads the whole file and passes its items on; ends early if nobody listens.
    pub(crate) fn run(&self, items: &Items) {
        if let Err(error) = self.read(items) {
            // A receiver that has gone needs no end.
            let _ = items.blocking_send(Err(error));
        }
    }

    fn read(&self, items: &Items) -> Result<(), SourceError> {
        self.check_unchanged()?;
        let mut last = None;
        let mut take = |item| match item {
            SplitItem::Records(_) | SplitItem::Malformed(_) => match items.blocking_send(Ok(item)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            SplitItem::End { .. } | SplitItem::Broken { .. } => {
                last = Some(item);
                ControlFlow::Break(())
            }
        };
        self.reader().read(self.open()?, None, &mut take).map_err(|error| self.cannot_read(error))?;
        if let Some(item) = last {
            self.check_unchanged()?;
            // A receiver that has gone needs no end.
            let _ = items.blocking_send(Ok(item));
        }
        Ok(())
    }

    fn reader(&self) -> FileReader<'_> {
        FileReader { format: &self.format, max_malformed: self.max_malformed }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>, SourceError> {
        self.storage.open(&self.file)
    }

    fn cannot_read(&self, InputError(error): InputError) -> SourceError {
        cannot_read(&self.shown(), error)
    }

    /// Refuses a file that is not, or no longer, the one that was listed: what its writer has not finished may look
    /// broken, and that is no reason to quarantine it.
    fn check_unchanged(&self) -> Result<(), SourceError> {
        if self.storage.is_pinned(&self.file) {
            return Ok(());
        }
        match self.storage.look(self.file.place, &self.file.name)? {
            Some(found) if self.file.identity.is_moved(&found) => Ok(()),
            Some(_) => Err(SourceError::changed(format!(
                "`{}` changed while it was read; run again when it is complete, or raise `settle`",
                self.shown()
            ))),
            None => Err(SourceError::changed(format!("`{}` went away; run again", self.shown()))),
        }
    }

    /// How the file is called in messages.
    pub(crate) fn shown(&self) -> String {
        self.storage.shown(self.file.place, &self.file.name)
    }
}

/// The schema of a file with these columns.
pub(crate) fn schema_of(columns: &[String]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()))
}
