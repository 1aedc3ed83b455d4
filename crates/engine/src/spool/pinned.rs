//! Pinned Parquet: files of the source's own, read where they are.
//!
//! A pin gives the same bytes each time or fails, so such a file can be gone over twice without a copy. Its records are
//! numbered from 1 in the order of the file. What a file has in another type than the source's schema tells is cast, what it
//! lacks is NULL, and what its place tells (hive partitions) is the same for all its records.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{Field, SchemaRef};
use convoke_core::source::{PinnedFile, PinnedParquet};
use convoke_core::{Origin, SourceError};
use convoke_formats::parquet::{BatchStream, GroupRequest, ParquetFile, ReadError};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::RowSelection;

use super::cast_exactly;
use super::footers::Footers;
use crate::engine::BATCH_ROWS;
use crate::error::{DamagedSplit, EngineError};

/// Bytes of a pinned file that are held for each row group under way. Many columns share it: a request of a few hundred
/// kilobytes is long enough to be worth its latency.
pub(crate) const GROUP_BUDGET_BYTES: u64 = 16 << 20;

/// A pinned file whose footer was read. Of that, only what is needed of every file all the time is kept.
#[derive(Debug)]
pub(crate) struct PinnedSplit {
    name: String,
    file: Arc<dyn PinnedFile>,
    constants: Vec<(String, Option<String>)>,
    /// Rows of each row group.
    group_rows: Vec<u64>,
    footers: Arc<Footers>,
    /// The footer, as long as somebody holds it.
    footer: Mutex<Weak<ParquetFile>>,
    /// Why reading failed: it cannot pass through the query engine's errors.
    failure: Mutex<Option<ReadError>>,
}

impl PinnedSplit {
    /// Reads the footer, and tells the columns of the file. The inner error says why the file is broken.
    pub(crate) async fn open(
        name: &str,
        parquet: PinnedParquet,
        footers: &Arc<Footers>,
    ) -> Result<Result<(Self, SchemaRef), String>, SourceError> {
        let PinnedParquet { file, constants } = parquet;
        let opened = ParquetFile::open(Arc::clone(&file)).await?;
        let split = opened.map(|opened| {
            let footer = Arc::new(opened);
            footers.hold(&footer);
            let split = Self {
                name: name.to_owned(),
                file,
                constants,
                group_rows: footer.group_rows().collect(),
                footers: Arc::clone(footers),
                footer: Mutex::new(Arc::downgrade(&footer)),
                failure: Mutex::default(),
            };
            (split, Arc::clone(footer.schema()))
        });
        Ok(split.map_err(|reason| format!("it is no whole Parquet file ({reason}); write it again, whole")))
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

    /// Whether the place of the file tells this column.
    pub(crate) fn has_constant(&self, name: &str) -> bool {
        self.constants.iter().any(|(known, _)| known == name)
    }

    /// Rows of each row group.
    pub(crate) fn group_rows(&self) -> &[u64] {
        &self.group_rows
    }

    /// The footer, read again if nobody holds it any more.
    pub(crate) async fn footer(&self) -> Result<Arc<ParquetFile>, ReadError> {
        let held = self.footer.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(footer) = held {
            return Ok(footer);
        }
        let opened = ParquetFile::open(Arc::clone(&self.file)).await.map_err(ReadError::Source)?;
        let footer = Arc::new(opened.map_err(ReadError::Damaged)?);
        if !footer.group_rows().eq(self.group_rows.iter().copied()) {
            let message = "the footer is another one than it was, although the file is said to be the same";
            return Err(ReadError::Source(SourceError::changed(message)));
        }
        self.footers.hold(&footer);
        *self.footer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&footer);
        Ok(footer)
    }

