//! What every source owes the pipeline, whatever it reads.
//!
//! A back end hands in a closure that makes a fresh, empty [`SourceSetUp`]; each check uses one of its own.

#![expect(clippy::unwrap_used, reason = "a failed step of the suite is a failed test")]

use arrow::array::AsArray;
use async_trait::async_trait;
use convoke_core::source::{
    Coverage, Discover, Discovery, Source, SourcePosition, SplitItem, SplitOutcome, SplitResult,
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
}

/// Runs the whole suite, each check on a set-up of its own.
pub async fn obeys_the_contract<S: SourceSetUp>(set_up: impl AsyncFn() -> S) {
    reads_what_was_put(&set_up().await).await;
    leaves_everything_in_place_until_acknowledged(&set_up().await).await;
    finds_nothing_new_after_its_own_proposal(&set_up().await).await;
    finds_what_was_put_since(&set_up().await).await;
    shows_a_snapshot_until_another_takes_its_place(&set_up().await).await;
    reads_settled_records_again_when_asked(&set_up().await).await;
    lets_a_reader_go_early(&set_up().await).await;
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
    assert!(discover(set_up, Some(&stored), false).await.unchanged, "before it is acknowledged");
    for time in ["once", "twice, as after a crash"] {
        set_up.source().acknowledge(&outcomes).await.unwrap();
        assert!(discover(set_up, Some(&stored), false).await.unchanged, "acknowledged {time}");
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
    assert!(discover(set_up, Some(&moved_on), false).await.unchanged);
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
    match discovery.coverage {
        Coverage::Snapshot => assert_eq!(read, second),
        Coverage::Delta => assert_eq!(read, [first, second].concat()),
    }
    let again = set_up.source().propose(Some(&stored), &outcomes);
    set_up.source().acknowledge(&outcomes).await.unwrap();
    assert!(discover(set_up, Some(&again), false).await.unchanged);
}

async fn lets_a_reader_go_early<S: SourceSetUp>(set_up: &S) {
    set_up.put(&some_records(100_000, "first")).await;
    let discovery = discover(set_up, None, false).await;
    let mut stream = set_up.source().read(&discovery.splits[0]).await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(SplitItem::Records(_)))));
    drop(stream);
    let (read, _) = read_all(set_up, &discovery).await;
    assert_eq!(read.len(), 100_000);
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

async fn discover<S: SourceSetUp>(set_up: &S, stored: Option<&SourcePosition>, reread: bool) -> Discovery {
    set_up.source().discover(Discover { stored, reread }).await.unwrap()
}

/// Reads all splits to their ends, and checks what holds for every stream on the way.
async fn read_all<S: SourceSetUp>(set_up: &S, discovery: &Discovery) -> (Vec<SuiteRecord>, Vec<SplitOutcome>) {
    let (mut records, mut outcomes) = (Vec::new(), Vec::new());
    for split in &discovery.splits {
        let mut stream = set_up.source().read(split).await.unwrap();
        let before = records.len();
        let (mut last_position, mut fingerprint) = (0, None);
        while let Some(item) = stream.next().await {
            assert!(fingerprint.is_none(), "nothing may follow the end of split `{}`", split.name);
            match item.unwrap() {
                SplitItem::Records(batch) => {
                    assert_eq!(batch.positions.len(), batch.records.num_rows());
                    for &position in &batch.positions {
                        assert!(position > last_position, "positions rise from 1");
                        last_position = position;
                    }
                    let column = |name: &str| batch.records.column_by_name(name).unwrap().as_string::<i32>().clone();
                    let (ids, names) = (column("id"), column("name"));
                    let pairs = ids.iter().zip(names.iter());
                    records.extend(pairs.map(|(id, name)| (id.unwrap().to_owned(), name.unwrap().to_owned())));
                }
                SplitItem::End { fingerprint: found } => fingerprint = Some(found),
                other => panic!("unexpected {other:?}"),
            }
        }
        let fingerprint = fingerprint.expect("a split ends with its fingerprint");
        let count = (records.len() - before) as u64;
        outcomes.push(SplitOutcome { split: split.clone(), result: SplitResult::Read { fingerprint, records: count } });
    }
    (records, outcomes)
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
