//! Plans from Parquet that is read where it is.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use bytes::Bytes;
use convoke_core::SourceError;
use convoke_core::error::SourceErrorKind;
use convoke_core::plan::PlanCounts;
use convoke_core::source::{PinnedFile, PinnedParquet, SplitContent, SplitResult};
use convoke_core::spec::{Dedupe, Filter, Keep, SyncMode, SyncSpec};
use convoke_core::{DataType, Origin};
use convoke_engine::*;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::fixture::*;

/// A file in memory that notes what is read of it.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    contents: Bytes,
    was_replaced: AtomicBool,
    bytes_read: AtomicU64,
    reads: Mutex<Vec<Range<u64>>>,
}

#[async_trait]
impl PinnedFile for MemoryFile {
    fn size(&self) -> u64 {
        self.contents.len() as u64
    }

    fn fingerprint(&self) -> &str {
        "print"
    }

    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError> {
        if self.was_replaced.load(Ordering::Relaxed) {
            return Err(SourceError::changed("it was replaced"));
        }
        let mut read = Vec::new();
        for range in ranges {
            let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            if end > self.contents.len() {
                return Err(SourceError::new(Origin::Internal, "asked for bytes beyond the end"));
            }
            self.bytes_read.fetch_add(range.end - range.start, Ordering::Relaxed);
            self.reads.lock().unwrap().push(range.clone());
            read.push(self.contents.slice(start..end));
        }
        Ok(read)
    }
}

pub(crate) fn memory_file(contents: Vec<u8>) -> Arc<MemoryFile> {
    Arc::new(MemoryFile {
        contents: Bytes::from(contents),
        was_replaced: AtomicBool::new(false),
        bytes_read: AtomicU64::new(0),
        reads: Mutex::default(),
    })
}

pub(crate) fn parquet_of(batch: &RecordBatch, group_rows: usize) -> Arc<MemoryFile> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut contents = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut contents, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    memory_file(contents)
}

fn people(range: Range<usize>) -> Vec<Record> {
    range.map(|index| record(&[&format!("p{index}@x.co"), &format!("Name {index}"), &index.to_string()])).collect()
}

fn content(file: &Arc<MemoryFile>) -> SplitContent {
    SplitContent::Parquet(PinnedParquet { file: Arc::clone(file) as Arc<dyn PinnedFile>, constants: Vec::new() })
}

async fn pinned_spool(world: &World, schema: &SchemaRef, files: &[Arc<MemoryFile>]) -> Spool {
    let mut writer = SpoolWriter::create(&world.fresh("spool"), Arc::clone(schema)).unwrap();
    for (index, file) in files.iter().enumerate() {
        let outcome = writer.split(&split(&format!("{index}.parquet")), content(file), &|_| {}).await.unwrap();
        assert!(matches!(outcome.result, SplitResult::Read { .. }), "{outcome:?}");
    }
    writer.finish().await.unwrap()
}

/// Origin and cells of every planned change, sorted.
pub(crate) fn changes(folder: &std::path::Path, planned: &Planned) -> Vec<String> {
    let mut changes = Vec::new();
    for batch in batches(folder, planned) {
        for row in 0..batch.rows.len() {
            let cells: Vec<_> = batch.cells.columns().iter().map(|column| cell(column, row)).collect();
            changes.push(format!("{:?} {:?} {cells:?}", batch.operation, batch.origin(row)));
        }
    }
    changes.sort();
    changes
}

fn cell(column: &ArrayRef, row: usize) -> String {
    arrow::util::display::array_value_to_string(column, row).unwrap()
}

