//! What the spool keeps of whole, broken and malformed input.

use std::os::unix::fs::PermissionsExt;

use convoke_core::Timestamp;
use convoke_core::source::{MalformedRecord, SplitContent, SplitItem, SplitResult};
use convoke_core::spec::SyncMode;
use convoke_engine::{
    ColumnGap, EngineError, Planned, PreviewOutcome, PreviewRecord, PreviewRequest, Spool, SpoolWriter, TakenSplit,
    read_invalid,
};
use futures::StreamExt;

use crate::fixture::*;

#[tokio::test]
async fn a_broken_split_leaves_nothing_in_the_spool() {
    let world = World::new();
    let folder = world.fresh("spool");
    let mut writer = SpoolWriter::create(&folder, columns()).unwrap();
    let mut broken = items(&columns(), &[record(&["a@b.co", "A", "1"])]);
    broken.pop();
    broken.push(SplitItem::Broken { reason: "not UTF-8".to_owned() });
    let stream = futures::stream::iter(broken.into_iter().map(Ok)).boxed();
    let outcome = writer.split(&split("bad.csv"), SplitContent::Stream(stream), &|_| {}).await.unwrap();
    assert!(matches!(outcome.result, SplitResult::Broken { .. }));
    let good = items(&columns(), &[record(&["c@d.co", "C", "1"])]);
    writer
        .split(
            &split("good.csv"),
            SplitContent::Stream(futures::stream::iter(good.into_iter().map(Ok)).boxed()),
            &|_| {},
        )
        .await
        .unwrap();
    let spool = writer.finish().await.unwrap();
    assert_eq!(spool.read(), 1);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (planned, _) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    assert_eq!((planned.counts.read, planned.counts.creates), (1, 1));
}

#[tokio::test]
async fn a_split_without_a_column_that_the_mapping_reads_is_broken_instead_of_emptying_cells() {
    let world = World::new();
    let read = world.engine.columns_read(&spec(SyncMode::Upsert), &columns());
    assert_eq!(read.iter().map(String::as_str).collect::<Vec<_>>(), ["email", "name"]);
    let narrow = std::sync::Arc::new(columns().project(&[0]).unwrap());
    let items = || futures::stream::iter(items(&narrow, &[record(&["a@b.co"])]).into_iter().map(Ok)).boxed();
    let mut writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap().needing(read.clone());
    let intake = writer.begin(&split("part.csv")).unwrap().refusing_gaps();
    let taken = intake.take(SplitContent::Stream(items()), &|_| {}).await.unwrap();
    let refused = writer.keep(taken).await.unwrap();
    let SplitResult::Broken { reason } = &refused.result else { panic!("{refused:?}") };
    assert!(reason.contains("no column `name`"), "{reason}");
    let writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap();
    let mut writer = writer.needing(read);
    for name in ["part.csv", "other.csv"] {
        writer.split(&split(name), SplitContent::Stream(items()), &|_| {}).await.unwrap();
    }
    let spool = writer.finish().await.unwrap();
    assert_eq!(spool.read(), 2);
    let splits = vec!["part.csv".to_owned(), "other.csv".to_owned()];
    assert_eq!(spool.gaps(), [ColumnGap { column: "name".to_owned(), splits }]);
}

#[tokio::test]
async fn a_column_that_one_batch_has_is_not_told_as_missing() {
    let world = World::new();
    let read = world.engine.columns_read(&spec(SyncMode::Upsert), &columns());
    let narrow = std::sync::Arc::new(columns().project(&[0]).unwrap());
    let of = |wide: &[bool]| {
        let batches = wide.iter().map(|is_wide| if *is_wide { columns() } else { std::sync::Arc::clone(&narrow) });
        let mut all: Vec<SplitItem> = batches
            .flat_map(|schema| items(&schema, &[record(&["a@b.co", "A", "1"][..schema.fields().len()])]))
            .filter(|item| matches!(item, SplitItem::Records(_)))
            .collect();
        all.push(SplitItem::End { fingerprint: "print".to_owned() });
        SplitContent::Stream(futures::stream::iter(all.into_iter().map(Ok)).boxed())
    };
    let writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap();
    let mut writer = writer.needing(read);
    let cases: [(&str, &[bool]); 4] =
        [("none", &[]), ("never", &[false, false]), ("first", &[true, false]), ("last", &[false, true])];
    for (name, wide) in cases {
        writer.split(&split(name), of(wide), &|_| {}).await.unwrap();
    }
    let expected = ColumnGap { column: "name".to_owned(), splits: vec!["never".to_owned()] };
    assert_eq!(writer.finish().await.unwrap().gaps(), [expected]);
}

