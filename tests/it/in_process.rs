//! What takes days or minutes: the pipeline runs in this process, under a clock that the test holds, into an audience in
//! memory.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use convoke_config::{System, config_hash, load};
use convoke_core::boundary::{Boundary, BoundaryObserver, Unobserved};
use convoke_core::error::SinkError;
use convoke_core::sink::{
    Answer, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, Destination, FoundRow, JobId, JobState,
    LookUp, Provision, ProvisionAnswer, Request, ScanPage, Sink, Survey,
};
use convoke_core::source::Source;
use convoke_core::spec::{RateLimits, SourceSpec};
use convoke_core::state::{
    Audiences, Journal, Leases, Ledgers, PlanState, RunRecord, RunState, Runs, audience_resource,
};
use convoke_core::{Clock, SyncName, Timestamp};
use convoke_engine::{Engine, EngineSettings};
use convoke_pipeline::{Extent, Folders, Pipeline, Retention, Services, Silent, Sync};
use convoke_source_drop::CsvDrop;
use convoke_state::{LocalSegments, OpenMode, SqliteState};
use convoke_testkit::clock::TestClock;
use convoke_testkit::fake_sink::{FakeSink, Faults, POISON, WriteFault};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::workspace::{Person, SYNC, Workspace, people, sync_yaml};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A sync whose pipeline runs in this process, into an audience in memory.
pub(crate) struct Scene {
    pub(crate) workspace: Workspace,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) sink: Arc<FakeSink>,
    destination: Arc<dyn Destination>,
}

/// A destination whose rows cannot be found by their key.
struct Blind(Arc<FakeSink>);

#[async_trait]
impl AudienceSetup for Blind {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        Ok(Survey { key_look_up: None, ..self.0.survey(target, known_id).await? })
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.0.provision(step).await
    }
}

#[async_trait]
impl Sink for Blind {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn send(&self, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        self.0.send(audience, request).await
    }

    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        self.0.poll(audience, job).await
    }

    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        self.0.look_up(audience, query).await
    }

    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        self.0.scan(audience, cursor).await
    }
}

impl Scene {
    pub(crate) fn new(sync: &str) -> Self {
        let workspace = Workspace::embedded();
        workspace.write("config/syncs/people.yaml", sync);
        let clock = TestClock::leaping();
        let sink = FakeSink::new(Arc::clone(&clock) as _, FakeSink::small_capabilities(), Faults::none());
        Self { workspace, clock, destination: Arc::clone(&sink) as _, sink }
    }

    pub(crate) async fn services(&self, clock: Arc<dyn Clock>, boundaries: Arc<dyn BoundaryObserver>) -> Services {
        let state_dir = self.workspace.path("state");
        let state = self.state().await;
        let settings = EngineSettings { memory_limit_bytes: 128 << 20, threads: 1, spill_dir: state_dir.join("spill") };
        Services {
            hash_key: state.hash_key().await.expect("a key"),
            state: Arc::new(state),
            segments: Arc::new(LocalSegments::new(state_dir.join("ledger"))),
            archive: None,
            engine: Arc::new(Engine::new(settings).expect("an engine")),
            clock,
            boundaries,
            reporter: Arc::new(Silent),
            folders: Folders::new(&state_dir),
            holder: "tests".to_owned(),
            // Longer than any test: under this clock only short sleeps end.
            lease_ttl: DAY,
            retention: Retention { plans_settled: 30 * DAY, plans_waiting: 30 * DAY, rejects: 30 * DAY },
        }
    }

    pub(crate) async fn state(&self) -> SqliteState {
        let path = self.workspace.path("state/state.sqlite");
        SqliteState::open(&path, OpenMode::ReadWrite).await.expect("a store")
    }

    async fn pipeline(&self) -> Pipeline {
        self.pipeline_under(Arc::clone(&self.clock) as _, Arc::new(Unobserved)).await
    }

    async fn pipeline_under(&self, clock: Arc<dyn Clock>, boundaries: Arc<dyn BoundaryObserver>) -> Pipeline {
        let config = load(&self.workspace.path("config"), &System).expect("a configuration");
        let spec = config.syncs[&SyncName::new(SYNC)].spec.clone();
        let SourceSpec::CsvDrop(drop) = &spec.source else { panic!("the scene reads a drop folder") };
        let source = CsvDrop::open(drop.clone(), None, Arc::clone(&self.clock) as Arc<dyn Clock>).expect("a folder");
        self.pipeline_reading(Arc::new(source), self.services(clock, boundaries).await, CancellationToken::new())
    }

    /// A pipeline of the scene's sync, whatever it reads.
    pub(crate) fn pipeline_reading(
        &self,
        source: Arc<dyn Source>,
        services: Services,
        cancel: CancellationToken,
    ) -> Pipeline {
        let config = load(&self.workspace.path("config"), &System).expect("a configuration");
        let sync = Sync {
            source,
            spec: config.syncs[&SyncName::new(SYNC)].spec.clone(),
            config_hash,
            destination: Arc::clone(&self.destination),
            backfill_destination: Arc::clone(&self.destination),
            rate: RateLimits { per_second: None, per_hour: None, per_day: None },
            allow_blind_creates: true,
        };
        Pipeline::new(services, sync, cancel)
    }

