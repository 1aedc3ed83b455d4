//! What becomes of the plan of a window that was cut short. The pipeline runs in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoke_config::{System, load};
use convoke_core::SyncName;
use convoke_core::boundary::{Boundary, BoundaryObserver, Unobserved};
use convoke_core::source::Selection;
use convoke_core::spec::SourceSpec;
use convoke_core::state::{RunState, Runs};
use convoke_pipeline::{BackfillRequest, Error, Pipeline};
use convoke_source_drop::CsvDrop;
use convoke_testkit::fake_sink::POISON;
use tokio_util::sync::CancellationToken;

use crate::in_process::Scene;
use crate::workspace::{SYNC, people, sync_yaml};

/// Ends a command once so many requests were begun.
struct StopsAt {
    sends_left: AtomicUsize,
    cancel: CancellationToken,
}

impl BoundaryObserver for StopsAt {
    fn reached(&self, boundary: Boundary) {
        if boundary == Boundary::BeforeSend && self.sends_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
    }
}

async fn pipeline(scene: &Scene, boundaries: Arc<dyn BoundaryObserver>, cancel: CancellationToken) -> Pipeline {
    let config = load(&scene.workspace.path("config"), &System).expect("a configuration");
    let spec = config.syncs[&SyncName::new(SYNC)].spec.clone();
    let SourceSpec::CsvDrop(drop) = &spec.source else { panic!("the scene reads a drop folder") };
    let source = CsvDrop::open(drop.clone(), None, Arc::clone(&scene.clock) as _).expect("a folder");
    let services = scene.services(Arc::clone(&scene.clock) as _, boundaries).await;
    scene.pipeline_reading(Arc::new(source), services, cancel)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_that_passes_the_reject_limit_is_told_and_its_window_is_not_sent_anew() {
    let more = "guards: { max_reject: 0, max_create: unlimited, max_update: unlimited }\n";
    let scene = Scene::new(&sync_yaml("upsert", more).replace("mode: snapshot", "mode: append"));
    scene.workspace.drop_csv("1.csv", &people(0..5));
    // Far more than are under way at once before the one that is refused.
    let mut second = people(5..405);
    second[399].email = format!("{POISON}@example.com");
    scene.workspace.drop_csv("2.csv", &second);
    let cancel = CancellationToken::new();
    let stops = StopsAt { sends_left: AtomicUsize::new(3), cancel: cancel.clone() };
    let window = Some(convoke_core::backfill::WindowSize::Splits(1));
    let begin = BackfillRequest::Begin { selection: Selection::All, window };
    let begun = pipeline(&scene, Arc::new(stops), cancel).await.backfill(&begin).await.expect("a beginning");
    assert_eq!(begun.settled_now, 1, "{begun:?}");
    assert_eq!(begun.last.expect("a run").run.state, RunState::Interrupted);

    let resumed = pipeline(&scene, Arc::new(Unobserved), CancellationToken::new()).await;
    let resumed = resumed.backfill(&BackfillRequest::Resume).await.expect("a resumption");
    let last = resumed.last.expect("a run");
    let Some(Error::Stopped { message }) = &last.error else { panic!("{:?}", last.error) };
    assert!(message.contains("max_reject"), "{message}");
    let told = last.run.message.expect("what stopped it");
    assert!(told.starts_with("window 2 of 2 of a backfill; "), "{told}");
    assert_eq!((resumed.settled_now, resumed.backfill.map(|backfill| backfill.settled)), (0, Some(1)));
    let runs = scene.state().await.runs(Some(&SyncName::new(SYNC)), 50).await.expect("runs");
    let stopped = runs.iter().filter(|run| run.state == RunState::Stopped).count();
    assert_eq!(stopped, 1, "the window was not planned anew: {runs:?}");
}
