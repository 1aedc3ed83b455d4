//! What every source owes the pipeline, whatever it reads.
//!
//! A back end hands in a closure that makes a fresh, empty [`SourceSetUp`]; each check uses one of its own.

#![expect(clippy::unwrap_used, reason = "a failed step of the suite is a failed test")]

use arrow::array::AsArray;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use convoke_core::SourceError;
use convoke_core::error::SourceErrorKind;
use convoke_core::source::{
    Coverage, Discover, Discovery, PinnedParquet, Selection, Source, SourceBatch, SourcePosition, Split, SplitContent,
    SplitItem, SplitOutcome, SplitResult, SplitStream,
};
use futures::StreamExt;

/// A record of the suite: text columns `id` and `name`.
pub type SuiteRecord = (String, String);

/// A source with the means to change what it holds.
#[async_trait]
pub trait SourceSetUp: Send + Sync {
    fn source(&self) -> &dyn Source;

    /// Makes these records the latest contents: all there is in a snapshot, an addition in a delta.
    async fn put(&self, records: &[SuiteRecord]);

    /// Reads a file that the source hands out to be read where it is; for sources that give any.
    async fn read_parquet(&self, parquet: PinnedParquet) -> Vec<SuiteRecord> {
        panic!("a source that hands out {parquet:?} needs a set-up that reads it")
    }

    /// Puts something else in the place of what a split holds; false if there is no such thing in this source.
    async fn replace(&self, _split: &Split) -> bool {
        false
    }

    /// Whether what is put stays beside what was put before, where this is what is read.
    fn adds_up(&self, coverage: Coverage) -> bool {
        coverage == Coverage::Delta
    }

    /// Whether the source knows without reading them that its contents are those that a position tells of.
    fn tells_unchanged(&self) -> bool {
        true
    }
}

/// Runs the whole suite, each check on a set-up of its own.
pub async fn obeys_the_contract<S: SourceSetUp>(set_up: impl AsyncFn() -> S) {
    reads_what_was_put(&set_up().await).await;
    leaves_everything_in_place_until_acknowledged(&set_up().await).await;
    finds_nothing_new_after_its_own_proposal(&set_up().await).await;
    finds_what_was_put_since(&set_up().await).await;
    shows_a_snapshot_until_another_takes_its_place(&set_up().await).await;
    reads_settled_records_again_when_asked(&set_up().await).await;
    tells_what_was_replaced_before_it_was_read(&set_up().await).await;
    selects_everything_and_leaves_discovery_as_it_is(&set_up().await).await;
    selects_nothing_by_a_name_that_no_split_has(&set_up().await).await;
    lets_a_reader_go_early(&set_up().await).await;
    reads_as_many_splits_at_once_as_it_says(&set_up().await).await;
    begins_anew_after_it_was_told_that_reading_is_over(&set_up().await).await;
}

async fn reads_what_was_put<S: SourceSetUp>(set_up: &S) {
    let records = some_records(5_000, "first");
    set_up.put(&records).await;
    let schema = set_up.source().describe().await.unwrap().schema;
    assert!(schema.field_with_name("id").is_ok() && schema.field_with_name("name").is_ok(), "{schema:?}");
    let discovery = discover(set_up, None, false).await;
    assert!(!discovery.unchanged && !discovery.splits.is_empty(), "{discovery:?}");
    let (read, outcomes) = read_all(set_up, &discovery).await;
    assert_eq!(read, records);
    let counted: u64 = outcomes.iter().map(record_count).sum();
    assert_eq!(counted, 5_000);
}

async fn leaves_everything_in_place_until_acknowledged<S: SourceSetUp>(set_up: &S) {
    set_up.put(&some_records(10, "first")).await;
    let first = discover(set_up, None, false).await;
    let (_, outcomes) = read_all(set_up, &first).await;
    let proposed = set_up.source().propose(None, &outcomes);
    assert_eq!(proposed, set_up.source().propose(None, &outcomes), "a proposal is pure");
    let second = discover(set_up, None, false).await;
    assert_eq!(first.splits, second.splits);
    assert_eq!(read_all(set_up, &second).await.1, outcomes);
}

