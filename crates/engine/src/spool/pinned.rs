//! Pinned Parquet: files of the source's own, read where they are.
//!
//! A pin gives the same bytes each time or fails, so such a file can be gone over twice without a copy. Its records are
//! numbered from 1 in the order of the file. What a file has in another type than the source's schema tells is cast, what it
//! lacks is NULL, and what its place tells (hive partitions) is the same for all its records.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use convoke_core::source::{PinnedFile, PinnedParquet};
use convoke_core::{Origin, SourceError};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::TypePtr;

use super::cast_exactly;
use crate::error::EngineError;

/// Bytes read from the end of a file in the hope that its footer is among them.
const FOOTER_GUESS: usize = 64 << 10;

/// A pinned file whose footer was read.
#[derive(Debug)]
pub(crate) struct PinnedSplit {
    name: String,
    file: Arc<dyn PinnedFile>,
    constants: Vec<(String, Option<String>)>,
    metadata: ArrowReaderMetadata,
    /// Why the source failed: it cannot pass through the query engine's errors.
    failure: Failure,
}

type Failure = Arc<Mutex<Option<SourceError>>>;

/// Batches of a row group with the columns that were asked for.
pub(crate) type GroupStream = BoxStream<'static, Result<RecordBatch, ParquetError>>;

impl PinnedSplit {
    /// Reads the footer. The inner error says why the file is broken.
    pub(crate) async fn open(name: &str, parquet: PinnedParquet) -> Result<Result<Self, String>, SourceError> {
        let PinnedParquet { file, constants } = parquet;
        let failure = Failure::default();
        let mut reader = PinReader { file: Arc::clone(&file), failure: Arc::clone(&failure) };
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = reader.get_metadata(Some(&options)).await;
        let metadata = metadata.and_then(with_wide_times);
        match metadata {
            Ok(metadata) => Ok(Ok(Self { name: name.to_owned(), file, constants, metadata, failure })),
            Err(error) => match take(&failure) {
                Some(cause) => Err(cause),
                None => {
                    Ok(Err(format!("it is no whole Parquet file ({}); write it again, whole", what_is_wrong(&error))))
                }
            },
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.size()
    }

    pub(crate) fn fingerprint(&self) -> &str {
        self.file.fingerprint()
    }

    pub(crate) fn constants(&self) -> &[(String, Option<String>)] {
        &self.constants
    }

    /// Whether the file or its place has this column.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.arrow_schema().column_with_name(name).is_some() || self.constants.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    pub(crate) fn arrow_schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Rows of each row group.
    pub(crate) fn group_rows(&self) -> impl Iterator<Item = u64> {
        self.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0))
    }

    /// Streams the columns of `wanted` that the file has, of all rows of a group or of those selected.
    pub(crate) fn group(
        &self,
        index: usize,
        wanted: &SchemaRef,
        selection: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<GroupStream, ParquetError> {
        let reader = PinReader { file: Arc::clone(&self.file), failure: Arc::clone(&self.failure) };
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata.clone());
        let schema = self.arrow_schema();
        let indices = wanted.fields().iter().filter_map(|field| schema.index_of(field.name()).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
        let builder = builder.with_projection(mask).with_row_groups(vec![index]).with_batch_size(batch_rows);
        let builder = match selection {
            Some(selection) => builder.with_row_selection(selection),
            None => builder,
        };
        Ok(builder.build()?.boxed())
    }

    /// Brings a batch of [`PinnedSplit::group`] to the types and order of `wanted`. A value that does not fit is an error:
    /// it must not look like an empty cell.
    pub(crate) fn adapt(&self, batch: &RecordBatch, wanted: &SchemaRef) -> Result<Vec<ArrayRef>, SourceError> {
        let rows = batch.num_rows();
        let adapted = wanted.fields().iter().map(|field| {
            let constant = || self.constants.iter().find(|(name, _)| name == field.name());
            let column = match (batch.column_by_name(field.name()), constant()) {
                (Some(column), _) => Arc::clone(column),
                (None, Some((_, Some(value)))) => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
                }
                (None, _) => return Ok(new_null_array(field.data_type(), rows)),
            };
            cast_exactly(&column, field.data_type()).ok_or_else(|| does_not_fit(field))
        });
        adapted.collect()
    }

    /// Why reading failed: the source, or the file's contents.
    pub(crate) fn explain(&self) -> EngineError {
        self.failed(take(&self.failure).unwrap_or_else(damaged))
    }

    /// The source's own failure, if that is why a query failed.
    pub(crate) fn take_failure(&self) -> Option<EngineError> {
        take(&self.failure).map(|cause| self.failed(cause))
    }

    /// Notes that the contents cannot be read, for [`PinnedSplit::take_failure`].
    pub(crate) fn note_damage(&self) {
        self.note(damaged());
    }

    /// Notes why reading failed, unless that is known already.
    pub(crate) fn note(&self, cause: SourceError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(cause);
    }

    /// An error that names this file.
    pub(crate) fn failed(&self, cause: SourceError) -> EngineError {
        EngineError::Source { split: self.name.clone(), cause }
    }
}

fn does_not_fit(field: &Field) -> SourceError {
    let message = format!(
        "column `{}` holds values that do not fit the type {}, which it has over all files; write it in one type",
        field.name(),
        field.data_type()
    );
    SourceError::new(Origin::User, message)
}

/// Reads times of the old form INT96 as microseconds: nanoseconds end in 2262, and "never" is often 9999.
fn with_wide_times(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone())?;
    let roots = metadata.file_metadata().schema_descr().root_schema().get_fields();
    let is_int96 = |root: &TypePtr| root.is_primitive() && root.get_physical_type() == PhysicalType::INT96;
    if !roots.iter().any(is_int96) {
        return Ok(plain);
    }
    let fields = plain.schema().fields().iter().zip(roots).map(|(field, root)| match is_int96(root) {
        true => field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None)),
        false => field.as_ref().clone(),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(metadata, options.with_schema(schema))
}

fn damaged() -> SourceError {
    SourceError::new(Origin::External, "its contents are damaged before the footer; write it again, whole")
}

fn take(failure: &Failure) -> Option<SourceError> {
    failure.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What the Parquet reader says of a footer: structure only, there are no values in it.
fn what_is_wrong(error: &ParquetError) -> String {
    match error {
        ParquetError::General(text) | ParquetError::EOF(text) | ParquetError::NYI(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Reads a pinned file for the Parquet reader.
struct PinReader {
    file: Arc<dyn PinnedFile>,
    failure: Failure,
}

impl PinReader {
    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        self.file.read(ranges).await.map_err(|error| {
            let message = error.message.clone();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            ParquetError::General(message)
        })
    }
}

impl AsyncFileReader for PinReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut read = self.ranges(&[range]).await?;
            read.pop().ok_or_else(|| ParquetError::General("the connector gave no bytes".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.ranges(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.file.size();
            let reader = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Skip)
                .with_prefetch_hint(Some(FOOTER_GUESS.min(usize::try_from(size).unwrap_or(FOOTER_GUESS))));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
