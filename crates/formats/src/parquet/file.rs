//! A file whose footer was read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use convoke_core::SourceError;
use convoke_core::source::PinnedFile;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataBuilder};

use super::decoder::{Failure, ReadError, what_is_wrong};
use super::{footer, types};

/// A pinned Parquet file whose footer was read.
#[derive(Debug)]
pub struct ParquetFile {
    pub(super) file: Arc<dyn PinnedFile>,
    pub(super) metadata: ArrowReaderMetadata,
    told: SchemaRef,
}

impl ParquetFile {
    /// Reads the footer. The inner error says what is wrong with the file; it holds no values.
    pub async fn open(file: Arc<dyn PinnedFile>) -> Result<Result<Self, String>, SourceError> {
        let read = footer::read(&file).await?;
        Ok(read.and_then(|metadata| {
            footer::check(&metadata, file.size())?;
            // A schema may be one that the reader did not expect.
            match catch_unwind(AssertUnwindSafe(|| Self::new(file, metadata))) {
                Ok(opened) => opened.map_err(|error| what_is_wrong(&error)),
                Err(_) => Err("its schema cannot be read".to_owned()),
            }
        }))
    }

    fn new(file: Arc<dyn PinnedFile>, metadata: ParquetMetaData) -> Result<Self, ParquetError> {
        let told = types::told_schema(&metadata)?;
        Ok(Self { file, metadata: types::reader_metadata(Arc::new(metadata))?, told })
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// Identifies the contents.
    pub fn fingerprint(&self) -> &str {
        self.file.fingerprint()
    }

    /// What the footer says.
    pub fn metadata(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    /// The columns, in the types in which they are told.
    pub fn schema(&self) -> &SchemaRef {
        &self.told
    }

    /// Records of each row group.
    pub fn group_rows(&self) -> impl Iterator<Item = u64> {
        self.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0))
    }

    /// The columns of these names, with all that is in them.
    pub(super) fn mask_of(&self, names: &[String]) -> ProjectionMask {
        let schema = self.metadata().file_metadata().schema_descr();
        // By the file's own roots: one without any column in it is none of ours.
        let roots = schema.root_schema().get_fields().iter().enumerate();
        let wanted = roots.filter(|(_, root)| names.iter().any(|name| name == root.name()));
        ProjectionMask::roots(schema, wanted.map(|(index, _)| index))
    }

    /// What the reader needs for one row group with the places of its pages; none if it does not have them.
    pub(super) async fn with_page_places(&self, index: usize) -> Result<Option<ArrowReaderMetadata>, SourceError> {
        let group = self.metadata().row_group(index);
        if group.columns().iter().any(|column| column.offset_index_offset().is_none()) {
            return Ok(None);
        }
        let alone = ParquetMetaDataBuilder::new(self.metadata().file_metadata().clone()).add_row_group(group.clone());
        let failure = Failure::default();
        let read = footer::read_page_places(alone.build(), &self.file, &failure).await;
        if let Some(cause) = failure.take() {
            return Err(cause);
        }
        // Without places that can be relied on, the group is read through.
        let usable = read.ok().filter(has_sound_places);
        Ok(usable.and_then(|metadata| types::reader_metadata(Arc::new(metadata)).ok()))
    }

    /// Brings a batch to the types in which columns are told.
    pub(super) fn as_told(&self, batch: RecordBatch) -> Result<RecordBatch, ReadError> {
        let read = batch.schema();
        let mut fields = Vec::with_capacity(read.fields().len());
        let mut columns = Vec::with_capacity(read.fields().len());
        for (column, field) in batch.columns().iter().zip(read.fields()) {
            let told =
                self.told.field_with_name(field.name()).map_err(|_| ReadError::damaged("a column is missing"))?;
            fields.push(Arc::new(told.clone()));
            columns.push(types::as_told(column, told.data_type()).map_err(|_| ReadError::damaged("a column is odd"))?);
        }
        if columns.is_empty() {
            return Ok(batch);
        }
        let told = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        told.map_err(|_| ReadError::damaged("its columns do not fit together"))
    }
}

/// Whether the places of a group's pages make sense: in order, each within its column, the first with the first record.
fn has_sound_places(metadata: &ParquetMetaData) -> bool {
    let Some([places]) = metadata.offset_index().map(Vec::as_slice) else { return false };
    let group = metadata.row_group(0);
    places.len() == group.num_columns()
        && places.iter().zip(group.columns()).all(|(places, column)| {
            let Some(range) = footer::range_of(column) else { return false };
            let pages = places.page_locations();
            let within = pages.iter().all(|page| {
                let (start, length) = (u64::try_from(page.offset), u64::try_from(page.compressed_page_size));
                let end = start.ok().zip(length.ok()).and_then(|(start, length)| start.checked_add(length));
                end.is_some_and(|end| page.offset.cast_unsigned() >= range.start && end <= range.end)
            });
            let follow = |pair: &[parquet::file::page_index::offset_index::PageLocation]| {
                pair[0].first_row_index < pair[1].first_row_index
                    && pair[0].offset + i64::from(pair[0].compressed_page_size) <= pair[1].offset
            };
            within
                && pages.windows(2).all(follow)
                && pages.first().is_none_or(|page| page.first_row_index == 0)
                && pages.last().is_none_or(|page| page.first_row_index < group.num_rows())
        })
}