async fn finds_nothing_new_after_its_own_proposal<S: SourceSetUp>(set_up: &S) {
    set_up.put(&some_records(10, "first")).await;
    let (_, outcomes) = read_all(set_up, &discover(set_up, None, false).await).await;
    let stored = set_up.source().propose(None, &outcomes);
    assert_settled(set_up, &stored).await;
    for _once_and_again_as_after_a_crash in 0..2 {
        set_up.source().acknowledge(&outcomes).await.unwrap();
        assert_settled(set_up, &stored).await;
    }
}

async fn finds_what_was_put_since<S: SourceSetUp>(set_up: &S) {
    let stored = settle(set_up, &some_records(10, "first"), None).await;
    let added = some_records(3, "second");
    set_up.put(&added).await;
    let discovery = discover(set_up, Some(&stored), false).await;
    assert!(!discovery.unchanged);
    let (read, outcomes) = read_all(set_up, &discovery).await;
    assert_eq!(read, added);
    let moved_on = set_up.source().propose(Some(&stored), &outcomes);
    assert_ne!(moved_on, stored);
    set_up.source().acknowledge(&outcomes).await.unwrap();
    assert_settled(set_up, &moved_on).await;
}

/// By this the plan of a snapshot is held against its source.
async fn shows_a_snapshot_until_another_takes_its_place<S: SourceSetUp>(set_up: &S) {
    set_up.put(&some_records(10, "first")).await;
    let first = discover(set_up, None, false).await;
    if first.coverage == Coverage::Delta {
        return;
    }
    let (_, outcomes) = read_all(set_up, &first).await;
    let proposed = set_up.source().propose(None, &outcomes);
    let again = discover(set_up, Some(&proposed), true).await;
    let settled = again.settled.iter().map(|outcome| &outcome.split);
    let shown: Vec<_> = again.splits.iter().chain(settled).collect();
    assert!(first.splits.iter().all(|split| shown.contains(&split)), "{shown:?}");
    assert!(again.splits.iter().all(|split| first.splits.contains(split)), "{again:?}");
    if !set_up.tells_unchanged() {
        return;
    }
    set_up.put(&some_records(3, "second")).await;
    let later = discover(set_up, Some(&proposed), true).await;
    assert!(later.splits.iter().any(|split| !first.splits.contains(split)), "{later:?}");
}

async fn reads_settled_records_again_when_asked<S: SourceSetUp>(set_up: &S) {
    let (first, second) = (some_records(10, "first"), some_records(3, "second"));
    let stored = settle(set_up, &first, None).await;
    let stored = settle(set_up, &second, Some(&stored)).await;
    let discovery = discover(set_up, Some(&stored), true).await;
    assert!(!discovery.unchanged);
    let (read, outcomes) = read_all(set_up, &discovery).await;
    let expected = if set_up.adds_up(discovery.coverage) { [first, second].concat() } else { second };
    assert_eq!(read, expected);
    let again = set_up.source().propose(Some(&stored), &outcomes);
    set_up.source().acknowledge(&outcomes).await.unwrap();
    assert_settled(set_up, &again).await;
}

async fn tells_what_was_replaced_before_it_was_read<S: SourceSetUp>(set_up: &S) {
    set_up.put(&some_records(5_000, "first")).await;
    let discovery = discover(set_up, None, false).await;
    if !set_up.replace(&discovery.splits[0]).await {
        return;
    }
    let error = read_whole(set_up, &discovery.splits[0]).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed, "{error}");
    let again = discover(set_up, None, false).await;
    assert_ne!(again.splits, discovery.splits);
    read_whole(set_up, &again.splits[0]).await.unwrap();
}