#[tokio::test]
async fn malformed_records_count_as_read_and_invalid_with_their_place() {
    let world = World::new();
    let mut writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap();
    let mut ragged = items(&columns(), &[record(&["a@b.co", "A", "1"]), record(&["nobody", "B", "1"])]);
    ragged.insert(0, SplitItem::Malformed(MalformedRecord { position: 9, reason: "2 fields instead of 3".to_owned() }));
    writer
        .split(
            &split("x.csv"),
            SplitContent::Stream(futures::stream::iter(ragged.into_iter().map(Ok)).boxed()),
            &|_| {},
        )
        .await
        .unwrap();
    let spool = writer.finish().await.unwrap();
    let (planned, folder) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    assert_eq!((planned.counts.read, planned.counts.invalid, planned.counts.creates), (3, 2, 1));
    assert!(planned.counts.is_balanced());
    let file = planned.files.iter().find(|file| file.name == "invalid.parquet").unwrap();
    let invalid: Vec<_> = read_invalid(&folder, file).unwrap().map(Result::unwrap).collect();
    assert_eq!((invalid[0].origin.as_str(), invalid[0].code.as_str()), ("x.csv:9", "malformed"));
    assert_eq!((invalid[1].origin.as_str(), invalid[1].code.as_str()), ("x.csv:3", "invalid_email"));
    assert_eq!(invalid[1].column.as_deref(), Some("Email"));
    assert!(!invalid[1].reason.contains("nobody"));
}

#[tokio::test]
async fn a_preview_shows_what_becomes_of_each_record() {
    let world = World::new();
    let mut filtered = spec(SyncMode::Upsert);
    filtered.filter = Some(convoke_core::spec::Filter::Sql("name <> 'skip'".to_owned()));
    let records = [record(&[" A@b.co", "A", "1"]), record(&["c@d.co", "skip", "1"]), record(&["x", "X", "1"])];
    let spool = world.spool(&columns(), &[&records]).await;
    let request = PreviewRequest { spec: &filtered, spool: &spool, suppressions: &[], count: 20, now: Timestamp(0) };
    let shown = world.engine.preview(request).await.unwrap();
    let mapped = vec![("Email".to_owned(), Some("a@b.co".to_owned())), ("Name".to_owned(), Some("A".to_owned()))];
    assert_eq!(shown[0].outcome, PreviewOutcome::Mapped(mapped));
    assert_eq!(shown[0].origin, "file-0.csv:2");
    assert_eq!(shown[0].source[0], ("email".to_owned(), Some(" A@b.co".to_owned())));
    assert_eq!(shown[1].outcome, PreviewOutcome::Filtered);
    assert!(matches!(&shown[2].outcome, PreviewOutcome::Invalid(problem) if problem.code == "invalid_email"));
}

fn stream_of(items: Vec<SplitItem>) -> SplitContent {
    SplitContent::Stream(futures::stream::iter(items.into_iter().map(Ok)).boxed())
}

fn people_of(split: usize, count: usize) -> Vec<Record> {
    (0..count).map(|row| record(&[&format!("{split}-{row}@b.co"), &format!("{split}"), "1"])).collect()
}

/// Splits of few and of many records, one that is broken, one that is empty and one with a torn line.
fn mixed_splits() -> Vec<Vec<SplitItem>> {
    let sizes = [3, 20_000, 1, 0, 7, 5_000, 2, 2];
    let mut splits: Vec<_> =
        sizes.iter().enumerate().map(|(split, size)| items(&columns(), &people_of(split, *size))).collect();
    splits[6].pop();
    splits[6].push(SplitItem::Broken { reason: "not closed".to_owned() });
    let torn = MalformedRecord { position: 4, reason: "2 fields instead of 3".to_owned() };
    splits[4].insert(0, SplitItem::Malformed(torn));
    splits
}

