//! What happens after a run: the destination is asked to enrich rows, each time once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript};
use serde_json::Value;

use crate::workspace::{Ended, Person, SYNC, StoreProcess, Workspace, people, sync_yaml};

const CHANGED: &str = "after: { enrich: changed, wait: 1m }\n";
const ALL: &str = "after: { enrich: all }\n";

/// The path of the request that starts an enrichment.
const ENRICH: &str = "/actions/enrich";

/// The boundaries that a run passes after its end.
pub(crate) const BOUNDARIES: [&str; 2] = ["before-enrichment", "after-enrichment"];

/// A sync behind a proxy, whose audience has a match column.
struct Scene {
    _store: StoreProcess,
    _proxy: FaultProxy,
    workspace: Workspace,
    /// Requests to start an enrichment.
    asked: Arc<AtomicU64>,
}

impl Scene {
    /// `fault` falls on the requests to start an enrichment for which it gives one, by their number from 1.
    async fn new(after: &str, fault: impl Fn(u64) -> Option<Fault> + Send + 'static) -> Self {
        let store = StoreProcess::start();
        let upstream = store.address().parse().expect("an address");
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        let script = FaultScript::from_fn(move |request| {
            let is_start = request.method == "POST" && request.path.ends_with(ENRICH);
            if is_start { fault(counter.fetch_add(1, Ordering::Relaxed) + 1) } else { None }
        });
        let proxy = FaultProxy::start(upstream, script).await.expect("the proxy starts");
        let workspace = Workspace::remote(&proxy.base_url(), &store.client);
        let guards = "guards: { max_create: unlimited, max_update: unlimited, max_shrink: unlimited }\n";
        workspace.write("config/syncs/people.yaml", &sync_yaml("upsert", &format!("{guards}{after}")));
        Self { _store: store, _proxy: proxy, workspace, asked }
    }

