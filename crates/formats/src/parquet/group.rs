//! Reads one row group as batches.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy,
};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::batching::{Batching, rows_at_once};
use super::chunks::{Chunk, GroupChunks};
use super::decoder::{Decoder, Failure, ReadError, outside_contract};
use super::file::ParquetFile;
use super::footer::range_of;
use super::window::{Feed, Piece, Window};

/// Bytes that one request of a window asks for at least: below, the time of a request is mostly its latency.
const SMALLEST_PIECE: u64 = 128 << 10;

/// A page larger than this is not believed, unless its column is as large.
const LARGEST_PAGE: u64 = 64 << 20;

/// Batches that are decoded before they are asked for.
const BATCHES_AHEAD: usize = 1;

/// What is to be read of a row group.
#[derive(Clone, Debug)]
pub struct GroupRequest {
    /// Number of the row group, counted from 0.
    pub group: usize,
    /// Columns; those that the file lacks are passed over.
    pub columns: Vec<String>,
    /// The records; none for all.
    pub selection: Option<RowSelection>,
    /// Records of a batch at most; there are fewer in it where they are long.
    pub batch_rows: usize,
    /// Bytes of the file that are held at once, beside the pages that are being decoded.
    pub budget_bytes: u64,
}

/// Batches of a row group, in order, with the columns that were asked for and are there, in the file's order.
/// Ends after an error.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, ReadError>>;

impl ParquetFile {
    /// Reads a row group. The stream has to be polled within a runtime; a group that exceeds the budget is decoded on a
    /// thread of its own.
    pub fn read_group(self: &Arc<Self>, request: GroupRequest) -> BatchStream {
        let group = self.metadata().row_group(request.group);
        let batch_rows = request.batch_rows.min(rows_at_once(group, &self.mask_of(&request.columns)));
        Batching::new(Arc::clone(self), GroupRequest { batch_rows, ..request }).batches()
    }

    pub(super) async fn open_group(
        self: Arc<Self>,
        request: GroupRequest,
        failure: Failure,
    ) -> Result<BatchStream, ReadError> {
        let group = self.metadata().row_group(request.group);
        let rows = match &request.selection {
            Some(selection) => selection.row_count(),
            None => usize::try_from(group.num_rows()).unwrap_or(0),
        };
        let mask = self.mask_of(&request.columns);
        let places = match &request.selection {
            Some(_) if wanted_bytes(group, &mask) > 0 => {
                self.with_page_places(request.group).await.map_err(ReadError::Source)?
            }
            _ => None,
        };
        let wanted = wanted_columns(group, &mask, request.selection.as_ref(), places.as_ref());
        let total: u64 = wanted.iter().map(Wanted::bytes).sum();
        let fits = total <= request.budget_bytes;
        let chunks = if fits {
            self.fetch_whole(wanted).await?
        } else {
            self.fetch_windows(wanted, request.budget_bytes, &failure).await?
        };
        let decoding = Decoding { metadata: self.metadata.clone(), places, mask, request, chunks };
        let decoded = if fits { in_place(decoding.decoder(failure)?) } else { on_thread(decoding, failure)? };
        let counted = complete(decoded, rows);
        Ok(counted.map(move |batch| batch.and_then(|batch| self.as_told(batch))).boxed())
    }

    async fn fetch_whole(&self, wanted: Vec<Wanted>) -> Result<Vec<Chunk>, ReadError> {
        let ranges: Vec<_> = wanted.iter().flat_map(|column| column.ranges.iter().cloned()).collect();
        let mut pieces = self.fetch(&ranges).await?.into_iter();
        let chunks = wanted.into_iter().map(|column| {
            let held = pieces.by_ref().take(column.ranges.len()).collect();
            column.chunk(Window::whole(held))
        });
        Ok(chunks.collect())
    }

    async fn fetch_windows(
        &self,
        wanted: Vec<Wanted>,
        budget_bytes: u64,
        failure: &Failure,
    ) -> Result<Vec<Chunk>, ReadError> {
        let total: u64 = wanted.iter().map(Wanted::bytes).sum();
        let piece_bytes = |column: &Wanted| {
            // One piece is decoded while the next is under way. All columns use theirs up at about the same time.
            let share = u128::from(column.bytes()) * u128::from(budget_bytes / 2) / u128::from(total.max(1));
            u64::try_from(share).unwrap_or(u64::MAX).max(SMALLEST_PIECE)
        };
        let mut cut: Vec<_> = wanted.into_iter().map(|column| (piece_bytes(&column), column)).collect();
        let firsts = cut.iter_mut().map(|(piece_bytes, column)| column.take_first(*piece_bytes));
        let firsts: Vec<_> = firsts.collect();
        let pieces = self.fetch(&firsts).await?;
        let runtime = Handle::current();
        let chunks = cut.into_iter().zip(pieces).map(|((piece_bytes, mut column), first)| {
            let feed = Feed {
                file: Arc::clone(&self.file),
                runtime: runtime.clone(),
                failure: failure.clone(),
                rest: std::mem::take(&mut column.ranges),
                piece_bytes,
                ahead: None,
            };
            column.chunk(Window::fed(first, feed))
        });
        Ok(chunks.collect())
    }

    async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Piece>, ReadError> {
        let read = self.file.read(ranges).await.map_err(ReadError::Source)?;
        let fits = |(range, bytes): (&Range<u64>, &Bytes)| range.end - range.start == bytes.len() as u64;
        if read.len() != ranges.len() || !ranges.iter().zip(&read).all(fits) {
            return Err(ReadError::Source(outside_contract()));
        }
        Ok(ranges.iter().zip(read).map(|(range, bytes)| Piece { start: range.start, bytes }).collect())
    }
}

