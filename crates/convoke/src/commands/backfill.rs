//! `backfill`: windows of what a source still has, beside the live position.

use convoke_core::SyncName;
use convoke_core::backfill::{BackfillRecord, BackfillState, WindowSize};
use convoke_core::source::Selection as Wanted;
use convoke_pipeline::{BackfillRequest, Backfilled};
use serde::Serialize;
use serde_json::json;

use crate::cli::{Global, Selection};
use crate::commands::history::refuse_unknown;
use crate::commands::sync::{About, conclude, wire_sync};
use crate::exit::Exit;
use crate::failure::{Failure, print_error};
use crate::output;
use crate::wiring::{StateUse, has_state, load_config, open_state};

/// Backfills that are listed at most.
const LISTED: u32 = 50;

pub(crate) async fn backfill(
    global: &Global,
    sync: &str,
    (selection, window): (&Selection, Option<WindowSize>),
) -> Result<Exit, Failure> {
    if selection.list {
        return list(global, sync).await;
    }
    if selection.cancel {
        return cancel(global, sync).await;
    }
    let request = match selection.resume {
        true => BackfillRequest::Resume,
        false => BackfillRequest::Begin { selection: wanted(selection)?, window },
    };
    let (wired, signals) = wire_sync(global, sync).await?;
    let Backfilled { backfill, settled_now, is_partial, last, error } = match wired.pipeline.backfill(&request).await {
        Ok(backfilled) => backfilled,
        Err(error) => {
            wired.close().await;
            return Err(Failure::ended_by(error, &signals));
        }
    };
    let facts = backfill.as_ref().map(|backfill| facts(backfill, Some(settled_now)));
    if let Some(error) = error {
        wired.close().await;
        return Ok(ended_between_windows(global, Failure::ended_by(error, &signals), backfill.as_ref(), facts));
    }
    let Some(last) = last else {
        wired.close().await;
        tell(global, backfill.as_ref());
        return Ok(if is_partial { Exit::Partial } else { Exit::Success });
    };
    let about = About { resent: None, backfill: facts, is_partial };
    let exit = conclude(global, (wired, &signals), Ok(last), about).await?;
    if !global.json && backfill.as_ref().is_some_and(|backfill| backfill.window_count > 1) {
        tell(global, backfill.as_ref());
    }
    Ok(exit)
}

/// Tells what ended a backfill while none of its runs was under way, and how far it came.
fn ended_between_windows(
    global: &Global,
    failure: Failure,
    backfill: Option<&BackfillRecord>,
    facts: Option<BackfillFacts>,
) -> Exit {
    let (exit, error) = failure.into_parts();
    print_error(global, &error);
    if global.json {
        output::json(&json!({ "backfill": facts, "error": error.trim_end(), "exit_code": exit.code() }));
    } else {
        tell(global, backfill);
    }
    exit
}

fn wanted(selection: &Selection) -> Result<Wanted, Failure> {
    match selection {
        Selection { all: true, .. } => Ok(Wanted::All),
        Selection { objects: Some(pattern), .. } => Ok(Wanted::Objects(pattern.clone())),
        Selection { from: Some(from), to: Some(to), .. } if from >= to => {
            Err(Failure::usage(format!("`--from` {from} must be before `--to` {to}")))
        }
        Selection { from, to, .. } => Ok(Wanted::Between { from: *from, to: *to }),
    }
}

async fn cancel(global: &Global, sync: &str) -> Result<Exit, Failure> {
    let (wired, signals) = wire_sync(global, sync).await?;
    let cancelled = wired.pipeline.cancel_backfill().await;
    wired.close().await;
    let cancelled = cancelled.map_err(|error| Failure::ended_by(error, &signals))?;
    tell(global, Some(&cancelled));
    Ok(Exit::Success)
}

async fn list(global: &Global, sync: &str) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let mut backfills = Vec::new();
    if has_state(&config) {
        let state = open_state(&config, StateUse::Read).await?;
        refuse_unknown(&config, state.as_ref(), sync).await?;
        backfills = state.backfills(&SyncName::new(sync), LISTED).await?;
    }
    if global.json {
        output::json(&backfills.iter().map(|backfill| facts(backfill, None)).collect::<Vec<_>>());
        return Ok(Exit::Success);
    }
    if backfills.is_empty() {
        output::line("no backfills yet");
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = backfills.iter().map(row).collect();
    output::table(&["backfill", "started", "state", "windows settled", "what"], &rows);
    Ok(Exit::Success)
}

fn row(backfill: &BackfillRecord) -> Vec<String> {
    vec![
        backfill.id.to_string(),
        backfill.started_at.to_string(),
        backfill.state.as_str().to_owned(),
        format!("{} of {}", backfill.settled, backfill.window_count),
        describe(&backfill.selection),
    ]
}

/// What a backfill reads, in the words by which it was asked for.
fn describe(selection: &Wanted) -> String {
    match selection {
        Wanted::All => "--all".to_owned(),
        Wanted::Objects(pattern) => format!("--objects {pattern}"),
        Wanted::Named(names) => format!("{} files", names.len()),
        Wanted::Untimed => "what has no time".to_owned(),
        Wanted::Between { from, to } => {
            let from = from.map(|from| format!("--from {from}"));
            let to = to.map(|to| format!("--to {to}"));
            from.into_iter().chain(to).collect::<Vec<_>>().join(" ")
        }
    }
}

fn tell(global: &Global, backfill: Option<&BackfillRecord>) {
    let Some(backfill) = backfill else { return };
    if global.json {
        output::json(&facts(backfill, None));
        return;
    }
    let BackfillRecord { sync, settled, window_count, state, .. } = backfill;
    let next = match state {
        BackfillState::Open => format!("; `convoke backfill {sync} --resume` goes on"),
        BackfillState::Done | BackfillState::Cancelled => String::new(),
    };
    output::line(format!("backfill {}: {settled} of {window_count} windows settled{next}", state.as_str()));
}

/// What `--json` prints about a backfill.
#[derive(Serialize)]
pub(super) struct BackfillFacts {
    id: String,
    selection: String,
    state: &'static str,
    started_at: convoke_core::Timestamp,
    windows: u32,
    windows_settled: u32,
    /// By this command.
    #[serde(skip_serializing_if = "Option::is_none")]
    windows_settled_now: Option<u32>,
}

fn facts(backfill: &BackfillRecord, settled_now: Option<u32>) -> BackfillFacts {
    BackfillFacts {
        id: backfill.id.to_string(),
        selection: describe(&backfill.selection),
        state: backfill.state.as_str(),
        started_at: backfill.started_at,
        windows: backfill.window_count,
        windows_settled: backfill.settled,
        windows_settled_now: settled_now,
    }
}
