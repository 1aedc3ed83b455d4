//! `plan`, `apply` and `run`.

use convoke_core::PlanId;
use convoke_core::enrichment::EnrichmentReport;
use convoke_core::state::{PlanRecord, RunRecord};
use convoke_pipeline::{Ended, Error, approves, chain};
use serde::Serialize;

use crate::cli::{Extent, Global};
use crate::commands::backfill::BackfillFacts;
use crate::commands::history::find_plan;
use crate::exit::Exit;
use crate::failure::{Failure, print_error};
use crate::output::ResentFacts;
use crate::signals::Signals;
use crate::wiring::{StateUse, Wired, has_state, load_config, open_state, wire};
use crate::{output, progress};

pub(crate) async fn plan(global: &Global, sync: &str, extent: &Extent) -> Result<Exit, Failure> {
    let (wired, signals) = wire_sync(global, sync).await?;
    let ended = wired.pipeline.plan(extent.into()).await;
    conclude(global, (wired, &signals), ended, About::default()).await
}

pub(crate) async fn run(global: &Global, sync: &str, extent: &Extent) -> Result<Exit, Failure> {
    let (wired, signals) = wire_sync(global, sync).await?;
    let ended = wired.pipeline.run(extent.into()).await;
    conclude(global, (wired, &signals), ended, About::default()).await
}

pub(crate) async fn apply(global: &Global, plan: &str, approval: Option<&str>) -> Result<Exit, Failure> {
    let plan = plan_of(global, plan).await?;
    let id = plan.manifest.id;
    let (wired, signals) = wire_sync(global, plan.manifest.sync.as_str()).await?;
    // Another plan's hash approves nothing, which the run says.
    if approval.is_some_and(|approval| approves(approval, &plan.hash)) {
        audit(&wired, "approve", &format!("plan {id}")).await?;
    }
    let ended = wired.pipeline.apply(id, approval).await;
    conclude(global, (wired, &signals), ended, About::default()).await
}

async fn plan_of(global: &Global, id: &str) -> Result<PlanRecord, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let unknown = || Failure::usage(format!("no plan `{id}`; `plan` prints the id of the one it makes"));
    if !has_state(&config) {
        return Err(unknown());
    }
    let state = open_state(&config, StateUse::Read).await?;
    find_plan(state.as_ref(), id).await?.ok_or_else(unknown)
}

/// Notes what somebody did, and to what.
pub(super) async fn audit(wired: &Wired, action: &str, detail: &str) -> Result<(), Failure> {
    let actor = format!("uid {}", rustix::process::getuid().as_raw());
    Ok(wired.host.state.audit(&actor, action, detail).await?)
}

pub(super) async fn wire_sync(global: &Global, sync: &str) -> Result<(Wired, Signals), Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let wired = wire(&config, sync, progress::reporter(global), signals.cancel()).await?;
    Ok((wired, signals))
}

/// What else there is to tell of a run.
#[derive(Default)]
pub(super) struct About {
    pub(super) resent: Option<ResentFacts>,
    pub(super) backfill: Option<BackfillFacts>,
    /// Whether a run before it, of the same command, ended as partial.
    pub(super) is_partial: bool,
}

/// Closes what was opened, and tells how the run ended.
pub(super) async fn conclude(
    global: &Global,
    (wired, signals): (Wired, &Signals),
    ended: Result<Ended, Error>,
    about: About,
) -> Result<Exit, Failure> {
    wired.close().await;
    let ended = ended?;
    let exit = match (&ended.error, exit_of(&ended, signals)) {
        (Some(Error::Request { .. }), _) => Exit::Usage,
        (_, Exit::Success) if about.is_partial => Exit::Partial,
        (_, exit) => exit,
    };
    let About { resent, backfill, .. } = about;
    if global.json {
        output::json(&Facts { resent, backfill, ..facts(&ended, exit) });
        return Ok(exit);
    }
    match &ended.error {
        Some(error) => {
            print_error(global, &chain(error));
            Ok(exit)
        }
        None => {
            let told = ended.run.message.as_ref().map_or_else(String::new, |message| format!("; {message}"));
            output::line(format!("{}{told}", summary(&ended)));
            if let Some(resent) = resent {
                output::line(output::describe_resent(resent));
            }
            let enriched = ended.resumed.iter().chain([&ended.run]).filter_map(|run| run.enrichment.as_ref());
            for told in enriched.flat_map(output::describe_enrichment) {
                output::line(format!("enrichment: {told}"));
            }
            Ok(exit)
        }
    }
}

/// A run that went well, but for enrichments that did not, ends as partial.
fn exit_of(ended: &Ended, signals: &Signals) -> Exit {
    let runs = ended.resumed.iter().chain([&ended.run]);
    let is_enriched = runs.filter_map(|run| run.enrichment.as_ref()).all(EnrichmentReport::is_complete);
    match Exit::of_run(ended.run.state, signals.received()) {
        Exit::Success if !is_enriched => Exit::Partial,
        exit => exit,
    }
}

fn summary(ended: &Ended) -> String {
    let Ended { run, plan, .. } = ended;
    let state = run.state.as_str();
    match (&run.delivery, plan) {
        (Some(delivery), _) => format!("{}: {state}; {}", run.sync, output::describe_delivery(delivery)),
        (None, Some(plan)) if run.state == convoke_core::state::RunState::Planned => {
            match plan.manifest.counts.changes() {
                0 => format!("{}: planned; nothing to send", run.sync),
                _ => format!("{}: planned; `apply {}` sends it", run.sync, plan.manifest.id),
            }
        }
        _ => format!("{}: {state}; nothing to send", run.sync),
    }
}

/// What `--json` prints about a run.
#[derive(Serialize)]
struct Facts<'a> {
    run: &'a RunRecord,
    plan: Option<PlanFacts<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resent: Option<ResentFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backfill: Option<BackfillFacts>,
    error: Option<String>,
    exit_code: u8,
}

/// A plan without the values of its samples: they are personal data, and a log may be where this goes.
#[derive(Serialize)]
struct PlanFacts<'a> {
    id: PlanId,
    hash: &'a str,
    state: &'static str,
    counts: &'a convoke_core::plan::PlanCounts,
    forecast: &'a convoke_core::plan::Forecast,
    setup: &'a [String],
    guard_hits: &'a [convoke_core::plan::GuardHit],
    withheld: Option<&'a convoke_core::plan::WithheldDeletes>,
    notices: &'a [String],
}

fn facts(ended: &Ended, exit: Exit) -> Facts<'_> {
    let plan = ended.plan.as_ref().map(|PlanRecord { manifest, hash, state }| PlanFacts {
        id: manifest.id,
        hash,
        state: state.as_str(),
        counts: &manifest.counts,
        forecast: &manifest.forecast,
        setup: &manifest.setup,
        guard_hits: &manifest.guard_hits,
        withheld: manifest.withheld.as_ref(),
        notices: &manifest.source.notices,
    });
    let error = ended.error.as_ref().map(|error| chain(error));
    Facts { run: &ended.run, plan, resent: None, backfill: None, error, exit_code: exit.code() }
}

impl From<&Extent> for convoke_pipeline::Extent {
    fn from(extent: &Extent) -> Self {
        Self { full: extent.full, limit: extent.limit, ..Self::default() }
    }
}
