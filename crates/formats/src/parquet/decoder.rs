//! Decodes a row group, and tells damage from a source that failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use convoke_core::{Origin, SourceError};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::errors::ParquetError;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source failed; it may be asked again.
    #[error("the file cannot be read")]
    Source(#[source] SourceError),
    /// The file's contents are not what its footer says, in a way that the text tells. It holds no values.
    #[error("{0}")]
    Damaged(String),
}

impl ReadError {
    pub(super) fn damaged(what: &str) -> Self {
        Self::Damaged(format!("its contents are damaged before the footer ({what}); write it again, whole"))
    }
}

/// Why the source failed: it does not pass through Parquet's errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<SourceError>>>);

impl Failure {
    pub(super) fn note(&self, cause: SourceError) -> ParquetError {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        ParquetError::General("the source failed".to_owned())
    }

    pub(super) fn interrupted(&self) -> ParquetError {
        self.note(SourceError::new(Origin::Internal, "reading was interrupted"))
    }

    pub(super) fn outside_contract(&self) -> ParquetError {
        self.note(SourceError::new(Origin::Internal, "the connector gave other bytes than it was asked for"))
    }

    pub(super) fn take(&self) -> Option<SourceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What an error of Parquet's reader comes from.
    pub(super) fn explain(&self, what: &str) -> ReadError {
        self.take().map_or_else(|| ReadError::damaged(what), ReadError::Source)
    }
}

/// Yields the batches of a row group. Ends after an error.
pub(super) struct Decoder {
    reader: Option<ParquetRecordBatchReader>,
    failure: Failure,
}

impl Decoder {
    /// Makes the reader, which may look at pages already.
    pub(super) fn new(
        failure: Failure,
        make: impl FnOnce() -> Result<ParquetRecordBatchReader, ParquetError>,
    ) -> Result<Self, ReadError> {
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(reader)) => Ok(Self { reader: Some(reader), failure }),
            Ok(Err(error)) => Err(failure.explain(&what_is_wrong(&error))),
            Err(_) => Err(failure.explain(STUMBLED)),
        }
    }

    pub(super) fn next_batch(&mut self) -> Option<Result<RecordBatch, ReadError>> {
        let reader = self.reader.as_mut()?;
        // Damaged contents can make the decoder panic, and must not end the process. It is not used again.
        let decoded = catch_unwind(AssertUnwindSafe(|| reader.next()));
        let error = match decoded {
            Ok(Some(Ok(batch))) => return Some(Ok(batch)),
            Ok(None) => {
                self.reader = None;
                return None;
            }
            Ok(Some(Err(error))) => self.failure.explain(&what_arrow_says(&error)),
            Err(_) => self.failure.explain(STUMBLED),
        };
        self.reader = None;
        Some(Err(error))
    }
}

const STUMBLED: &str = "the decoder stumbled over it";

/// What the reader says of a footer or a page is about its structure; there are no values in it.
pub(super) fn what_is_wrong(error: &ParquetError) -> String {
    let text = match error {
        ParquetError::General(text) | ParquetError::EOF(text) | ParquetError::NYI(text) => text.clone(),
        // What lies beneath may be text that was to be decoded.
        ParquetError::External(_) | ParquetError::ArrowError(_) => "a page cannot be decoded".to_owned(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn what_arrow_says(error: &arrow::error::ArrowError) -> String {
    match error {
        arrow::error::ArrowError::ParquetError(text) => {
            let text = text.lines().next().unwrap_or_default();
            text.strip_prefix("Parquet error: ").unwrap_or(text).to_owned()
        }
        _ => "a page cannot be decoded".to_owned(),
    }
}
