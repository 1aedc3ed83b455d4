//! What the spool keeps of whole, broken and malformed input.

use std::os::unix::fs::PermissionsExt;

use convoke_core::Timestamp;
use convoke_core::source::{MalformedRecord, SplitContent, SplitItem, SplitResult};
use convoke_core::spec::SyncMode;
use convoke_engine::{ColumnGap, EngineError, Lacking, PreviewOutcome, PreviewRequest, SpoolWriter, read_invalid};
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
    let spool = writer.finish().unwrap();
    assert_eq!(spool.read(), 1);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (planned, _) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    assert_eq!((planned.counts.read, planned.counts.creates), (1, 1));
}

#[tokio::test]
async fn a_split_without_a_column_that_the_mapping_reads_is_refused_instead_of_emptying_cells() {
    let world = World::new();
    let read = world.engine.columns_read(&spec(SyncMode::Upsert), &columns());
    assert_eq!(read.iter().map(String::as_str).collect::<Vec<_>>(), ["email", "name"]);
    let narrow = std::sync::Arc::new(columns().project(&[0]).unwrap());
    let items = || futures::stream::iter(items(&narrow, &[record(&["a@b.co"])]).into_iter().map(Ok)).boxed();
    let mut writer =
        SpoolWriter::create(&world.fresh("spool"), columns()).unwrap().needing(read.clone(), Lacking::Refused);
    let refused = writer.split(&split("part.csv"), SplitContent::Stream(items()), &|_| {}).await.unwrap_err();
    let EngineError::Source { split: name, cause } = &refused else { panic!("{refused}") };
    assert_eq!(name, "part.csv");
    assert!(cause.to_string().contains("no column `name`"), "{cause}");
    let writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap();
    let mut writer = writer.needing(read, Lacking::Told);
    for name in ["part.csv", "other.csv"] {
        writer.split(&split(name), SplitContent::Stream(items()), &|_| {}).await.unwrap();
    }
    let spool = writer.finish().unwrap();
    assert_eq!(spool.read(), 2);
    let splits = vec!["part.csv".to_owned(), "other.csv".to_owned()];
    assert_eq!(spool.gaps(), [ColumnGap { column: "name".to_owned(), splits }]);
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
    let spool = writer.finish().unwrap();
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