/// A column of the group, and what of it is to be read.
struct Wanted {
    whole: Range<u64>,
    /// In the order of the file.
    ranges: VecDeque<Range<u64>>,
    largest_page: u64,
}

impl Wanted {
    fn new(column: &ColumnChunkMetaData, ranges: VecDeque<Range<u64>>) -> Self {
        let uncompressed = u64::try_from(column.uncompressed_size()).unwrap_or(0);
        let whole = range_of(column).unwrap_or(0..0);
        Self { whole, ranges, largest_page: uncompressed.saturating_mul(2).max(LARGEST_PAGE) }
    }

    fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Takes the first piece out of what is to be read.
    fn take_first(&mut self, piece_bytes: u64) -> Range<u64> {
        let Some(front) = self.ranges.front_mut() else { return self.whole.start..self.whole.start };
        let first = front.start..front.end.min(front.start.saturating_add(piece_bytes));
        front.start = first.end;
        if front.is_empty() {
            self.ranges.pop_front();
        }
        first
    }

    fn chunk(self, window: Window) -> Chunk {
        Chunk { range: self.whole, window: Arc::new(window), largest_page: self.largest_page }
    }
}

fn wanted_bytes(group: &RowGroupMetaData, mask: &ProjectionMask) -> u64 {
    let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
    columns.filter_map(|(_, column)| range_of(column)).map(|range| range.end - range.start).sum()
}

/// The columns with the parts that have to be read: all of them, or the pages that hold a selected record.
fn wanted_columns(
    group: &RowGroupMetaData,
    mask: &ProjectionMask,
    selection: Option<&RowSelection>,
    places: Option<&ArrowReaderMetadata>,
) -> Vec<Wanted> {
    let pages = places.and_then(|metadata| metadata.metadata().offset_index()).and_then(|groups| groups.first());
    let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
    let wanted = columns.filter_map(|(leaf, column)| {
        let whole = range_of(column)?;
        let ranges = match (selection, pages.and_then(|pages| pages.get(leaf))) {
            (Some(selection), Some(pages)) => {
                let pages = pages.page_locations();
                let first_page = pages.first().and_then(|page| u64::try_from(page.offset).ok());
                // What lies before the first page is its dictionary.
                let dictionary = whole.start..first_page.unwrap_or(whole.start);
                std::iter::once(dictionary).chain(selection.scan_ranges(pages)).collect()
            }
            _ => VecDeque::from([whole]),
        };
        let ranges = ranges.into_iter().filter(|range: &Range<u64>| !range.is_empty()).collect();
        Some(Wanted::new(column, ranges))
    });
    wanted.collect()
}

/// All that a decoder is made from.
struct Decoding {
    metadata: ArrowReaderMetadata,
    places: Option<ArrowReaderMetadata>,
    mask: ProjectionMask,
    request: GroupRequest,
    chunks: Vec<Chunk>,
}

impl Decoding {
    fn decoder(self, failure: Failure) -> Result<Decoder, ReadError> {
        Decoder::new(failure, move || {
            let chunks = GroupChunks::new(self.chunks);
            // With the places of pages there is one group only, and what lies between selected records may not be there.
            let (metadata, group, policy) = match self.places {
                Some(alone) => (alone, 0, RowSelectionPolicy::Selectors),
                None => (self.metadata, self.request.group, RowSelectionPolicy::default()),
            };
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata)
                .with_projection(self.mask)
                .with_row_groups(vec![group])
                .with_row_selection_policy(policy)
                .with_batch_size(self.request.batch_rows);
            match self.request.selection {
                Some(selection) => builder.with_row_selection(selection).build(),
                None => builder.build(),
            }
        })
    }
}

fn in_place(mut decoder: Decoder) -> BatchStream {
    futures::stream::iter(std::iter::from_fn(move || decoder.next_batch())).boxed()
}

fn on_thread(decoding: Decoding, failure: Failure) -> Result<BatchStream, ReadError> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let work = move || {
        let mut decoder = match decoding.decoder(failure) {
            Ok(decoder) => decoder,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        // Nobody takes it any more once the stream was dropped.
        while let Some(batch) = decoder.next_batch() {
            if sender.blocking_send(batch).is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("parquet".to_owned()).spawn(work);
    started.map_err(|cause| {
        let origin = convoke_core::Origin::External;
        let error = convoke_core::SourceError::new(origin, "no thread can be started to read the file");
        ReadError::Source(error.caused_by(cause))
    })?;
    Ok(futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
        .boxed())
}

/// The batches, and an error where there are fewer records than there should be, or more.
fn complete(batches: BatchStream, rows: usize) -> BatchStream {
    let counted = futures::stream::unfold(Some((batches, rows)), |state| async move {
        let (mut batches, left) = state?;
        match batches.next().await {
            Some(Ok(batch)) => match left.checked_sub(batch.num_rows()) {
                Some(left) => Some((Ok(batch), Some((batches, left)))),
                None => Some((Err(ReadError::damaged("it has more records than it says")), None)),
            },
            Some(Err(error)) => Some((Err(error), None)),
            None if left > 0 => Some((Err(ReadError::damaged("it has fewer records than it says")), None)),
            None => None,
        }
    });
    counted.boxed()
}