/// Takes splits in the order in which `ends` names them, and keeps them in their own.
async fn spool_ending(world: &World, ends: &[usize]) -> Spool {
    let mut writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap();
    let splits = mixed_splits();
    let begun: Vec<_> =
        (0..splits.len()).map(|number| writer.begin(&split(&format!("{number}.csv"))).unwrap()).collect();
    let mut taken: Vec<Option<TakenSplit>> = splits.iter().map(|_| None).collect();
    for &number in ends {
        taken[number] = Some(begun[number].take(stream_of(splits[number].clone()), &|_| {}).await.unwrap());
    }
    for taken in taken {
        writer.keep(taken.unwrap()).await.unwrap();
    }
    writer.finish().await.unwrap()
}

fn created_origins(folder: &std::path::Path, planned: &Planned) -> Vec<String> {
    let batches = batches(folder, planned);
    batches.iter().flat_map(|batch| batch.origins.iter().flatten().map(str::to_owned)).collect()
}

#[tokio::test]
async fn records_have_the_order_of_their_splits_whichever_ends_first() {
    let world = World::new();
    let spool = spool_ending(&world, &[0, 1, 2, 3, 4, 5, 6, 7]).await;
    let mut unordered = spec(SyncMode::Upsert);
    // All have one key, so that their order decides which of them wins.
    unordered.columns[0] = column("Email", "'all@b.co'", convoke_core::DataType::Email);
    unordered.columns[1] = column("Name", "concat(email, '')", convoke_core::DataType::Text);
    let (planned, _) = world.plan(&unordered, &spool, None).await;
    assert_eq!((planned.counts.creates, planned.counts.superseded), (1, 3 + 20_000 + 1 + 7 + 5_000 + 2 - 1));
    let last = planned.samples[0].clone();
    assert!(format!("{last:?}").contains("7-1@b.co"), "{last:?}");
    for ends in [[7, 6, 5, 4, 3, 2, 1, 0], [1, 5, 0, 7, 2, 6, 4, 3]] {
        let (again, _) = world.plan(&unordered, &spool_ending(&world, &ends).await, None).await;
        assert_eq!((again.counts, &again.samples[0]), (planned.counts, &last));
    }
}

