//! `rejects list`, `export` and `resend`: records that were refused, with reason and origin.

mod avro;
mod export;
mod format;

use std::path::PathBuf;
use std::time::Duration;

use convoke_core::reject::{NotedReject, RejectState, is_past_resending};
use convoke_core::state::{RejectStage, StateStore};
use convoke_core::{Clock, RunId, SyncName, Timestamp};
use convoke_pipeline::{Error, RejectChoice};
use serde_json::json;

use crate::cli::{ExportFormat, Global, Rejects};
use crate::clock::SystemClock;
use crate::commands::history::{find_run, refuse_unknown};
use crate::commands::sync::{About, audit, conclude, wire_sync};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::wiring::{StateUse, find_sync, load_config, open_state};

/// Rejects read from the store at once.
const PAGE: u32 = 1_000;

pub(crate) async fn rejects(global: &Global, command: Rejects) -> Result<Exit, Failure> {
    match command {
        Rejects::List { sync, run, count } => {
            let (state, wanted) = open(global, &sync, run.as_deref()).await?;
            list(global, state.as_ref(), &wanted, count).await
        }
        Rejects::Export { sync, run, output, format, force } => {
            let (state, wanted) = open(global, &sync, run.as_deref()).await?;
            let target = Target { file: output.filter(|file| file.as_os_str() != "-"), format, force };
            export::export(global, state.as_ref(), &wanted, &target).await
        }
        Rejects::Resend { sync, run, keys } => Box::pin(resend(global, &sync, run.as_deref(), keys)).await,
    }
}

/// Which rejects are shown, and what tells whether they are held back.
struct Wanted {
    sync: SyncName,
    run: Option<RunId>,
    resend_for: Duration,
    now: Timestamp,
}

/// Where an export goes; without a file, to standard output.
struct Target {
    file: Option<PathBuf>,
    format: ExportFormat,
    force: bool,
}

impl Wanted {
    async fn page(&self, state: &dyn StateStore, after: Option<&NotedReject>) -> Result<Vec<NotedReject>, Failure> {
        Ok(state.rejects(&self.sync, self.run, after.map(|noted| noted.id), PAGE).await?)
    }

    /// What has become of a reject, in a word.
    fn standing(&self, noted: &NotedReject) -> &'static str {
        let is_sent_again = noted.record.stage == RejectStage::Refused && noted.record.content.is_some();
        match noted.state {
            RejectState::Open if is_sent_again && is_past_resending(noted.first_at, self.now, self.resend_for) => {
                "held_back"
            }
            state => state.as_str(),
        }
    }
}

async fn open(
    global: &Global,
    sync: &str,
    run: Option<&str>,
) -> Result<(std::sync::Arc<dyn StateStore>, Wanted), Failure> {
    let config = load_config(&global.config, global.verbose)?;
    // Of a sync that is no longer configured nothing is sent again, and so nothing is held back either.
    let resend_for = find_sync(&config, sync).map_or(Duration::MAX, |found| found.spec.resend_for);
    let state = open_state(&config, StateUse::Read).await?;
    refuse_unknown(&config, state.as_ref(), sync).await?;
    let run = match run {
        Some(id) => Some(find_run(state.as_ref(), id).await?.id),
        None => None,
    };
    let wanted = Wanted { sync: SyncName::new(sync), run, resend_for, now: SystemClock.now() };
    Ok((state, wanted))
}

async fn list(global: &Global, state: &dyn StateStore, wanted: &Wanted, count: u32) -> Result<Exit, Failure> {
    let rejects = state.rejects(&wanted.sync, wanted.run, None, count).await?;
    if global.json {
        let facts: Vec<_> = rejects.iter().map(|noted| without_values(wanted, noted)).collect();
        output::json(&facts);
        return Ok(Exit::Success);
    }
    if rejects.is_empty() {
        output::line(nothing(wanted));
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = rejects.iter().map(|noted| row(wanted, noted)).collect();
    output::table(&["origin", "stage", "state", "attempts", "first", "last", "column", "code", "reason"], &rows);
    Ok(Exit::Success)
}

/// Says that there is none, and where others are.
fn nothing(wanted: &Wanted) -> String {
    let sync = &wanted.sync;
    match wanted.run {
        Some(run) => format!("run {run} noted no rejects of `{sync}`; `convoke runs {sync}` lists its runs"),
        None => format!("no rejects of `{sync}` are open; `--run` shows those of one run"),
    }
}

fn row(wanted: &Wanted, noted: &NotedReject) -> Vec<String> {
    let reject = &noted.record;
    vec![
        reject.origin.clone().unwrap_or_default(),
        stage(reject.stage).to_owned(),
        wanted.standing(noted).replace('_', " "),
        noted.attempts.to_string(),
        noted.first_at.to_string(),
        reject.at.to_string(),
        reject.column.clone().unwrap_or_default(),
        reject.code.clone(),
        reject.reason.clone(),
    ]
}

fn stage(stage: RejectStage) -> &'static str {
    match stage {
        RejectStage::Invalid => "invalid",
        RejectStage::Refused => "refused",
    }
}

fn without_values(wanted: &Wanted, noted: &NotedReject) -> serde_json::Value {
    let reject = &noted.record;
    json!({
        "run": reject.run,
        "plan": reject.plan,
        "state": wanted.standing(noted),
        "attempts": noted.attempts,
        "first_at": noted.first_at.to_string(),
        "at": reject.at.to_string(),
        "stage": reject.stage,
        "key": reject.key,
        "content": reject.content,
        "origin": reject.origin,
        "column": reject.column,
        "code": reject.code,
        "reason": reject.reason,
    })
}

/// Sends refused records again, in a run as any other.
async fn resend(global: &Global, sync: &str, run: Option<&str>, keys: Vec<String>) -> Result<Exit, Failure> {
    let (wired, signals) = wire_sync(global, sync).await?;
    let run = match run {
        Some(id) => Some(find_run(wired.host.state.as_ref(), id).await?.id),
        None => None,
    };
    let detail = match (&run, keys.len()) {
        (None, 0) => format!("sync {sync}: all that are open"),
        (Some(run), 0) => format!("sync {sync}: those of run {run}"),
        (_, named) => format!("sync {sync}: {named} by their keys"),
    };
    audit(&wired, "resend", &detail).await?;
    let resent = wired.pipeline.resend(&RejectChoice { run, keys }).await;
    let (ended, resent) = match resent {
        Ok(resent) => {
            let facts = facts(&resent);
            (Ok(resent.ended), Some(facts))
        }
        Err(error @ Error::Request { .. }) => {
            wired.close().await;
            return Err(Failure::usage(convoke_pipeline::chain(&error)));
        }
        Err(error) => (Err(error), None),
    };
    conclude(global, (wired, &signals), ended, About { resent, ..About::default() }).await
}

fn facts(resent: &convoke_pipeline::Resent) -> output::ResentFacts {
    output::ResentFacts {
        chosen: resent.chosen,
        planned: resent.planned,
        accepted: resent.accepted(),
        refused_again: resent.refused_again,
    }
}
