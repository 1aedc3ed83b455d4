//! Windows, whole groups and selections give the same records, with few requests and bounded pieces.

use arrow::array::{
    AsArray, DictionaryArray, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder, StructArray, UInt32Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int32Type};
use convoke_core::error::SourceErrorKind;
use futures::StreamExt;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{ParquetMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::{EnabledStatistics, WriterVersion};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Flat and nested columns, some cells of which are NULL; no two texts are alike.
fn people(rows: usize, seed: u64) -> RecordBatch {
    let mut random = StdRng::seed_from_u64(seed);
    let ids = Int64Array::from_iter((0..rows as i64).map(|id| (id % 7 != 0).then_some(id)));
    let texts: Vec<Option<String>> = (0..rows)
        .map(|row| {
            random.random_bool(0.9).then(|| format!("{row}-{:x}-{:x}", random.random::<u64>(), random.random::<u64>()))
        })
        .collect();
    let texts = StringArray::from(texts);
    let cities = StringArray::from_iter_values((0..rows).map(|row| ["Köln", "Paris", "Gent"][row % 3]));
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        for tag in 0..random.random_range(0..4) {
            tags.values().append_value(format!("tag {row} {tag}"));
        }
        tags.append(row % 11 != 0);
    }
    let city: ArrayRef = Arc::new(cities);
    let address = StructArray::from(vec![(Arc::new(Field::new("city", DataType::Utf8, true)), Arc::clone(&city))]);
    batch_of(vec![
        ("id", Arc::new(ids)),
        ("text", Arc::new(texts)),
        ("city", city),
        ("tags", Arc::new(tags.finish())),
        ("address", Arc::new(address)),
    ])
}