    /// Runs the sync with `--json`, and gives what it tells of enrichments.
    fn run(&self, exit_code: i32) -> Value {
        let ended = self.workspace.convoke(&["run", SYNC, "--json"]);
        ended.expect(exit_code, &[]);
        assert_eq!(ended.json()["run"]["state"], "succeeded", "{}", ended.text());
        ended.json()["run"]["enrichment"].clone()
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn show(&self) -> Ended {
        let run = self.workspace.newest_run();
        self.workspace.convoke(&["show", run["id"].as_str().expect("an id")])
    }
}

fn sum(jobs: &Value) -> u64 {
    jobs.as_object().expect("counts").values().map(|count| count.as_u64().expect("a number")).sum()
}

/// Insists on one kind of end, for all jobs.
fn assert_jobs(report: &Value, name: &str, count: u64) {
    let jobs = &report["jobs"];
    assert_eq!((jobs[name].as_u64(), sum(jobs)), (Some(count), count), "{report}");
}

/// Nothing goes wrong.
fn calm(_number: u64) -> Option<Fault> {
    None
}

/// Something happens to the first request.
fn first(fault: Fault) -> impl Fn(u64) -> Option<Fault> {
    move |number| (number == 1).then(|| fault.clone())
}

/// Cells of the match column that were looked for and not found.
fn without_result(report: &Value) -> Option<u64> {
    report["columns"][0]["no_result"].as_u64()
}

fn changed_people() -> Vec<Person> {
    let mut changed = people(0..703);
    changed[5].score = 77;
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_created_or_updated_is_enriched_and_nothing_else() {
    let scene = Scene::new(CHANGED, calm).await;
    scene.workspace.drop_csv("1.csv", &people(0..700));
    let report = scene.run(0);
    assert_jobs(&report, "succeeded", 2);
    assert_eq!((without_result(&report), report["rows_looked_at"].as_u64()), (Some(700), Some(700)), "{report}");
    scene.show().expect(0, &["jobs: 2 succeeded", "700 without a result in 700 rows"]);

    scene.workspace.drop_csv("2.csv", &changed_people());
    let report = scene.run(0);
    assert_jobs(&report, "succeeded", 1);
    assert_eq!((without_result(&report), report["rows_looked_at"].as_u64()), (Some(4), Some(4)), "{report}");

    assert_eq!(scene.run(0), Value::Null, "nothing changed");
    assert_eq!(scene.asked(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_audience_is_enriched_once_after_a_run_that_changed_something() {
    let scene = Scene::new(ALL, calm).await;
    scene.workspace.drop_csv("1.csv", &people(0..700));
    let report = scene.run(0);
    assert_jobs(&report, "succeeded", 1);
    assert_eq!((without_result(&report), report["is_sample"].as_bool()), (Some(700), Some(false)), "{report}");
    assert_eq!(scene.run(0), Value::Null, "nothing changed");
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_without_a_match_column_has_nothing_to_enrich() {
    let scene = Scene::new(CHANGED, calm).await;
    let yaml = sync_yaml("upsert", CHANGED).replace(", match: { Email: CONTACT_EMAIL }", "");
    scene.workspace.write("config/syncs/people.yaml", &yaml);
    scene.workspace.drop_csv("1.csv", &people(0..3));
    assert_jobs(&scene.run(0), "nothing_to_do", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credits_the_run_succeeds_and_says_so() {
    let scene = Scene::new(CHANGED, first(Fault::RefuseRows { status: 402 })).await;
    scene.workspace.drop_csv("1.csv", &people(0..700));
    let report = scene.run(3);
    assert_jobs(&report, "no_credits", 2);
    assert!(report["messages"][0].as_str().expect("a sentence").contains("no credits"), "{report}");
    scene.show().expect(0, &["succeeded", "2 not started for want of credits"]);
    assert_eq!(scene.asked(), 1);
    assert_eq!(scene.run(0), Value::Null, "what is not enriched for want of credits is not asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_told_and_the_job_is_not_started_again() {
    for fault in [Fault::DropAnswer, Fault::FailAfterCommit { status: 500 }, Fault::TruncateAnswer, Fault::DropRequest]
    {
        let name = fault.name();
        let scene = Scene::new(CHANGED, first(fault)).await;
        scene.workspace.drop_csv("1.csv", &people(0..3));
        assert_jobs(&scene.run(3), "unclear", 1);
        assert_eq!(scene.run(0), Value::Null, "{name}");
        assert_eq!(scene.asked(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_too_often_is_made_again() {
    let busy = Fault::TooManyRequests { retry_after: std::time::Duration::from_secs(1) };
    let scene = Scene::new(CHANGED, first(busy)).await;
    scene.workspace.drop_csv("1.csv", &people(0..3));
    assert_jobs(&scene.run(0), "succeeded", 1);
    assert_eq!(scene.asked(), 2);
}

fn crash_at(scene: &Scene, point: &str) {
    let mut command = scene.workspace.command(&["run", SYNC]);
    let output = command.env("CONVOKE_CRASH_AT", point).output().expect("the binary runs");
    assert!(output.status.code().is_none(), "{point}: the process should have been killed: {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_have_been_started_before_a_crash_is_told_and_not_started_again() {
    for point in BOUNDARIES {
        let scene = Scene::new(CHANGED, calm).await;
        scene.workspace.drop_csv("1.csv", &people(0..3));
        crash_at(&scene, point);
        let report = scene.run(3);
        assert_jobs(&report, "unclear", 1);
        assert_eq!(report["from_earlier_runs"], 1, "{point}");
        assert_eq!(scene.run(0), Value::Null, "{point}");
        assert_eq!(scene.asked(), u64::from(point == "after-enrichment"), "{point}: nothing is asked for again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_asked_for_before_a_crash_is_asked_for_by_the_next_run() {
    for point in ["before-checkpoint", "after-checkpoint"] {
        let scene = Scene::new(CHANGED, calm).await;
        scene.workspace.drop_csv("1.csv", &people(0..3));
        crash_at(&scene, point);
        let ended = scene.workspace.convoke(&["run", SYNC]);
        ended.expect(0, &["jobs: 1 succeeded", "3 without a result"]);
        assert_eq!(scene.run(0), Value::Null, "{point}");
        assert_eq!(scene.asked(), 1, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_of_a_plan_that_was_given_up_is_enriched_too() {
    let scene = Scene::new(CHANGED, calm).await;
    scene.workspace.drop_csv("1.csv", &people(0..1_200));
    crash_at(&scene, "after-acknowledge:1");
    scene.workspace.drop_csv("2.csv", &people(0..1_201));
    let report = scene.run(0);
    let rows = report["rows_looked_at"].as_u64().expect("a number");
    assert_eq!((rows, without_result(&report)), (1_201, Some(1_201)), "{report}");
}