    pub(crate) async fn run(&self) -> RunRecord {
        let ended = self.pipeline().await.run(Extent::default()).await.expect("a run");
        assert!(ended.error.is_none(), "{:?}", ended.error);
        ended.run
    }
}

/// Seen on the day on which the test clock starts, and two days before.
fn seen_lately() -> Vec<Person> {
    let mut people = people(0..2);
    people[0].updated_at = "2026-01-05T08:00:00Z".to_owned();
    people[1].updated_at = "2026-01-03T08:00:00Z".to_owned();
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn people_leave_a_window_of_days_although_the_file_is_the_same() {
    let scene = Scene::new(&sync_yaml("mirror", "where: { column: updated_at, last_days: 2 }\n"));
    scene.workspace.drop_csv("1.csv", &seen_lately());
    scene.run().await;
    assert_eq!(scene.sink.rows().len(), 2);
    let same_day = scene.run().await.counts.expect("counts");
    assert_eq!((same_day.read, same_day.carried_over), (0, 2), "on the same day nothing is read again");
    scene.clock.advance(DAY);
    let run = scene.run().await;
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!(run.counts.expect("counts").deletes, 1);
    assert_eq!(scene.sink.rows().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_does_not_look_at_the_day_reads_an_unchanged_file_no_more() {
    let scene = Scene::new(&sync_yaml("mirror", "where: { column: email, not_empty: true }\n"));
    scene.workspace.drop_csv("1.csv", &seen_lately());
    scene.run().await;
    scene.clock.advance(DAY);
    let counts = scene.run().await.counts.expect("counts");
    assert_eq!((counts.read, counts.carried_over), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_waits_until_what_cannot_be_looked_up_shows_or_never_will() {
    let mut scene = Scene::new(&sync_yaml("mirror", ""));
    scene.destination = Arc::new(Blind(Arc::clone(&scene.sink)));
    scene.workspace.drop_csv("1.csv", &people(0..5));
    scene.run().await;
    scene.workspace.drop_csv("2.csv", &people(0..6));
    scene.sink.script([WriteFault::LateCommit { by: Duration::from_secs(200) }]);
    let ended = scene.pipeline().await.run(Extent::default()).await.expect("a run");
    assert_eq!(ended.run.state, RunState::Unbalanced, "{:?}", ended.error);
    let adoption = scene.pipeline().await.adopt().await.expect("an adoption");
    assert_eq!((adoption.adopted, adoption.known), (1, 5));
    scene.run().await;
    assert_eq!(scene.sink.rows().len(), 6, "nobody stands twice");
}

/// A clock that lets another run pass the first time that its elapsed time is asked for: right before a lease is taken.
struct Overtaken {
    clock: Arc<TestClock>,
    other: Mutex<Option<Pipeline>>,
}

#[async_trait]
impl Clock for Overtaken {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        let other = self.other.lock().expect("nobody panics while holding it").take();
        if let Some(other) = other {
            let ended = block_in_place(|| Handle::current().block_on(other.run(Extent::default())));
            assert_eq!(ended.expect("a run").run.state, RunState::Succeeded);
        }
        self.clock.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}

/// Looks, when a plan is begun, whether the sync's audience is held.
struct HeldAtPlanning {
    state: SqliteState,
    is_held: Mutex<Option<bool>>,
}

impl BoundaryObserver for HeldAtPlanning {
    fn reached(&self, boundary: Boundary) {
        if boundary != Boundary::BeforePlanFile {
            return;
        }
        let look = async {
            let binding = self.state.binding(&SyncName::new(SYNC)).await.expect("a read").expect("it is bound");
            self.state.holder(&audience_resource(&binding.key)).await.expect("a read").is_some()
        };
        let is_held = block_in_place(|| Handle::current().block_on(look));
        *self.is_held.lock().expect("nobody panics while holding it") = Some(is_held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_overtaken_while_the_audience_is_made_holds_the_audience_and_not_its_name() {
    let scene = Scene::new(&sync_yaml("mirror", ""));
    scene.workspace.drop_csv("1.csv", &people(0..5));
    let other = Mutex::new(Some(scene.pipeline().await));
    let clock = Arc::new(Overtaken { clock: Arc::clone(&scene.clock), other });
    let observer = Arc::new(HeldAtPlanning { state: scene.state().await, is_held: Mutex::default() });
    let pipeline = scene.pipeline_under(clock, Arc::clone(&observer) as _).await;
    let ended = pipeline.run(Extent::default()).await.expect("a run");
    assert!(ended.error.is_none(), "{:?}", ended.error);
    assert_eq!(*observer.is_held.lock().expect("nobody panics while holding it"), Some(true));
    assert_eq!(scene.sink.rows().len(), 5);
}

/// A clock under which the first wait for a late request lasts until it is cut short.
struct Patient {
    clock: Arc<TestClock>,
    has_waited: AtomicBool,
}

#[async_trait]
impl Clock for Patient {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        let is_for_late_request = duration >= FakeSink::small_capabilities().max_commit_delay && duration < DAY / 10;
        if is_for_late_request && !self.has_waited.swap(true, Ordering::Relaxed) {
            return std::future::pending().await;
        }
        self.clock.sleep(duration).await;
    }
}

/// An audience of five people, and a file with sixteen more: the answer to the first eight will be lost, and one of the
/// others will be refused.
async fn prepare_to_pass_the_reject_limit(scene: &Scene) {
    scene.workspace.drop_csv("1.csv", &people(0..5));
    scene.run().await;
    let mut more = people(0..21);
    more[20].email = format!("{POISON}@example.com");
    scene.workspace.drop_csv("2.csv", &more);
    scene.sink.script([WriteFault::LostAnswer]);
}

async fn patient_pipeline(scene: &Scene) -> Pipeline {
    let clock = Patient { clock: Arc::clone(&scene.clock), has_waited: AtomicBool::new(false) };
    scene.pipeline_under(Arc::new(clock), Arc::new(Unobserved)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_doubt_when_too_many_were_refused_are_settled_before_the_rest_is_cancelled() {
    let scene = Scene::new(&sync_yaml("mirror", "guards: { max_reject: 0, max_create: unlimited }\n"));
    prepare_to_pass_the_reject_limit(&scene).await;
    let ended = patient_pipeline(&scene).await.run(Extent::default()).await.expect("a run");
    assert_eq!(ended.run.state, RunState::Stopped, "{:?}", ended.error);
    let creates = ended.run.delivery.expect("figures").creates;
    assert_eq!((creates.acknowledged, creates.rejected, creates.cancelled), (15, 1, 0));
    assert_eq!(scene.sink.rows().len(), 20);
    let state = scene.state().await;
    let binding = state.binding(&SyncName::new(SYNC)).await.expect("a read").expect("it is bound");
    assert_eq!(state.ledger(&binding.key).await.expect("a read").expect("a ledger").live, 20);
    assert!(state.open_entries(&binding.key).await.expect("a read").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_stay_in_doubt_when_too_many_were_refused_are_not_cancelled() {
    let mut scene = Scene::new(&sync_yaml("mirror", "guards: { max_reject: 0, max_create: unlimited }\n"));
    scene.destination = Arc::new(Blind(Arc::clone(&scene.sink)));
    prepare_to_pass_the_reject_limit(&scene).await;
    let ended = patient_pipeline(&scene).await.run(Extent::default()).await.expect("a run");
    assert_eq!(ended.run.state, RunState::Unbalanced, "{:?}", ended.error);
    assert_eq!(ended.plan.expect("a plan").state, PlanState::Applying);
    assert_eq!(ended.run.delivery.expect("figures").cancelled(), 0);
    let adoption = scene.pipeline().await.adopt().await.expect("an adoption");
    assert_eq!(adoption.adopted, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_that_a_guard_stopped_is_not_told_what_became_of_its_plan_later() {
    let scene = Scene::new(&sync_yaml("mirror", "guards: { max_reject: 0, max_create: 1 }\n"));
    prepare_to_pass_the_reject_limit(&scene).await;
    let held = scene.pipeline().await.run(Extent::default()).await.expect("a run");
    let plan = held.plan.expect("a plan");
    let pipeline = patient_pipeline(&scene).await;
    let applied = pipeline.apply(plan.manifest.id, Some(&plan.hash)).await.expect("a run");
    assert_eq!(applied.run.state, RunState::Stopped, "{:?}", applied.error);
    assert_eq!(applied.plan.expect("a plan").state, PlanState::Abandoned);
    let kept = scene.state().await.run(held.run.id).await.expect("a read").expect("a run");
    assert_eq!((kept.message, kept.delivery), (held.run.message, None));
}

/// Lets a file come in the way of the folder for processed files, once the run is recorded.
struct InTheWay(PathBuf);

impl BoundaryObserver for InTheWay {
    fn reached(&self, boundary: Boundary) {
        if boundary == Boundary::AfterCheckpoint {
            std::fs::write(&self.0, "in the way").expect("a file");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_moved_after_delivery_is_told_as_that() {
    let scene = Scene::new(&sync_yaml("mirror", ""));
    scene.workspace.drop_csv("1.csv", &people(0..5));
    let in_the_way = scene.workspace.path("drop/processed");
    let pipeline = scene.pipeline_under(Arc::clone(&scene.clock) as _, Arc::new(InTheWay(in_the_way.clone()))).await;
    let ended = pipeline.run(Extent::default()).await.expect("a run");
    let message = ended.run.message.expect("what went wrong");
    assert!(message.starts_with("delivery is done and recorded; only") && message.contains("processed"), "{message}");
    assert_eq!(ended.run.delivery.expect("figures").creates.acknowledged, 5);
    std::fs::remove_file(in_the_way).expect("it is there");
    scene.run().await;
    assert!(scene.workspace.path("drop/processed/1.csv").exists(), "the next run moves it");
    assert_eq!(scene.sink.rows().len(), 5);
}
