//! How enrichments end that the audience store never ends: under a clock that the test holds, at an account in memory.

use std::time::Duration;

use convoke_core::enrichment::{EnrichmentAnswer, EnrichmentJob, EnrichmentReport, JobCounts};
use convoke_core::state::RunState;

use crate::in_process::Scene;
use crate::workspace::{people, sync_yaml};

const CHANGED: &str = "after: { enrich: changed, wait: 1m }\n";

const SECOND: Duration = Duration::from_secs(1);

/// Eight people, of whom each job takes four.
fn scene() -> Scene {
    let scene = Scene::new(&sync_yaml("upsert", CHANGED));
    scene.workspace.drop_csv("1.csv", &people(0..8));
    scene
}

/// Runs the sync, which succeeds whatever becomes of enrichments.
async fn report(scene: &Scene) -> Option<EnrichmentReport> {
    let run = scene.run().await;
    assert_eq!(run.state, RunState::Succeeded);
    run.enrichment
}

fn busy() -> EnrichmentAnswer {
    EnrichmentAnswer::NotStarted { reason: "too many requests".to_owned(), retry_after: Some(SECOND) }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_is_told_as_it_ended_with_the_cells_of_those_that_did_something() {
    let scene = scene();
    scene
        .sink
        .script_enrichment_ends([(SECOND, EnrichmentJob::Failed), (30 * SECOND, EnrichmentJob::PartiallySucceeded)]);
    let report = report(&scene).await.expect("a report");
    let ended = JobCounts { failed: 1, partially_succeeded: 1, ..JobCounts::default() };
    assert_eq!((report.jobs, report.rows_looked_at, report.is_complete()), (ended, 4, false));
    let [column] = &report.columns[..] else { panic!("{report:?}") };
    assert_eq!((column.error, column.samples.len()), (4, 3));
    assert_eq!(column.samples[0].summary, "the fake does not know it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_longer_than_a_run_waits_is_told_by_the_next_one_and_not_started_again() {
    let scene = scene();
    scene.sink.script_enrichment_ends([(600 * SECOND, EnrichmentJob::Succeeded)]);
    let first = report(&scene).await.expect("a report");
    let expected = JobCounts { succeeded: 1, running: 1, ..JobCounts::default() };
    assert_eq!((first.jobs, first.rows_looked_at, first.is_complete()), (expected, 4, false));
    scene.clock.advance(600 * SECOND);
    let second = report(&scene).await.expect("a report");
    let expected = JobCounts { succeeded: 1, ..JobCounts::default() };
    assert_eq!((second.jobs, second.from_earlier_runs, second.columns[0].result), (expected, 1, 4));
    assert!(second.is_complete());
    assert_eq!(scene.sink.enrichments_asked_for().len(), 2, "each job is asked for once");
    assert_eq!(report(&scene).await, None, "what was told is not told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credits_the_other_jobs_are_not_asked_for() {
    let scene = scene();
    scene.sink.script_enrichments([EnrichmentAnswer::NoCredits { reason: "402".to_owned() }]);
    let first = report(&scene).await.expect("a report");
    assert_eq!(first.jobs, JobCounts { no_credits: 2, ..JobCounts::default() });
    assert_eq!(scene.sink.enrichments_asked_for().len(), 1);
    assert_eq!(report(&scene).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_certainly_not_started_is_asked_for_again_a_few_times_and_then_by_the_next_run() {
    let scene = scene();
    scene.sink.script_enrichments((0..5).map(|_| busy()));
    let first = report(&scene).await.expect("a report");
    assert_eq!(first.jobs, JobCounts { not_started: 2, ..JobCounts::default() });
    assert_eq!(scene.sink.enrichments_asked_for().len(), 5);
    let second = report(&scene).await.expect("a report");
    assert_eq!(second.jobs, JobCounts { succeeded: 2, ..JobCounts::default() });
    assert_eq!((second.from_earlier_runs, second.columns[0].result), (2, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unclear_is_told_once_and_the_others_go_on() {
    let scene = scene();
    scene.sink.script_enrichments([EnrichmentAnswer::Unknown { reason: "no answer in time".to_owned() }]);
    let first = report(&scene).await.expect("a report");
    assert_eq!(first.jobs, JobCounts { unclear: 1, succeeded: 1, ..JobCounts::default() });
    assert_eq!(first.messages, ["no answer in time"]);
    assert_eq!(report(&scene).await, None);
    assert_eq!(scene.sink.enrichments_asked_for().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_asked_for_once_the_configuration_no_longer_wants_it() {
    let scene = scene();
    scene.sink.script_enrichments((0..5).map(|_| busy()));
    report(&scene).await.expect("a report");
    scene.workspace.write("config/syncs/people.yaml", &sync_yaml("upsert", ""));
    let second = report(&scene).await.expect("a report");
    assert_eq!(second.jobs, JobCounts { cancelled: 2, ..JobCounts::default() });
    assert_eq!(scene.sink.enrichments_asked_for().len(), 5);
    assert_eq!(report(&scene).await, None);
}