fn by_update() -> SyncSpec {
    let dedupe = Dedupe { keep: Keep::Latest, by: vec![by("updated_at")] };
    SyncSpec { dedupe, ..spec(SyncMode::Mirror) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_the_same_whether_records_are_streamed_or_pinned() {
    let mut world = World::new();
    let (one, two) = (people(0..20_000), people(15_000..26_000));
    let files = [parquet_of(&batch(&columns(), &one), 6_000), parquet_of(&batch(&columns(), &two), 100_000)];
    let pinned = pinned_spool(&world, &columns(), &files).await;
    let (planned, folder) = world.plan(&by_update(), &pinned, None).await;
    let expected = PlanCounts { read: 31_000, superseded: 5_000, creates: 26_000, ..PlanCounts::default() };
    assert_eq!(planned.counts, expected);
    let streamed = world.spool(&columns(), &[&one, &two]).await;
    let (same, same_folder) = world.plan(&by_update(), &streamed, None).await;
    assert_eq!(same.counts, expected);
    // A line of a CSV file counts its header as well.
    let renumber = |text: String| {
        let (head, rest) = text.split_once(".csv:").unwrap();
        let (line, cells) = rest.split_once('"').unwrap();
        format!("{}.parquet:{}\"{cells}", head.replace("file-", ""), line.parse::<u64>().unwrap() - 1)
    };
    let mut of_stream: Vec<_> = changes(&same_folder, &same).into_iter().map(renumber).collect();
    of_stream.sort();
    assert_eq!(changes(&folder, &planned), of_stream);

    // A few changes only: skipping from record to record finds the same as reading everything.
    world.settle(&by_update(), &[one.clone(), two.clone()].concat()).await;
    let mut changed = one;
    for index in [0, 5_999, 6_000, 13_000, 14_999] {
        changed[index][1] = Some("Changed".to_owned());
    }
    let files = [parquet_of(&batch(&columns(), &changed), 6_000), Arc::clone(&files[1])];
    let pinned = pinned_spool(&world, &columns(), &files).await;
    let (planned, folder) = world.plan(&by_update(), &pinned, None).await;
    assert_eq!((planned.counts.updates, planned.counts.unchanged), (5, 25_995));
    let origins: Vec<_> = changes(&folder, &planned).into_iter().map(|text| text.replace('"', "")).collect();
    for line in [1, 6_000, 6_001, 13_001, 15_000] {
        let email = format!("p{}@x.co", line - 1);
        let expected = format!("Update Some(0.parquet:{line}) [{email}, Changed]");
        assert!(origins.contains(&expected), "{expected} in {origins:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_come_and_go_and_grow_are_one_schema() {
    let world = World::new();
    let field = |name: &str, data_type: ArrowType| Field::new(name, data_type, true);
    let old = RecordBatch::try_new(
        Arc::new(Schema::new(vec![field("email", ArrowType::Utf8), field("score", ArrowType::Int32)])),
        vec![Arc::new(StringArray::from(vec!["old@x.co"])), Arc::new(Int32Array::from(vec![7]))],
    );
    let new = RecordBatch::try_new(
        Arc::new(Schema::new(vec![
            field("score", ArrowType::Int64),
            field("born", ArrowType::Date32),
            field("email", ArrowType::Utf8),
        ])),
        vec![
            Arc::new(Int64Array::from(vec![1 << 40])),
            Arc::new(Date32Array::from(vec![Some(0)])),
            Arc::new(StringArray::from(vec!["new@x.co"])),
        ],
    );
    let merged = Arc::new(Schema::new(vec![
        field("email", ArrowType::Utf8),
        field("score", ArrowType::Int64),
        field("born", ArrowType::Date32),
        field("day", ArrowType::Utf8),
    ]));
    let mut writer = SpoolWriter::create(&world.fresh("spool"), merged).unwrap();
    let files = [(parquet_of(&old.unwrap(), 10), Some("2026-01-01")), (parquet_of(&new.unwrap(), 10), None)];
    for (file, day) in files {
        let constants = vec![("day".to_owned(), day.map(str::to_owned))];
        let content = SplitContent::Parquet(PinnedParquet { file, constants });
        writer.split(&split("x.parquet"), content, &|_| {}).await.unwrap();
    }
    let mut sync = spec(SyncMode::Mirror);
    sync.columns = vec![
        column("Email", "email", DataType::Email),
        column("Score", "score", DataType::Integer),
        column("Born", "born", DataType::Date),
        column("Day", "day", DataType::Date),
    ];
    let (planned, folder) = world.plan(&sync, &writer.finish().await.unwrap(), None).await;
    let found = changes(&folder, &planned);
    assert_eq!(
        found,
        [
            r#"Create Some("x.parquet:1") ["new@x.co", "1099511627776", "1970-01-01", ""]"#,
            r#"Create Some("x.parquet:1") ["old@x.co", "7", "", "2026-01-01"]"#,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_that_the_filter_rules_out_are_not_read_and_count_as_filtered() {
    let world = World::new();
    let rows = 40_000;
    let emails: StringArray = (0..rows).map(|index| Some(format!("p{index}@x.co"))).collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new("email", ArrowType::Utf8, true),
        Field::new("score", ArrowType::Int64, true),
        Field::new("name", ArrowType::Utf8, true),
    ]));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(emails.clone()), Arc::new(Int64Array::from_iter_values(0..rows)), Arc::new(emails)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let file = parquet_of(&batch, 10_000);
    let mut sync = spec(SyncMode::Upsert);
    sync.filter = Some(Filter::Sql("score >= 30000".to_owned()));
    let spool = pinned_spool(&world, &schema, std::slice::from_ref(&file)).await;
    let after_footer = file.bytes_read.load(Ordering::Relaxed);
    let (planned, _) = world.plan(&sync, &spool, None).await;
    let expected = PlanCounts { read: 40_000, filtered: 30_000, creates: 10_000, ..PlanCounts::default() };
    assert_eq!(planned.counts, expected);
    let read = file.bytes_read.load(Ordering::Relaxed) - after_footer;
    assert!(read < file.size() * 3 / 4, "one group of four, twice: {read} of {} bytes", file.size());
    assert!(file.reads.lock().unwrap().iter().skip(2).all(|range| range.start > file.size() / 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_values_that_compare_unlike_numbers_prunes_nothing_wrongly() {
    let world = World::new();
    let schema = Arc::new(Schema::new(vec![
        Field::new("email", ArrowType::Utf8, true),
        Field::new("score", ArrowType::Float64, true),
        Field::new("name", ArrowType::Utf8, true),
    ]));
    let emails: ArrayRef = Arc::new(StringArray::from(vec!["a@x.co", "b@x.co"]));
    let scores: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&emails), scores, emails]).unwrap();
    let mut sync = spec(SyncMode::Upsert);
    sync.filter = Some(Filter::Sql("score > 5".to_owned()));
    let pinned = pinned_spool(&world, &schema, &[parquet_of(&batch, 10)]).await;
    let (planned, _) = world.plan(&sync, &pinned, None).await;
    assert_eq!((planned.counts.creates, planned.counts.filtered), (1, 1), "NaN is the greatest number");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_parquet_file_is_broken_and_leaves_nothing_behind() {
    let world = World::new();
    let whole = parquet_of(&batch(&columns(), &people(0..3_000)), 1_000);
    let truncated = memory_file(whole.contents[..whole.contents.len() - 100].to_vec());
    let foreign = memory_file(b"email,name\na@x.co,A\n".to_vec());
    let empty = memory_file(Vec::new());
    let mut writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap();
    for file in [truncated, foreign, empty] {
        let outcome = writer.split(&split("bad.parquet"), content(&file), &|_| {}).await.unwrap();
        let SplitResult::Broken { reason } = outcome.result else { panic!("{outcome:?}") };
        assert!(reason.contains("no whole Parquet file"), "{reason}");
        let judged = broken_parquet(&split("bad.parquet"), PinnedParquet { file, constants: vec![] }).await.unwrap();
        assert_eq!(judged, Some(reason));
    }
    assert_eq!(writer.finish().await.unwrap().read(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_while_it_is_read_ends_the_plan_with_that_reason() {
    let world = World::new();
    let file = parquet_of(&batch(&columns(), &people(0..3_000)), 1_000);
    let spool = pinned_spool(&world, &columns(), std::slice::from_ref(&file)).await;
    file.was_replaced.store(true, Ordering::Relaxed);
    let failed = world.try_plan(&by_update(), &spool, None, &world.fresh("plan")).await.unwrap_err();
    let EngineError::Source { split, cause } = failed else { panic!("{failed:?}") };
    assert_eq!((split.as_str(), cause.kind), ("0.parquet", SourceErrorKind::Changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_that_is_damaged_before_its_footer_is_named_at_once_and_the_rest_can_be_planned() {
    let world = World::new();
    let whole = |range: Range<usize>| parquet_of(&batch(&columns(), &people(range)), 1_000);
    let damaged = |range: Range<usize>| {
        let mut contents = whole(range).contents.to_vec();
        contents[4..2_000].fill(0xff);
        memory_file(contents)
    };
    let files = [damaged(0..3_000), whole(3_000..6_000), damaged(6_000..9_000)];
    let spool = pinned_spool(&world, &columns(), &files).await;
    let failed = world.try_plan(&by_update(), &spool, None, &world.fresh("plan")).await.unwrap_err();
    let EngineError::DamagedSplits(found) = failed else { panic!("{failed:?}") };
    let names: Vec<_> = found.iter().map(|damaged| damaged.split.as_str()).collect();
    assert_eq!(names, ["0.parquet", "2.parquet"]);
    assert!(found.iter().all(|damaged| damaged.reason.contains("damaged before the footer")), "{found:?}");
    let rest = pinned_spool(&world, &columns(), &files[1..2]).await;
    let (planned, _) = world.plan(&by_update(), &rest, None).await;
    assert_eq!(planned.counts.creates, 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_fit_the_type_over_all_files_ends_the_plan_and_is_no_empty_cell() {
    let world = World::new();
    let far = 253_402_214_400_000_000;
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![far]));
    let emails: ArrayRef = Arc::new(StringArray::from(vec!["a@x.co"]));
    let micros = ArrowType::Timestamp(TimeUnit::Microsecond, None);
    let own = Schema::new(vec![Field::new("email", ArrowType::Utf8, true), Field::new("until", micros, true)]);
    let batch = RecordBatch::try_new(Arc::new(own), vec![emails, times]).unwrap();
    let nanos = ArrowType::Timestamp(TimeUnit::Nanosecond, None);
    let merged = Schema::new(vec![Field::new("email", ArrowType::Utf8, true), Field::new("until", nanos, true)]);
    let spool = pinned_spool(&world, &Arc::new(merged), &[parquet_of(&batch, 10)]).await;
    let mut sync = spec(SyncMode::Upsert);
    sync.columns = vec![column("Email", "email", DataType::Email), column("Until", "until", DataType::Text)];
    let failed = world.try_plan(&sync, &spool, None, &world.fresh("plan")).await.unwrap_err();
    let EngineError::Source { cause, .. } = failed else { panic!("{failed:?}") };
    assert!(cause.message.contains("`until`"), "{}", cause.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_for_empty_cells_reads_groups_that_do_not_tell_how_many_they_have() {
    let world = World::new();
    let states: ArrayRef = Arc::new(StringArray::from(vec![Some("new"), None]));
    let emails: ArrayRef = Arc::new(StringArray::from(vec!["a@x.co", "b@x.co"]));
    let fields = ["email", "state", "name"].map(|name| Field::new(name, ArrowType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&emails), states, emails]).unwrap();
    let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    let mut contents = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut contents, Arc::clone(&schema), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut sync = spec(SyncMode::Upsert);
    for (filter, creates) in [("state IS NULL", 1), ("state = 'new'", 1), ("state = 'old'", 0)] {
        sync.filter = Some(Filter::Sql(filter.to_owned()));
        let spool = pinned_spool(&world, &schema, &[memory_file(contents.clone())]).await;
        let (planned, _) = world.plan(&sync, &spool, None).await;
        assert_eq!((planned.counts.creates, planned.counts.filtered), (creates, 2 - creates), "{filter}");
    }
}

#[tokio::test]
async fn a_pinned_file_that_lacks_a_column_is_told_and_a_partition_lacks_none() {
    let world = World::new();
    let whole = parquet_of(&batch(&columns(), &people(0..3)), 10);
    let narrow = schema(&["email", "name"]);
    let old: Vec<_> = people(3..5).into_iter().map(|person| person[..2].to_vec()).collect();
    let old = parquet_of(&batch(&narrow, &old), 10);
    let needed = ["email", "updated_at"].map(str::to_owned).into();
    let writer = SpoolWriter::create(&world.fresh("spool"), columns()).unwrap();
    let mut writer = writer.needing(needed);
    let partition = vec![("updated_at".to_owned(), Some("1".to_owned()))];
    for (name, file, constants) in [("new", &whole, vec![]), ("old", &old, vec![]), ("of-a-day", &old, partition)] {
        let file = Arc::clone(file) as Arc<dyn PinnedFile>;
        let content = SplitContent::Parquet(PinnedParquet { file, constants });
        let intake = writer.begin(&split(name)).unwrap().refusing_gaps();
        let taken = intake.take(content, &|_| {}).await.unwrap();
        writer.keep(taken).await.unwrap();
    }
    let expected = ColumnGap { column: "updated_at".to_owned(), splits: vec!["old".to_owned()] };
    assert_eq!(writer.finish().await.unwrap().gaps(), [expected]);
}