    /// Streams the columns of `wanted` that the file has, of all rows of a group or of those selected.
    pub(crate) fn group(
        self: &Arc<Self>,
        group: usize,
        wanted: &SchemaRef,
        selection: Option<RowSelection>,
        budget_bytes: u64,
    ) -> BatchStream {
        let columns = wanted.fields().iter().map(|field| field.name().clone()).collect();
        let request = GroupRequest { group, columns, selection, batch_rows: BATCH_ROWS, budget_bytes };
        let split = Arc::clone(self);
        futures::stream::once(async move { Ok(split.footer().await?.read_group(request)) }).try_flatten().boxed()
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

    /// Reads these columns of every row group and keeps nothing; tells why that fails, if it does.
    pub(crate) async fn check(self: &Arc<Self>, wanted: &SchemaRef) -> Result<(), ReadError> {
        for group in 0..self.group_rows.len() {
            let mut batches = self.group(group, wanted, None, GROUP_BUDGET_BYTES);
            while let Some(batch) = batches.next().await {
                batch?;
            }
        }
        Ok(())
    }

    /// Notes why reading failed, unless that is known already.
    pub(crate) fn note(&self, cause: ReadError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(cause);
    }

    /// Why a query failed, if it did for this file.
    pub(crate) fn take_failure(&self) -> Option<EngineError> {
        let noted = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        noted.map(|cause| self.failed(cause))
    }

    /// An error that names this file.
    pub(crate) fn failed(&self, cause: ReadError) -> EngineError {
        match cause {
            ReadError::Source(cause) => EngineError::Source { split: self.name.clone(), cause },
            ReadError::Damaged(reason) => EngineError::DamagedSplits(vec![self.damaged(reason)]),
        }
    }

    pub(crate) fn damaged(&self, reason: String) -> DamagedSplit {
        DamagedSplit { split: self.name.clone(), reason }
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

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Schema};
    use async_trait::async_trait;
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// A file in memory that counts how often its end is read.
    #[derive(Debug)]
    struct CountedFile {
        contents: Bytes,
        end_reads: AtomicUsize,
    }

    #[async_trait]
    impl PinnedFile for CountedFile {
        fn size(&self) -> u64 {
            self.contents.len() as u64
        }

        fn fingerprint(&self) -> &str {
            "print"
        }

        async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError> {
            let is_end = |range: &&Range<u64>| range.end == self.size();
            self.end_reads.fetch_add(ranges.iter().filter(is_end).count(), Ordering::Relaxed);
            let read = ranges.iter().map(|range| self.contents.slice(range.start as usize..range.end as usize));
            Ok(read.collect())
        }
    }

    fn file() -> Arc<CountedFile> {
        let numbers = Arc::new(Int64Array::from_iter_values(0..10)) as ArrayRef;
        let records = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), records.schema(), None).unwrap();
        writer.write(&records).unwrap();
        let contents = Bytes::from(writer.into_inner().unwrap());
        Arc::new(CountedFile { contents, end_reads: AtomicUsize::new(0) })
    }

    async fn opened(files: &[Arc<CountedFile>], footers: &Arc<Footers>) -> Vec<Arc<PinnedSplit>> {
        let mut splits = Vec::new();
        for file in files {
            let file = Arc::clone(file) as Arc<dyn PinnedFile>;
            let opened = PinnedSplit::open("a", PinnedParquet { file, constants: Vec::new() }, footers).await;
            splits.push(Arc::new(opened.unwrap().unwrap().0));
        }
        splits
    }

    async fn rows(split: &Arc<PinnedSplit>) -> usize {
        let wanted = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let batches = split.group(0, &wanted, None, GROUP_BUDGET_BYTES);
        batches.fold(0, |rows, batch| async move { rows + batch.unwrap().num_rows() }).await
    }

    fn held(splits: &[Arc<PinnedSplit>]) -> usize {
        splits.iter().filter(|split| split.footer.lock().unwrap().strong_count() > 0).count()
    }

    #[tokio::test]
    async fn footers_take_no_more_room_than_there_is_and_are_read_again_when_they_are_needed() {
        let one = opened(&[file()], &Arc::default()).await;
        let footer_bytes = one[0].footer().await.unwrap().metadata().memory_size();
        let footers = Arc::new(Footers::holding(footer_bytes * 3));
        let files: Vec<_> = (0..20).map(|_| file()).collect();
        let splits = opened(&files, &footers).await;
        assert_eq!(held(&splits), 3);
        let end_reads = |index: usize| files[index].end_reads.load(Ordering::Relaxed);
        for split in [&splits[19], &splits[0], &splits[0]] {
            assert_eq!(rows(split).await, 10);
        }
        assert_eq!((end_reads(19), end_reads(0), held(&splits)), (1, 2, 3));
        // Without room for any, each reader has its own.
        let splits = opened(&files[..2], &Arc::new(Footers::holding(0))).await;
        assert_eq!((held(&splits), rows(&splits[0]).await, held(&splits)), (0, 10, 0));
    }
}