async fn selects_everything_and_leaves_discovery_as_it_is<S: SourceSetUp>(set_up: &S) {
    let (first, second) = (some_records(10, "first"), some_records(3, "second"));
    let stored = settle(set_up, &first, None).await;
    set_up.put(&second).await;
    let before = discover(set_up, Some(&stored), false).await;
    let all = set_up.source().select(&Selection::All).await.unwrap();
    assert_eq!((all.coverage, all.unchanged), (Coverage::Delta, false), "{all:?}");
    let (read, _) = read_all(set_up, &all).await;
    let expected = if set_up.adds_up(before.coverage) { [first, second].concat() } else { second };
    assert_eq!(read, expected);
    let after = discover(set_up, Some(&stored), false).await;
    assert_eq!((after.splits, after.unchanged), (before.splits, false));
}

async fn selects_nothing_by_a_name_that_no_split_has<S: SourceSetUp>(set_up: &S) {
    set_up.put(&some_records(10, "first")).await;
    let selection = Selection::Objects("no-split-has-this-name".to_owned());
    match set_up.source().select(&selection).await {
        Ok(found) => assert!(found.unchanged && found.splits.is_empty(), "{found:?}"),
        Err(error) => assert_eq!(error.kind, SourceErrorKind::Selection, "a selection that cannot be made: {error}"),
    }
}

async fn lets_a_reader_go_early<S: SourceSetUp>(set_up: &S) {
    set_up.put(&some_records(100_000, "first")).await;
    let discovery = discover(set_up, None, false).await;
    match set_up.source().read(&discovery.splits[0]).await.unwrap() {
        SplitContent::Stream(mut stream) => {
            assert!(matches!(stream.next().await, Some(Ok(SplitItem::Records(_)))));
        }
        SplitContent::Parquet(parquet) => {
            let start = parquet.file.read(std::slice::from_ref(&(0..4))).await.unwrap();
            assert_eq!(start.concat(), b"PAR1");
        }
    }
    let (read, _) = read_all(set_up, &discovery).await;
    assert_eq!(read.len(), 100_000);
}

async fn reads_as_many_splits_at_once_as_it_says<S: SourceSetUp>(set_up: &S) {
    for generation in ["first", "second", "third"] {
        set_up.put(&some_records(5_000, generation)).await;
    }
    let discovery = discover(set_up, None, false).await;
    let (expected, _) = read_all(set_up, &discovery).await;
    let schema = set_up.source().describe().await.unwrap().schema;
    let at_once = set_up.source().splits_at_once().get();
    let begun = futures::stream::iter(&discovery.splits);
    let readings = begun.map(|split| read_split(set_up, split, &schema)).buffered(at_once);
    let read: Vec<_> = readings.collect().await;
    let records: Vec<_> = read.into_iter().flat_map(|(records, _)| records).collect();
    assert_eq!(records, expected);
}

async fn begins_anew_after_it_was_told_that_reading_is_over<S: SourceSetUp>(set_up: &S) {
    let records = some_records(100, "first");
    set_up.put(&records).await;
    // Nothing was begun; begun and not read; read to the end; and once more, as after a failure in between.
    set_up.source().finished().await;
    discover(set_up, None, false).await;
    set_up.source().finished().await;
    for _ in 0..2 {
        let (read, outcomes) = read_all(set_up, &discover(set_up, None, false).await).await;
        set_up.source().finished().await;
        set_up.source().finished().await;
        assert_eq!(read, records);
        set_up.source().propose(None, &outcomes);
    }
}

/// Puts records and takes them through a whole run; gives back the position that is stored then.
async fn settle<S: SourceSetUp>(
    set_up: &S,
    records: &[SuiteRecord],
    stored: Option<&SourcePosition>,
) -> SourcePosition {
    set_up.put(records).await;
    let (_, outcomes) = read_all(set_up, &discover(set_up, stored, false).await).await;
    let proposed = set_up.source().propose(stored, &outcomes);
    set_up.source().acknowledge(&outcomes).await.unwrap();
    proposed
}

/// Checks that a source, as far as it can tell, has nothing to read beyond this position.
async fn assert_settled<S: SourceSetUp>(set_up: &S, stored: &SourcePosition) {
    let discovery = discover(set_up, Some(stored), false).await;
    assert_eq!(discovery.unchanged, set_up.tells_unchanged(), "{discovery:?}");
}

