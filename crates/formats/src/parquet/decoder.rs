//! Decodes a row group, and tells damage from a source that failed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
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
pub(super) struct Failure {
    source: Arc<Mutex<Option<SourceError>>>,
    is_overflow: Arc<AtomicBool>,
}

impl Failure {
    pub(super) fn note(&self, cause: SourceError) -> ParquetError {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        ParquetError::General("the source failed".to_owned())
    }

    pub(super) fn interrupted(&self) -> ParquetError {
        self.note(SourceError::new(Origin::Internal, "reading was interrupted"))
    }

    pub(super) fn outside_contract(&self) -> ParquetError {
        self.note(outside_contract())
    }

    pub(super) fn take(&self) -> Option<SourceError> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the texts of a batch were too long for one array, which is no damage.
    pub(super) fn is_overflow(&self) -> bool {
        self.is_overflow.load(Ordering::Relaxed)
    }

    /// What an error of Parquet's reader comes from.
    pub(super) fn explain(&self, what: &str) -> ReadError {
        if what.contains(OVERFLOW) {
            self.is_overflow.store(true, Ordering::Relaxed);
        }
        self.take().map_or_else(|| ReadError::damaged(what), ReadError::Source)
    }
}

pub(super) fn outside_contract() -> SourceError {
    SourceError::new(Origin::Internal, "the connector gave other bytes than it was asked for")
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
            Err(panic) => Err(failure.explain(stumbled(&*panic))),
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
            Err(panic) => self.failure.explain(stumbled(&*panic)),
        };
        self.reader = None;
        Some(Err(error))
    }
}

/// How Parquet's reader says, in an error or a panic, that texts or bytes pass the 2 GiB that one array holds.
const OVERFLOW: &str = "index overflow decoding byte array";

const STUMBLED: &str = "the decoder stumbled over it";

/// What a panic of Parquet's reader means.
fn stumbled(panic: &(dyn Any + Send)) -> &'static str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    if text.is_some_and(|text| text.contains(OVERFLOW)) { OVERFLOW } else { STUMBLED }
}

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
