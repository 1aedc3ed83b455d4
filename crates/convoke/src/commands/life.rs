//! `sync rename` and `sync retire`.

use convoke_config::Config;
use convoke_core::SyncName;
use convoke_core::lifecycle::{self, Retirement};
use convoke_core::state::{PlanState, StateStore, schedule_resource};
use convoke_pipeline::{Renamed, Retired};
use serde_json::json;

use super::sync::{About, conclude};
use crate::cli::{Global, SyncCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::{Host, holder};
use crate::signals::Signals;
use crate::wiring::{Wired, find_sync, has_state, load_config, wire};
use crate::{output, progress};

/// Deeds of the audit trail that are looked through, newest first.
const DEEDS_LOOKED_THROUGH: u32 = 10_000;

pub(crate) async fn life(global: &Global, command: SyncCommand) -> Result<Exit, Failure> {
    match command {
        SyncCommand::Rename { old, new } => rename(global, &old, &new).await,
        SyncCommand::Retire { sync, rows, approve } => {
            let deletes = rows.delete_rows.then_some(approve.as_deref());
            Box::pin(retire(global, &sync, deletes)).await
        }
    }
}

fn actor() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

async fn rename(global: &Global, old: &str, new: &str) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    refuse_old_name(&config, old, new)?;
    let signals = Signals::watch()?;
    let wired = wire(&config, new, progress::reporter(global), signals.cancel()).await?;
    let renamed = wired.pipeline.rename_from(&SyncName::new(old), &actor()).await;
    wired.close().await;
    let renamed = renamed.map_err(|error| Failure::ended_by(error, &signals))?;
    if global.json {
        output::json(&renamed);
        return Ok(Exit::Success);
    }
    output::line(describe_renamed(&renamed));
    Ok(Exit::Success)
}

/// The configuration says what the sync is, so it comes first: a name that stands in it would begin anew.
fn refuse_old_name(config: &Config, old: &str, new: &str) -> Result<(), Failure> {
    if old == new {
        return Err(Failure::usage("the new name is the old one"));
    }
    if !convoke_config::is_name(new) {
        return Err(Failure::usage(format!(
            "`{new}` is no name for a sync; use at most 64 lower-case letters and digits, with `-` between them"
        )));
    }
    let Some(loaded) = config.syncs.get(&SyncName::new(old)) else { return find_sync(config, new).map(drop) };
    if config.syncs.contains_key(&SyncName::new(new)) {
        return Err(Failure::usage(format!(
            "`{old}` and `{new}` are both in the configuration: if `{new}` is what `{old}` is to be called, take `{}` away, restart `serve` if it runs, and then say this again",
            loaded.file.display()
        )));
    }
    Err(Failure::usage(format!(
        "`{old}` is still in the configuration: rename `{}` to `{new}.yaml`, write `sync: {new}` in it, restart `serve` if it runs, and then say this again",
        loaded.file.display()
    )))
}

fn describe_renamed(renamed: &Renamed) -> String {
    let Renamed { from, to, audience, rows, was_done } = renamed;
    let what = match audience {
        Some(audience) => format!("{rows} rows of {audience} are its own"),
        None => "it has not filled an audience yet".to_owned(),
    };
    let done = if *was_done { "was renamed before" } else { "renamed" };
    format!("{from} {done} to {to}; {what}")
}

