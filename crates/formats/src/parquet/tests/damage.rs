//! Whatever stands before a good footer, the process goes on, and no record is lost or made up in silence.

use arrow::array::{Int32Array, StringArray};
use parquet::arrow::arrow_reader::RowSelector;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::ParquetMetaDataReader;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const ROWS: i32 = 3_000;

fn batch() -> RecordBatch {
    let texts: StringArray = (0..ROWS).map(|row| (row % 5 != 0).then(|| format!("text {row}"))).collect();
    batch_of(vec![("number", Arc::new(Int32Array::from_iter_values(0..ROWS))), ("text", Arc::new(texts))])
}

fn file_of(compression: Compression) -> Vec<u8> {
    let properties = WriterProperties::builder().set_compression(compression).set_data_page_row_count_limit(500);
    written(&batch(), properties.set_write_batch_size(100).build())
}

/// All that pages may be packed with, but Brotli and LZO, which are refused.
fn compressions() -> [Compression; 6] {
    let (gzip, zstd) = (Compression::GZIP(GzipLevel::default()), Compression::ZSTD(ZstdLevel::default()));
    [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip, zstd, Compression::LZ4, Compression::LZ4_RAW]
}

/// Where the pages end and the indexes and the footer begin.
fn end_of_pages(contents: &[u8]) -> usize {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::copy_from_slice(contents)).unwrap();
    let columns = metadata.row_group(0).columns().iter();
    columns.map(|column| column.byte_range()).map(|(start, length)| (start + length) as usize).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_byte_may_be_another_and_nothing_ends_but_the_file() {
    let mut random = StdRng::seed_from_u64(11);
    let mut damaged = 0;
    for compression in compressions() {
        let whole = file_of(compression);
        let end = end_of_pages(&whole);
        for _ in 0..300 {
            let mut contents = whole.clone();
            for _ in 0..random.random_range(1..4) {
                contents[random.random_range(4..end)] = random.random();
            }
            let file = MemoryFile::of(contents).open().await;
            match read_group(&file, 0, None, if random.random() { PLENTY } else { 1 }).await {
                // Without checksums, values may be others; records may not be fewer or more.
                Ok(read) => assert_eq!(read.unwrap().num_rows(), ROWS as usize),
                Err(ReadError::Damaged(reason)) => {
                    damaged += 1;
                    assert!(
                        reason.contains("damaged before the footer") && reason.contains("write it again"),
                        "{reason}"
                    );
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(damaged > 300, "{damaged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_missing_its_records_is_damage() {
    let whole = file_of(Compression::UNCOMPRESSED);
    let mut contents = whole.clone();
    contents[4..end_of_pages(&whole)].fill(0);
    let file = MemoryFile::of(contents).open().await;
    for budget in [PLENTY, 1] {
        let failed = read_group(&file, 0, None, budget).await.unwrap_err();
        assert!(matches!(failed, ReadError::Damaged(_)), "{failed:?}");
    }
}

#[tokio::test]
async fn what_is_no_file_of_this_kind_is_told_when_it_is_opened() {
    let whole = file_of(Compression::SNAPPY);
    let cut = whole[..whole.len() - 30].to_vec();
    let lengthened = {
        let mut contents = whole.clone();
        let length = contents.len() - 8;
        contents[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        contents
    };
    for contents in [cut, lengthened, b"email,name\na@x.co,A\n".to_vec(), Vec::new()] {
        let opened = ParquetFile::open(MemoryFile::of(contents) as Arc<dyn PinnedFile>).await.unwrap();
        assert!(opened.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_byte_of_the_footer_may_be_another_and_the_process_goes_on() {
    let whole = file_of(Compression::SNAPPY);
    let end = end_of_pages(&whole);
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..500 {
        let mut contents = whole.clone();
        contents[random.random_range(end..whole.len())] = random.random();
        let opened = ParquetFile::open(MemoryFile::of(contents) as Arc<dyn PinnedFile>).await.unwrap();
        let Ok(file) = opened else { continue };
        let file = Arc::new(file);
        drop(read_all(&file, PLENTY).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_read_however_they_are_packed() {
    for compression in compressions() {
        let file = MemoryFile::of(file_of(compression)).open().await;
        for budget in [PLENTY, 1] {
            assert_eq!(read_group(&file, 0, None, budget).await.unwrap(), Some(batch()), "{compression}");
        }
    }
}

/// PyArrow wrote it, as `pq.write_table(…, write_page_checksum=True, compression="none", use_dictionary=False)`: `number`
/// from 0 to 199, and `text`. The writer in use here writes no checksums.
const CHECKSUMMED: &[u8] = include_bytes!("data/checksummed.parquet");

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_fit_its_checksum_is_damage() {
    let file = MemoryFile::of(CHECKSUMMED).open().await;
    let whole = read_group(&file, 0, None, PLENTY).await.unwrap().unwrap();
    assert_eq!(whole.column(0).as_ref(), &Int32Array::from_iter_values(0..200));
    // The number 100, which stands there once, becomes 101: nothing but the checksum tells.
    let number = 100_i32.to_le_bytes();
    let neighbours = [&99_i32.to_le_bytes()[..], &number].concat();
    let at = CHECKSUMMED.windows(neighbours.len()).position(|bytes| bytes == neighbours).unwrap() + number.len();
    let mut contents = CHECKSUMMED.to_vec();
    contents[at] += 1;
    let file = MemoryFile::of(contents).open().await;
    for budget in [PLENTY, 1] {
        let failed = read_group(&file, 0, None, budget).await.unwrap_err();
        assert!(matches!(&failed, ReadError::Damaged(reason) if reason.contains("damaged")), "{failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_and_files_without_records_are_read_as_such() {
    let empty = RecordBatch::new_empty(batch().schema());
    let file = MemoryFile::of(written(&empty, WriterProperties::default())).open().await;
    assert!(read_all(&file, PLENTY).await.unwrap().is_empty());
    // A selection of nothing leaves nothing, too.
    let file = MemoryFile::of(file_of(Compression::SNAPPY)).open().await;
    let nothing = RowSelection::from(vec![RowSelector::skip(ROWS as usize)]);
    for budget in [PLENTY, 1] {
        let read = read_group(&file, 0, Some(nothing.clone()), budget).await.unwrap();
        assert_eq!(read.map_or(0, |batch| batch.num_rows()), 0);
    }
}
