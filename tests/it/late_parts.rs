//! A snapshot whose writer is not done when it is listed.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use convoke_core::boundary::Unobserved;
use convoke_core::source::{
    Discover, Discovery, Selection, Source, SourcePosition, SourceSchema, Split, SplitContent, SplitOutcome,
};
use convoke_core::spec::{ObjectsMode, ObjectsSpec};
use convoke_core::state::RunState;
use convoke_core::{Clock, SourceError};
use convoke_pipeline::{Ended, Extent};
use convoke_source_object::ObjectSource;
use tokio_util::sync::CancellationToken;

use crate::feeds::parquet_of;
use crate::in_process::Scene;
use crate::workspace::{people, sync_yaml};

const PARTS: usize = 10;
const PEOPLE_IN_PART: usize = 20;

/// Parquet in a folder, of which a writer puts the last parts once the others are listed for the second time: before their
/// rows are read.
struct LateWriter {
    objects: ObjectSource,
    folder: PathBuf,
    late: Mutex<Vec<usize>>,
}

fn put(folder: &std::path::Path, part: usize) {
    let first = part * PEOPLE_IN_PART;
    fs::write(folder.join(format!("{part}.parquet")), parquet_of(&people(first..first + PEOPLE_IN_PART)))
        .expect("a file");
}

#[async_trait]
impl Source for LateWriter {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        self.objects.describe().await
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        self.objects.discover(request).await
    }

    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError> {
        self.objects.select(selection).await
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        self.objects.read(split).await
    }

    async fn still_holds(&self, splits: &[Split]) -> Result<(), SourceError> {
        self.objects.still_holds(splits).await?;
        let late = std::mem::take(&mut *self.late.lock().expect("nobody panics while holding it"));
        late.into_iter().for_each(|part| put(&self.folder, part));
        Ok(())
    }

    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        self.objects.propose(stored, outcomes)
    }

    async fn acknowledge(&self, outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        self.objects.acknowledge(outcomes).await
    }
}

async fn run(scene: &Scene, late: Vec<usize>) -> Ended {
    let folder = scene.workspace.path("parts");
    let spec = ObjectsSpec::parquet(format!("file://{}/*.parquet", folder.display()), ObjectsMode::Snapshot);
    let objects = ObjectSource::open(spec, None, Arc::clone(&scene.clock) as Arc<dyn Clock>).expect("a folder");
    let source = Arc::new(LateWriter { objects, folder, late: Mutex::new(late) });
    let services = scene.services(Arc::clone(&scene.clock) as _, Arc::new(Unobserved)).await;
    let pipeline = scene.pipeline_reading(source, services, CancellationToken::new());
    pipeline.run(Extent::default()).await.expect("a run")
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_come_while_the_others_are_compared_are_read_before_anything_is_deleted() {
    let scene = Scene::new(&sync_yaml("mirror", "guards: { max_delete: unlimited }\n"));
    let folder = scene.workspace.path("parts");
    fs::create_dir_all(&folder).expect("a folder");
    (0..PARTS).for_each(|part| put(&folder, part));
    assert_eq!(run(&scene, Vec::new()).await.run.state, RunState::Succeeded);
    let late: Vec<usize> = (6..PARTS).collect();
    late.iter().for_each(|part| fs::remove_file(folder.join(format!("{part}.parquet"))).expect("it is there"));
    put(&folder, 0);
    let ended = run(&scene, late).await;
    assert!(ended.error.is_none(), "{:?}", ended.error);
    let counts = ended.run.counts.expect("counts");
    assert_eq!((counts.read, counts.deletes), ((PARTS * PEOPLE_IN_PART) as u64, 0));
    assert_eq!(scene.sink.rows().len(), PARTS * PEOPLE_IN_PART);
}