/// Ways in which writers write.
fn ways() -> Vec<WriterProperties> {
    let small_pages = || WriterProperties::builder().set_data_page_row_count_limit(700).set_write_batch_size(100);
    let without_index =
        || small_pages().set_statistics_enabled(EnabledStatistics::Chunk).set_offset_index_disabled(true);
    vec![
        WriterProperties::builder().build(),
        small_pages().set_compression(Compression::SNAPPY).build(),
        small_pages().set_compression(Compression::ZSTD(ZstdLevel::default())).set_dictionary_enabled(false).build(),
        small_pages().set_writer_version(WriterVersion::PARQUET_2_0).build(),
        without_index().build(),
        without_index().set_writer_version(WriterVersion::PARQUET_2_0).set_dictionary_enabled(false).build(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_and_whole_groups_give_the_same_records() {
    let people = people(60_000, 1);
    for (way, properties) in ways().into_iter().enumerate() {
        let file = MemoryFile::of(written(&people, properties)).open().await;
        for budget in [PLENTY, 1 << 20, 1] {
            let read = read_group(&file, 0, None, budget).await.unwrap().unwrap();
            assert!(read.columns() == people.columns(), "way {way}, budget {budget}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn selected_records_are_the_same_however_they_are_found() {
    const ROWS: usize = 60_000;
    let people = people(ROWS, 2);
    let mut random = StdRng::seed_from_u64(3);
    for (way, properties) in ways().into_iter().enumerate() {
        let contents = written(&people, properties);
        for share in [0.0001, 0.01, 0.3] {
            let rows: Vec<usize> = (0..ROWS).filter(|_| random.random_bool(share)).collect();
            let ranges = rows.iter().map(|row| *row..row + 1);
            let selection = RowSelection::from_consecutive_ranges(ranges, ROWS);
            let expected =
                take_record_batch(&people, &UInt32Array::from_iter_values(rows.iter().map(|row| *row as u32)));
            for budget in [PLENTY, 1] {
                let file = MemoryFile::of(contents.clone()).open().await;
                let read = read_group(&file, 0, Some(selection.clone()), budget).await.unwrap().unwrap();
                assert!(read.columns() == expected.as_ref().unwrap().columns(), "way {way}, {share}, budget {budget}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_within_the_budget_takes_one_request_and_a_larger_one_pieces_of_its_size() {
    const BUDGET: u64 = 1 << 20;
    let contents = written(&people(60_000, 4), WriterProperties::builder().set_dictionary_enabled(false).build());
    let memory = MemoryFile::of(contents);
    let file = memory.open().await;
    let (after_footer, _) = memory.asked();
    read_group(&file, 0, None, PLENTY).await.unwrap();
    assert_eq!(memory.asked().0 - after_footer, 1, "all columns at once");

    let group = memory.contents.len() as u64;
    assert!(group > 4 * BUDGET, "{group}");
    let (before, bytes_before) = memory.asked();
    read_group(&file, 0, None, BUDGET).await.unwrap();
    let (requests, bytes) = memory.asked();
    assert!(bytes - bytes_before <= group, "nothing is read twice");
    // Each column's pieces are its share of half the budget, but for those that are small anyway.
    let columns = file.metadata().row_group(0).num_columns() as u64;
    let most = columns * (2 * group / BUDGET + 2);
    assert!((requests - before) as u64 <= most, "{} requests, {most} expected", requests - before);
    let pieces = memory.requests.lock().unwrap();
    let largest = pieces[before..].iter().flatten().map(|range| range.end - range.start).max().unwrap();
    assert!(largest <= BUDGET / 2 + 1, "a piece of {largest} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_places_of_pages_only_those_of_selected_records_are_read() {
    const ROWS: usize = 60_000;
    let small_pages = WriterProperties::builder().set_data_page_row_count_limit(700).set_write_batch_size(100);
    let contents = written(&people(ROWS, 5), small_pages.set_dictionary_enabled(false).build());
    let memory = MemoryFile::of(contents);
    let file = memory.open().await;
    let (_, before) = memory.asked();
    let selection = RowSelection::from_consecutive_ranges(std::iter::once(30_000..30_001), ROWS);
    let read = read_group(&file, 0, Some(selection), PLENTY).await.unwrap().unwrap();
    assert_eq!(read.num_rows(), 1);
    let (_, after) = memory.asked();
    assert!((after - before) * 20 < memory.contents.len() as u64, "{} bytes", after - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_no_damage_and_neither_is_a_stream_that_is_dropped() {
    let contents = written(&people(60_000, 6), WriterProperties::builder().build());
    for budget in [PLENTY, 1] {
        let failing =
            Arc::new(MemoryFile { contents: contents.clone().into(), fails_from: Some(3), ..Default::default() });
        let file = failing.open().await;
        let mut failed = None;
        for _ in 0..4 {
            failed = read_group(&file, 0, None, budget).await.err().or(failed);
        }
        let Some(ReadError::Source(cause)) = failed else { panic!("{failed:?}") };
        assert_eq!(cause.kind, SourceErrorKind::Changed);
    }
    let file = MemoryFile::of(contents).open().await;
    let request =
        GroupRequest { group: 0, columns: columns_of(&file), selection: None, batch_rows: 10, budget_bytes: 1 };
    let mut stream = file.read_group(request);
    assert_eq!(stream.try_next().await.unwrap().unwrap().num_rows(), 10);
    drop(stream);
    // The thread lets go of the file once it notices.
    while Arc::strong_count(&file) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_file_lacks_are_passed_over_and_records_without_any_are_counted() {
    let file = MemoryFile::of(written(&people(2_500, 7), WriterProperties::builder().build())).open().await;
    let read = async |columns: &[&str]| {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let request = GroupRequest { group: 0, columns, selection: None, batch_rows: 1_000, budget_bytes: PLENTY };
        file.read_group(request).try_collect::<Vec<_>>().await.unwrap()
    };
    let some = read(&["city", "nowhere"]).await;
    assert!(some.iter().all(|batch| batch.num_columns() == 1));
    let none = read(&["nowhere"]).await;
    assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 2_500);
    assert_eq!(none[0].num_columns(), 0);
}

/// Long texts that the footer tells of, and one that stands in a dictionary once and in all records.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_do_not_fit_into_one_array_come_in_several_batches() {
    const ROWS: usize = 5_000;
    let long = "x".repeat(500_000);
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&long, 20)));
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let file = MemoryFile::of(written(&batch_of(vec![("text", texts)]), properties)).open().await;
    let request = |budget_bytes| GroupRequest {
        group: 0,
        columns: columns_of(&file),
        selection: None,
        batch_rows: 8_192,
        budget_bytes,
    };
    for budget in [PLENTY, 1] {
        let batches: Vec<_> = file.read_group(request(budget)).try_collect().await.unwrap();
        assert!(batches.iter().all(|batch| batch.get_array_memory_size() < 80 << 20));
    }
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..ROWS as i32));
    let keys = Int32Array::from_iter_values(std::iter::repeat_n(0, ROWS));
    let values: ArrayRef = Arc::new(StringArray::from_iter_values([&long]));
    let texts: ArrayRef = Arc::new(DictionaryArray::new(keys, values));
    let properties = WriterProperties::builder().set_dictionary_page_size_limit(4 << 20).build();
    let contents = without_size_statistics(&written(&batch_of(vec![("number", numbers), ("text", texts)]), properties));
    let file = MemoryFile::of(contents).open().await;
    let mut batches = file.read_group(GroupRequest { columns: columns_of(&file), ..request(PLENTY) });
    let mut row = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.unwrap();
        let numbers = batch.column(0).as_primitive::<Int32Type>().values();
        assert!(numbers.iter().copied().eq(row..row + numbers.len() as i32));
        assert!(batch.column(1).as_string::<i32>().iter().all(|text| text == Some(&long)));
        row += numbers.len() as i32;
    }
    assert_eq!(row, ROWS as i32);
}

/// The same file with a footer that does not tell how long texts are, as most writers write it.
fn without_size_statistics(whole: &[u8]) -> Vec<u8> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::copy_from_slice(whole)).unwrap();
    let mut groups = Vec::new();
    for group in metadata.row_groups() {
        let columns = group
            .columns()
            .iter()
            .map(|column| column.clone().into_builder().set_unencoded_byte_array_data_bytes(None).build().unwrap());
        groups.push(group.clone().into_builder().set_column_metadata(columns.collect()).build().unwrap());
    }
    let metadata = ParquetMetaDataBuilder::new(metadata.file_metadata().clone()).set_row_groups(groups).build();
    let mut contents = whole.to_vec();
    ParquetMetaDataWriter::new(&mut contents, &metadata).finish().unwrap();
    contents
}