async fn discover<S: SourceSetUp>(set_up: &S, stored: Option<&SourcePosition>, reread: bool) -> Discovery {
    set_up.source().discover(Discover { stored, reread }).await.unwrap()
}

/// Reads all splits to their ends, and checks what holds for every split on the way.
async fn read_all<S: SourceSetUp>(set_up: &S, discovery: &Discovery) -> (Vec<SuiteRecord>, Vec<SplitOutcome>) {
    let schema = set_up.source().describe().await.unwrap().schema;
    let (mut records, mut outcomes) = (Vec::new(), Vec::new());
    for split in &discovery.splits {
        let (read, fingerprint) = read_split(set_up, split, &schema).await;
        assert!(!fingerprint.is_empty(), "something identifies the contents of `{}`", split.name);
        let result = SplitResult::Read { fingerprint, records: read.len() as u64 };
        outcomes.push(SplitOutcome { split: split.clone(), result });
        records.extend(read);
    }
    (records, outcomes)
}

async fn read_split<S: SourceSetUp>(set_up: &S, split: &Split, schema: &SchemaRef) -> (Vec<SuiteRecord>, String) {
    match set_up.source().read(split).await.unwrap() {
        SplitContent::Stream(stream) => read_stream(stream, split, schema).await,
        SplitContent::Parquet(parquet) => {
            let fingerprint = parquet.file.fingerprint().to_owned();
            assert_eq!(split.bytes, Some(parquet.file.size()));
            (set_up.read_parquet(parquet).await, fingerprint)
        }
    }
}

async fn read_stream(mut stream: SplitStream, split: &Split, schema: &SchemaRef) -> (Vec<SuiteRecord>, String) {
    let (mut records, mut last_position, mut fingerprint) = (Vec::new(), 0, None);
    while let Some(item) = stream.next().await {
        assert!(fingerprint.is_none(), "nothing may follow the end of split `{}`", split.name);
        match item.unwrap() {
            SplitItem::Records(batch) => {
                assert_eq!(batch.positions.len(), batch.records.num_rows());
                for &position in &batch.positions {
                    assert!(position > last_position, "positions rise from 1");
                    last_position = position;
                }
                records.extend(suite_records(&batch, schema));
            }
            SplitItem::End { fingerprint: found } => fingerprint = Some(found),
            other => panic!("unexpected {other:?}"),
        }
    }
    (records, fingerprint.expect("a split ends with its fingerprint"))
}

fn suite_records(batch: &SourceBatch, schema: &SchemaRef) -> Vec<SuiteRecord> {
    for field in batch.records.schema().fields() {
        let described = schema.field_with_name(field.name()).expect("what is read was described");
        assert_eq!(described.data_type(), field.data_type(), "of column `{}`", field.name());
    }
    let column = |name: &str| batch.records.column_by_name(name).unwrap().as_string::<i32>().clone();
    let (ids, names) = (column("id"), column("name"));
    let pairs = ids.iter().zip(names.iter());
    pairs.map(|(id, name)| (id.unwrap().to_owned(), name.unwrap().to_owned())).collect()
}

/// Reads every byte or record of a split.
async fn read_whole<S: SourceSetUp>(set_up: &S, split: &Split) -> Result<(), SourceError> {
    match set_up.source().read(split).await? {
        SplitContent::Stream(mut stream) => {
            while let Some(item) = stream.next().await {
                item?;
            }
            Ok(())
        }
        SplitContent::Parquet(parquet) => {
            let whole = 0..parquet.file.size();
            parquet.file.read(std::slice::from_ref(&whole)).await.map(drop)
        }
    }
}

fn record_count(outcome: &SplitOutcome) -> u64 {
    match &outcome.result {
        SplitResult::Read { records, .. } => *records,
        SplitResult::Broken { .. } => 0,
    }
}

fn some_records(count: usize, generation: &str) -> Vec<SuiteRecord> {
    (0..count).map(|number| (format!("{generation}-{number}"), format!("Name {number}, \"{generation}\""))).collect()
}