#[tokio::test]
async fn each_record_keeps_the_name_of_its_split_although_splits_share_a_file() {
    let world = World::new();
    let spool = spool_ending(&world, &[7, 6, 5, 4, 3, 2, 1, 0]).await;
    let spec = spec(SyncMode::Upsert);
    let request = PreviewRequest { spec: &spec, spool: &spool, suppressions: &[], count: 30_000, now: Timestamp(0) };
    let shown = world.engine.preview(request).await.unwrap();
    let mut expected = Vec::new();
    for (split, size) in [(0, 3), (1, 20_000), (2, 1), (4, 7), (5, 5_000), (7, 2)] {
        expected.extend((0..size).map(|row| (format!("{split}.csv:{}", row + 2), format!("{split}-{row}@b.co"))));
    }
    expected.push(("4.csv:4".to_owned(), String::new()));
    let cell = |record: &PreviewRecord| record.source.first().and_then(|(_, cell)| cell.clone()).unwrap_or_default();
    let found: Vec<_> = shown.iter().map(|record| (record.origin.clone(), cell(record))).collect();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "{:?}", found.iter().zip(&expected).find(|(found, expected)| found != expected));
    // The wide pass finds them too.
    let (planned, folder) = world.plan(&spec, &spool, None).await;
    assert_eq!(planned.counts.creates, 25_013);
    let origins = created_origins(&folder, &planned);
    assert_eq!(origins, expected[..25_013].iter().map(|(origin, _)| origin.clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_cut_off_leaves_nothing_and_is_taken_again_from_its_start() {
    let world = World::new();
    let folder = world.fresh("spool");
    let mut writer = SpoolWriter::create(&folder, columns()).unwrap();
    let intake = writer.begin(&split("a.csv")).unwrap();
    for count in [10, 20_000] {
        let mut cut: Vec<_> = items(&columns(), &people_of(0, count)).into_iter().map(Ok).collect();
        cut.pop();
        cut.push(Err(convoke_core::SourceError::interrupted("the connection was lost")));
        let stream = SplitContent::Stream(futures::stream::iter(cut).boxed());
        let Err(error) = intake.take(stream, &|_| {}).await else { panic!("it was cut off") };
        let EngineError::Source { split: name, cause } = &error else { panic!("{error}") };
        let kind = convoke_core::error::SourceErrorKind::Interrupted;
        assert_eq!((name.as_str(), cause.kind), ("a.csv", kind));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
    let taken = intake.take(stream_of(items(&columns(), &people_of(0, 20_000))), &|_| {}).await.unwrap();
    writer.keep(taken).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().read(), 20_000);
}

#[tokio::test]
async fn thousands_of_small_splits_share_a_few_files() {
    let world = World::new();
    let folder = world.fresh("spool");
    let mut writer = SpoolWriter::create(&folder, columns()).unwrap();
    for number in 0..10_000 {
        let content = stream_of(items(&columns(), &people_of(number, 3)));
        writer.split(&split(&format!("{number}.csv")), content, &|_| {}).await.unwrap();
    }
    let spool = writer.finish().await.unwrap();
    assert_eq!(spool.read(), 30_000);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let (planned, folder) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    let origins = created_origins(&folder, &planned);
    assert_eq!((origins.len(), origins[29_999].as_str()), (30_000, "9999.csv:4"));
}

/// Splits with more malformed records than are held in memory, and with few.
#[tokio::test]
async fn malformed_records_without_end_are_told_each_with_its_place_in_the_order_of_the_source() {
    let world = World::new();
    let folder = world.fresh("spool");
    let mut writer = SpoolWriter::create(&folder, columns()).unwrap();
    let counts = [3_u64, 10_000, 4_095, 2, 0];
    let malformed = |count: u64| -> Vec<SplitItem> {
        let record = |position| MalformedRecord { position, reason: format!("{position} fields") };
        let records = (1..=count).map(|position| SplitItem::Malformed(record(position)));
        records.chain([SplitItem::End { fingerprint: "print".to_owned() }]).collect()
    };
    for (number, count) in counts.iter().enumerate() {
        writer.split(&split(&number.to_string()), stream_of(malformed(*count)), &|_| {}).await.unwrap();
    }
    let mut broken = malformed(10_000);
    broken.pop();
    broken.push(SplitItem::Broken { reason: "cut off".to_owned() });
    let files = || std::fs::read_dir(&folder).unwrap().count();
    let before = files();
    writer.split(&split("broken"), stream_of(broken), &|_| {}).await.unwrap();
    assert!(before > 0 && files() == before, "a broken split leaves nothing");
    let spool = writer.finish().await.unwrap();
    assert_eq!((spool.read(), spool.malformed()), (14_100, 14_100));
    let spec = spec(SyncMode::Upsert);
    let request = PreviewRequest { spec: &spec, spool: &spool, suppressions: &[], count: 20_000, now: Timestamp(0) };
    let shown = world.engine.preview(request).await.unwrap();
    let expected: Vec<_> = counts
        .iter()
        .enumerate()
        .flat_map(|(number, count)| {
            (1..=*count).map(move |line| (format!("{number}:{line}"), format!("{line} fields")))
        })
        .collect();
    let found: Vec<_> = shown
        .into_iter()
        .map(|record| match record.outcome {
            PreviewOutcome::Malformed { reason } => (record.origin, reason),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(found == expected, "{:?}", found.iter().zip(&expected).find(|(found, expected)| found != expected));
    let (planned, folder) = world.plan(&spec, &spool, None).await;
    assert_eq!((planned.counts.read, planned.counts.invalid), (14_100, 14_100));
    assert!(planned.counts.is_balanced());
    let file = planned.files.iter().find(|file| file.name == "invalid.parquet").unwrap();
    let invalid = read_invalid(&folder, file).unwrap().map(Result::unwrap);
    assert!(invalid.map(|invalid| invalid.origin).eq(expected.into_iter().map(|(origin, _)| origin)));
}
