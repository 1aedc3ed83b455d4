//! `runs` and `show`: what happened.

use std::collections::BTreeSet;

use convoke_config::Config;
use convoke_core::state::{PlanRecord, RunRecord, RunState, StateStore};
use convoke_core::{PlanId, RunId, SyncName, Timestamp};
use serde_json::json;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::wiring::{StateUse, find_sync, has_state, load_config, open_state};

/// Runs that an abbreviated id is looked up among, newest first.
const RUNS_LOOKED_THROUGH: u32 = 1_000;

pub(crate) async fn runs(global: &Global, sync: Option<&str>, count: u32) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    if !has_state(&config) {
        sync.map(|name| find_sync(&config, name)).transpose()?;
        if global.json {
            output::json(&Vec::<RunRecord>::new());
        } else {
            output::line("no runs yet");
        }
        return Ok(Exit::Success);
    }
    let state = open_state(&config, StateUse::Read).await?;
    if let Some(name) = sync {
        refuse_unknown(&config, state.as_ref(), name).await?;
    }
    let runs = state.runs(sync.map(SyncName::new).as_ref(), count).await?;
    if global.json {
        output::json(&runs);
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = runs.iter().map(row).collect();
    output::table(&["run", "sync", "started", "seconds", "state", "what"], &rows);
    Ok(Exit::Success)
}

/// A sync is known if it is configured, or if it was, and has left its history.
pub(crate) async fn refuse_unknown(config: &Config, state: &dyn StateStore, name: &str) -> Result<(), Failure> {
    match find_sync(config, name) {
        Ok(_) => Ok(()),
        Err(_) if !state.runs(Some(&SyncName::new(name)), 1).await?.is_empty() => Ok(()),
        Err(unknown) => Err(unknown),
    }
}

fn row(run: &RunRecord) -> Vec<String> {
    let seconds = run.ended_at.map_or_else(|| "-".to_owned(), |ended| seconds_between(run.started_at, ended));
    let what = match (&run.delivery, &run.message) {
        (Some(delivery), Some(message)) if run.state == RunState::Succeeded => {
            format!("{message}; {}", output::describe_delivery(delivery))
        }
        (_, Some(message)) => message.clone(),
        (Some(delivery), None) => output::describe_delivery(delivery),
        (None, None) => run.counts.map_or_else(String::new, |counts| output::describe_records(&counts)),
    };
    vec![
        run.id.to_string(),
        run.sync.to_string(),
        run.started_at.to_string(),
        seconds,
        run.state.as_str().to_owned(),
        what,
    ]
}

fn seconds_between(start: Timestamp, end: Timestamp) -> String {
    format!("{:.1}", end.since(start).as_secs_f64())
}

pub(crate) async fn show(global: &Global, id: &str) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let state = open_state(&config, StateUse::Read).await?;
    let (run, plan) = find(state.as_ref(), id).await?;
    if global.json {
        let plan = plan.map(|plan| json!({ "manifest": plan.manifest, "hash": plan.hash, "state": plan.state }));
        output::json(&json!({ "run": run, "plan": plan }));
        return Ok(Exit::Success);
    }
    if let Some(run) = &run {
        print_run(run);
    }
    if let Some(plan) = &plan {
        output::describe_plan(&plan.manifest, &plan.hash).iter().for_each(output::line);
        output::line(format!("  state     {}", plan.state.as_str()));
        print_samples(plan);
    }
    Ok(Exit::Success)
}

fn print_run(run: &RunRecord) {
    output::line(format!("run {} of `{}`: {}", run.id, run.sync, run.state.as_str()));
    output::line(format!("  started   {}", run.started_at));
    if let Some(ended) = run.ended_at {
        output::line(format!("  ended     {ended} ({} s)", seconds_between(run.started_at, ended)));
    }
    if let Some(delivery) = &run.delivery {
        output::line(format!("  delivered {}; {} requests", output::describe_delivery(delivery), delivery.requests));
    }
    if let Some(ledger) = &run.ledger {
        output::line(format!(
            "  ledger    {} + {} created + {} adopted - {} deleted - {} found removed = {}",
            ledger.live_before, ledger.created, ledger.adopted, ledger.deleted, ledger.found_removed, ledger.live_after
        ));
    }
    for told in run.enrichment.iter().flat_map(output::describe_enrichment) {
        output::line(format!("  enriched  {told}"));
    }
    if let Some(message) = &run.message {
        output::line(format!("  message   {message}"));
    }
}

fn print_samples(plan: &PlanRecord) {
    for sample in &plan.manifest.samples {
        let mut words = vec![format!("{:9}", sample.operation.as_str())];
        words.extend(sample.origin.clone());
        words.extend(sample.row_id.as_ref().map(|row_id| format!("row {row_id}")));
        words.extend(sample.cells.iter().map(|(name, text)| format!("{name}={:?}", text.as_deref().unwrap_or(""))));
        output::line(format!("  {}", words.join(" ")));
    }
}

/// Finds a run or a plan by its id or the first digits of it; digits that begin both mean the run.
async fn find(state: &dyn StateStore, id: &str) -> Result<(Option<RunRecord>, Option<PlanRecord>), Failure> {
    if let Some(plan_id) = PlanId::parse(id)
        && let Some(plan) = state.plan(plan_id).await?
    {
        let run = state.run(plan.manifest.run).await?;
        return Ok((run, Some(plan)));
    }
    let plan = find_plan(state, id).await;
    let run = match (find_run(state, id).await, plan) {
        (Ok(run), _) => run,
        (Err(_), Ok(Some(plan))) => return Ok((state.run(plan.manifest.run).await?, Some(plan))),
        (Err(failure), _) => return Err(failure),
    };
    let plan = match run.plan {
        Some(plan) => state.plan(plan).await?,
        None => None,
    };
    Ok((Some(run), plan))
}

/// Finds a plan by its id or the first digits of it, among those that runs are about.
pub(crate) async fn find_plan(state: &dyn StateStore, id: &str) -> Result<Option<PlanRecord>, Failure> {
    if let Some(plan_id) = PlanId::parse(id) {
        return Ok(state.plan(plan_id).await?);
    }
    let runs = state.runs(None, RUNS_LOOKED_THROUGH).await?;
    let plans: BTreeSet<PlanId> = runs.into_iter().filter_map(|run| run.plan).collect();
    let mut matching = plans.into_iter().filter(|plan| plan.to_string().starts_with(id) && !id.is_empty());
    match (matching.next(), matching.next()) {
        (Some(plan), None) => Ok(state.plan(plan).await?),
        (Some(_), Some(_)) => Err(Failure::usage(format!("`{id}` begins the ids of several plans; give more digits"))),
        (None, _) => Ok(None),
    }
}

/// Finds a run by its id or the first digits of it.
pub(crate) async fn find_run(state: &dyn StateStore, id: &str) -> Result<RunRecord, Failure> {
    if let Some(run_id) = RunId::parse(id)
        && let Some(run) = state.run(run_id).await?
    {
        return Ok(run);
    }
    let runs = state.runs(None, RUNS_LOOKED_THROUGH).await?;
    let mut matching = runs.into_iter().filter(|run| run.id.to_string().starts_with(id) && !id.is_empty());
    match (matching.next(), matching.next()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => Err(Failure::usage(format!("`{id}` begins the ids of several runs; give more digits"))),
        (None, _) => Err(Failure::usage(format!("no run or plan `{id}`; `convoke runs` lists them"))),
    }
}
