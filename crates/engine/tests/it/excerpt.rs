//! The first records of a source, and copies of them.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use convoke_core::source::{MalformedRecord, SplitItem};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::fixture::*;

fn people(count: usize) -> Vec<Record> {
    (0..count).map(|index| record(&[&format!("p{index}@x.co"), "", &index.to_string()])).collect()
}

/// Addresses and numbers of a copy.
fn read(path: &Path) -> Vec<(String, i64)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let pairs = |batch: RecordBatch| {
        let emails = batch.column(0).as_string::<i32>();
        let numbers = batch.column(3).as_primitive::<Int64Type>();
        (0..batch.num_rows()).map(|row| (emails.value(row).to_owned(), numbers.value(row))).collect::<Vec<_>>()
    };
    reader.map(Result::unwrap).flat_map(pairs).collect()
}

#[tokio::test]
async fn an_excerpt_holds_the_first_records_over_all_splits_and_no_more() {
    let world = World::new();
    let records = people(7);
    let spool = world.spool(&columns(), &[&records[..4], &records[4..]]).await;
    for (wanted, held) in [(3, 3), (6, 6), (100, 7), (0, 0)] {
        let excerpt = spool.excerpt(wanted).await.unwrap();
        assert_eq!((excerpt.len(), excerpt.is_empty()), (held, held == 0));
    }
    let excerpt = spool.excerpt(6).await.unwrap();
    assert!(excerpt.has_column("email") && !excerpt.has_column("round"));
}

#[tokio::test]
async fn a_copy_holds_the_chosen_records_with_their_numbers_and_replaces_what_was_there() {
    let world = World::new();
    let spool = world.spool(&columns(), &[&people(5)]).await;
    let excerpt = spool.excerpt(5).await.unwrap();
    let path = world.fresh("copy");
    excerpt.write(&path, "round", &[(0, 1), (1, 1), (4, 1)]).unwrap();
    excerpt.write(&path, "round", &[(1, 1), (4, 2)]).unwrap();
    assert_eq!(read(&path), [("p1@x.co".to_owned(), 1), ("p4@x.co".to_owned(), 2)]);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "it is personal data");
    assert!(excerpt.write(&path, "round", &[(5, 1)]).is_err(), "there is no sixth record");
}

#[tokio::test]
async fn records_that_cannot_be_carried_are_counted_and_not_held() {
    let world = World::new();
    let mut items = items(&columns(), &people(2));
    items.insert(1, SplitItem::Malformed(MalformedRecord { position: 9, reason: "it has 2 fields".to_owned() }));
    let excerpt = world.spool_of(items).await.excerpt(10).await.unwrap();
    assert_eq!((excerpt.len(), excerpt.malformed()), (2, 1));
}