/// `deletes` holds the approval, if there is one; none: the rows stay.
async fn retire(global: &Global, sync: &str, deletes: Option<Option<&str>>) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let name = SyncName::new(sync);
    if let Some(loaded) = config.syncs.get(&name) {
        return Err(Failure::usage(format!(
            "`{sync}` is still in the configuration, and would begin anew: take `{}` away, restart `serve` if it runs, and then say this again",
            loaded.file.display()
        )));
    }
    if !has_state(&config) {
        return Err(unknown(sync));
    }
    let signals = Signals::watch()?;
    let host = Host::open(config, signals.cancel()).await?;
    let Some(binding) = host.state.binding(&name).await? else {
        let ended = end_without_rows(host.state.as_ref(), &name, host.config.settings.state.lease).await;
        let kept = match (&ended, deletes) {
            (Ok(Ending::Before(kept)), Some(_)) => *kept,
            _ => None,
        };
        host.close().await;
        if let Some(rows) = kept {
            return Err(rows_were_kept(sync, rows));
        }
        return ended.map(|ending| told(global, sync, ending.words()));
    };
    let reporter = progress::reporter(global);
    let pipeline = host.retiring_pipeline(&name, &binding, reporter, signals.cancel()).await?;
    let wired = Wired { pipeline, host };
    if let Some(approval) = deletes {
        let ended = wired.pipeline.retire_deleting_rows(approval, &actor()).await;
        return conclude(global, (wired, &signals), ended, About::default()).await;
    }
    let retired = wired.pipeline.retire_keeping_rows(&actor()).await;
    wired.close().await;
    let retired = retired.map_err(|error| Failure::ended_by(error, &signals))?;
    if global.json {
        output::json(&retired);
        return Ok(Exit::Success);
    }
    let Retired { sync, audience, rows_kept } = retired;
    output::line(format!(
        "{sync} retired; {rows_kept} rows of {audience} are nobody's: `convoke adopt` takes them over"
    ));
    Ok(Exit::Success)
}

/// How a sync ends that fills no audience.
enum Ending {
    Now,
    /// It was ended before, and left these rows, if any.
    Before(Option<u64>),
}

impl Ending {
    fn words(&self) -> &'static str {
        match self {
            Self::Now => "retired; it had filled no audience",
            Self::Before(_) => "was retired before",
        }
    }
}

/// Nothing says any more which rows those were.
fn rows_were_kept(sync: &str, rows: u64) -> Failure {
    Failure::usage(format!(
        "nothing was deleted: `{sync}` was retired before, and its {rows} rows were kept; they are nobody's. To delete them, let a sync that fills the same audience take them over with `convoke adopt`, take that one out of the configuration, and retire it with `--delete-rows`"
    ))
}

/// Ends a sync that has filled no audience, or tells that it was ended before.
async fn end_without_rows(
    state: &dyn StateStore,
    sync: &SyncName,
    ttl: std::time::Duration,
) -> Result<Ending, Failure> {
    let is_known = state.checkpoint(sync).await?.version > 0
        || state.schedule_mark(sync).await?.is_some()
        || !state.plans_in(sync, PlanState::Waiting).await?.is_empty();
    if is_known {
        let lease = state.acquire(&schedule_resource(sync), &holder(), ttl).await?;
        let rows = "it had filled no audience".to_owned();
        let retirement = Retirement { sync: sync.clone(), ledger: None, actor: actor(), rows };
        let ended = state.retire_sync(&retirement, &lease).await;
        state.release(&lease).await?;
        return ended.map(|()| Ending::Now).map_err(Failure::from);
    }
    let begins = format!("{}: ", lifecycle::retired(sync));
    let trail = state.audit_trail(DEEDS_LOOKED_THROUGH).await?;
    // The newest comes first.
    match trail.iter().find(|deed| deed.action == lifecycle::RETIRE && deed.detail.starts_with(&begins)) {
        Some(deed) => Ok(Ending::Before(lifecycle::left_behind(&deed.detail))),
        None => Err(unknown(sync.as_str())),
    }
}

fn unknown(sync: &str) -> Failure {
    Failure::usage(format!("there is nothing to retire: no sync `{sync}` has filled an audience or settled a source"))
}

fn told(global: &Global, sync: &str, words: &str) -> Exit {
    if global.json {
        output::json(&json!({ "sync": sync, "outcome": words }));
    } else {
        output::line(format!("{sync} {words}"));
    }
    Exit::Success
}
