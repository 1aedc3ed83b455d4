//! `rejects list` and `rejects export`: records that were refused, with reason and origin.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use convoke_core::state::{RejectRecord, RejectStage, StateStore};
use convoke_core::{RunId, SyncName};
use serde_json::json;

use crate::cli::{ExportFormat, Global, Rejects};
use crate::commands::history::{find_run, refuse_unknown};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::wiring::{StateUse, load_config, open_state};

/// Rejects read from the store at once.
const PAGE: u32 = 1_000;

pub(crate) async fn rejects(global: &Global, command: Rejects) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let (Rejects::List { sync, run, .. } | Rejects::Export { sync, run, .. }) = &command;
    let state = open_state(&config, StateUse::Read).await?;
    refuse_unknown(&config, state.as_ref(), sync).await?;
    let run = match run {
        Some(id) => Some(find_run(state.as_ref(), id).await?.id),
        None => None,
    };
    match &command {
        Rejects::List { sync, count, .. } => list(global, state.as_ref(), (&SyncName::new(sync), run), *count).await,
        Rejects::Export { sync, to, format, .. } => {
            let exported = export(state.as_ref(), (&SyncName::new(sync), run), to, *format).await?;
            if global.json {
                output::json(&json!({ "exported": exported, "file": to }));
            } else {
                output::line(format!("{exported} rejects written to {}", to.display()));
            }
            Ok(Exit::Success)
        }
    }
}

async fn list(
    global: &Global,
    state: &dyn StateStore,
    (sync, run): (&SyncName, Option<RunId>),
    count: u32,
) -> Result<Exit, Failure> {
    let rejects = state.rejects(sync, run, 0, count).await?;
    if global.json {
        let facts: Vec<_> = rejects.iter().map(without_values).collect();
        output::json(&facts);
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = rejects.iter().map(row).collect();
    output::table(&["origin", "stage", "column", "code", "reason"], &rows);
    Ok(Exit::Success)
}

fn row(reject: &RejectRecord) -> Vec<String> {
    vec![
        reject.origin.clone().unwrap_or_default(),
        stage(reject.stage).to_owned(),
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

fn without_values(reject: &RejectRecord) -> serde_json::Value {
    json!({
        "run": reject.run,
        "plan": reject.plan,
        "at": reject.at.to_string(),
        "stage": reject.stage,
        "key": reject.key,
        "origin": reject.origin,
        "column": reject.column,
        "code": reject.code,
        "reason": reject.reason,
    })
}

/// Writes the rejects to a new file; returns how many.
async fn export(
    state: &dyn StateStore,
    (sync, run): (&SyncName, Option<RunId>),
    to: &Path,
    format: ExportFormat,
) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure::caused(&format!("writing `{}`", to.display()), &error);
    // An export holds personal data, and must not replace what somebody kept.
    if to.exists() {
        return Err(Failure::usage(format!("`{}` is there already; name another file, or remove it", to.display())));
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let mut writer = BufWriter::new(file);
    let mut exported = 0;
    loop {
        let page = state.rejects(sync, run, exported, PAGE).await?;
        if page.is_empty() {
            break;
        }
        match format {
            ExportFormat::Ndjson => write_ndjson(&mut writer, &page).map_err(failed)?,
            ExportFormat::Csv => write_csv(&mut writer, &page, exported == 0).map_err(failed)?,
        }
        exported += page.len() as u64;
    }
    writer.flush().map_err(failed)?;
    writer.get_ref().sync_all().map_err(failed)?;
    Ok(exported)
}

fn write_ndjson(writer: &mut impl Write, rejects: &[RejectRecord]) -> std::io::Result<()> {
    for reject in rejects {
        let mut line = without_values(reject);
        let cells: serde_json::Map<_, _> =
            reject.cells.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
        line["cells"] = cells.into();
        writeln!(writer, "{line}")?;
    }
    Ok(())
}

/// One column per reason part, then the record's cells as one JSON object: rejects of different plans may have
/// different columns.
fn write_csv(writer: &mut impl Write, rejects: &[RejectRecord], with_header: bool) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(writer);
    if with_header {
        csv.write_record(["origin", "stage", "column", "code", "reason", "cells"])?;
    }
    for reject in rejects {
        let cells: serde_json::Map<_, _> =
            reject.cells.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
        let mut fields = row(reject);
        fields.push(serde_json::Value::from(cells).to_string());
        csv.write_record(&fields)?;
    }
    csv.flush()
}
