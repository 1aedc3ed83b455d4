//! Sources that are cut off, and splits that are read beside one another.

use std::sync::Arc;

use convoke_core::boundary::Unobserved;
use convoke_core::source::{Coverage, Source};
use convoke_core::state::{RunRecord, RunState};
use convoke_pipeline::{Ended, Extent, SOURCE_ATTEMPTS};
use convoke_testkit::fake_source::{FakeRecord, FakeSource, ReadFault};
use tokio_util::sync::CancellationToken;

use crate::in_process::Scene;
use crate::workspace::sync_yaml;

const COLUMNS: [&str; 4] = ["email", "name", "score", "updated_at"];

fn records(split: usize, count: usize) -> Vec<FakeRecord> {
    let record = |number: usize| {
        let score = split * 10_000 + number;
        let cells = [format!("p{score}@example.com"), format!("P {score}"), score.to_string()];
        cells.into_iter().chain(["2026-01-01T00:00:00Z".to_owned()]).collect()
    };
    (0..count).map(record).collect()
}

fn source_of(sizes: &[usize], at_once: usize) -> Arc<FakeSource> {
    let source = FakeSource::new(&COLUMNS, Coverage::Delta, at_once);
    for (split, size) in sizes.iter().enumerate() {
        source.put(&format!("split-{split}"), records(split, *size));
    }
    source
}

async fn run(scene: &Scene, source: &Arc<FakeSource>) -> Ended {
    let services = scene.services(Arc::clone(&scene.clock) as _, Arc::new(Unobserved)).await;
    let pipeline = scene.pipeline_reading(Arc::clone(source) as Arc<dyn Source>, services, CancellationToken::new());
    pipeline.run(Extent::default()).await.expect("a run")
}

fn read(run: &RunRecord) -> u64 {
    run.counts.expect("counts").read
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_is_read_again_and_counted_once() {
    let scene = Scene::new(&sync_yaml("upsert", ""));
    let source = source_of(&[30, 6_000, 40], 1);
    source.cut_off_listing(2);
    source.script("split-0", [ReadFault::Refused, ReadFault::CutOff { after: 10 }]);
    source.script("split-1", [ReadFault::CutOff { after: 5_500 }]);
    let ended = run(&scene, &source).await;
    assert!(ended.error.is_none(), "{:?}", ended.error);
    assert_eq!(read(&ended.run), 6_070);
    assert_eq!(scene.sink.rows().len(), 6_070);
    assert_eq!(source.reads(), ["split-0", "split-0", "split-0", "split-1", "split-1", "split-2"]);
    assert!(!source.is_held() && source.finished_calls() > 0, "what was held for reading is let go of");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lost_its_half_is_held_against_the_last_time_it_was_read_as_a_whole() {
    let guards = "guards: { max_create: unlimited, max_delete: unlimited, max_shrink: 50% }\n";
    let scene = Scene::new(&sync_yaml("mirror", guards));
    let read_as = async |coverage: Coverage, name: &str, count: usize| {
        let source = FakeSource::new(&COLUMNS, coverage, 1);
        source.put(name, records(0, count));
        run(&scene, &source).await
    };
    for (coverage, name, count) in [(Coverage::Snapshot, "whole", 40), (Coverage::Delta, "changes", 3)] {
        let ended = read_as(coverage, name, count).await;
        assert!(ended.error.is_none() && read(&ended.run) == count as u64, "{:?}", ended.error);
    }
    let shrunk = read_as(Coverage::Snapshot, "whole again", 15).await;
    assert_eq!(shrunk.run.state, RunState::Stopped, "{:?}", shrunk.run);
    assert!(shrunk.run.message.expect("a message").contains("max_shrink"));
    assert_eq!(scene.sink.rows().len(), 40);
    let whole = read_as(Coverage::Snapshot, "whole once more", 30).await;
    assert!(whole.error.is_none(), "{:?}", whole.error);
    assert_eq!(scene.sink.rows().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_stays_cut_off_is_given_up_with_the_number_of_attempts() {
    let scene = Scene::new(&sync_yaml("upsert", ""));
    let source = source_of(&[30, 30], 1);
    source.script("split-1", [ReadFault::CutOff { after: 3 }; 100]);
    let ended = run(&scene, &source).await;
    assert_eq!(ended.run.state, RunState::Failed);
    let message = ended.run.message.expect("a message");
    assert!(message.contains(&format!("after {SOURCE_ATTEMPTS} attempts")), "{message}");
    assert!(message.contains("`split-1`") && message.contains("the connection was lost"), "{message}");
    assert_eq!(source.reads().len(), 1 + SOURCE_ATTEMPTS as usize);
    assert!(!source.is_held(), "what was held for reading is let go of");
    assert_eq!(scene.sink.rows().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_it_was_read_is_listed_again_instead() {
    let scene = Scene::new(&sync_yaml("upsert", ""));
    let source = source_of(&[30], 1);
    source.script("split-0", [ReadFault::Changed { after: 3 }]);
    let ended = run(&scene, &source).await;
    assert!(ended.error.is_none(), "{:?}", ended.error);
    assert_eq!(read(&ended.run), 30);
}

/// All records have one key, so that the last one of the source wins, whichever split ends first.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_the_source_decides_although_splits_are_read_at_once() {
    let sync = sync_yaml("upsert", "").replace("normalize_email(email)", "'all@example.com'");
    let sync = sync.replace("dedupe: { keep: latest, by: updated_at }\n", "");
    for held_back in ["split-0", "split-3", "split-5"] {
        let scene = Scene::new(&sync);
        let source = source_of(&[5, 5_000, 3, 7_000, 2, 4], 3);
        source.hold_back(held_back);
        let letting_go = async {
            // Those beside it are begun, and go on without it.
            while source.reads().len() < 3 || !source.reads().iter().any(|read| read == held_back) {
                tokio::task::yield_now().await;
            }
            source.let_go(held_back);
        };
        let (ended, ()) = tokio::join!(run(&scene, &source), letting_go);
        assert!(ended.error.is_none(), "{:?}", ended.error);
        assert_eq!(read(&ended.run), 12_014);
        let rows = scene.sink.rows();
        assert_eq!(rows.len(), 1);
        assert!(format!("{rows:?}").contains("P 50003"), "{held_back}: {rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_reading_ends_at_once_and_lets_go() {
    let scene = Scene::new(&sync_yaml("upsert", ""));
    let source = source_of(&[5, 5], 2);
    source.hold_back("split-0");
    let cancel = CancellationToken::new();
    let services = scene.services(Arc::clone(&scene.clock) as _, Arc::new(Unobserved)).await;
    let pipeline = scene.pipeline_reading(Arc::clone(&source) as Arc<dyn Source>, services, cancel.clone());
    let cancelling = async {
        while source.reads().len() < 2 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(pipeline.run(Extent::default()), cancelling);
    assert_eq!(ended.expect("a run").run.state, RunState::Interrupted);
    assert!(!source.is_held());
}
