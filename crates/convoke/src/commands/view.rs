//! `preview` and `explain`: look, touch nothing.

use convoke_engine::{PreviewOutcome, PreviewRecord};
use convoke_pipeline::SourceUse;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::wiring::{load_config, wire};
use crate::{output, progress};

/// Shows the first records of the source, as they are and as they would be sent.
pub(crate) async fn preview(global: &Global, sync: &str, count: usize) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let wired = wire(&config, sync, progress::reporter(global), signals.cancel()).await?;
    let records = wired.pipeline.preview(count).await;
    wired.close().await;
    let records = records.map_err(|error| Failure::ended_by(error, &signals))?;
    if global.json {
        output::json(&records.iter().map(as_json).collect::<Vec<_>>());
        return Ok(Exit::Success);
    }
    for record in &records {
        print(record);
    }
    Ok(Exit::Success)
}

fn print(record: &PreviewRecord) {
    output::line(&record.origin);
    output::line(format!("  source   {}", describe_cells(&record.source)));
    output::line(match &record.outcome {
        PreviewOutcome::Mapped(cells) => format!("  mapped   {}", describe_cells(cells)),
        PreviewOutcome::Filtered => "  filtered by `where`".to_owned(),
        PreviewOutcome::Suppressed => "  suppressed".to_owned(),
        PreviewOutcome::Deleted => {
            "  deleted  as `deleted` says: its row goes, unless a later record has its key".to_owned()
        }
        PreviewOutcome::Malformed { reason } => format!("  refused  {reason}"),
        PreviewOutcome::Invalid(problem) => {
            format!("  refused  `{}`: {}: {}", problem.column, problem.code, problem.reason)
        }
    });
}

fn describe_cells(cells: &[(String, Option<String>)]) -> String {
    let shown = cells.iter().map(|(name, text)| match text {
        Some(text) => format!("{name}={text:?}"),
        None => format!("{name}=NULL"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn as_json(record: &PreviewRecord) -> Value {
    let outcome = match &record.outcome {
        PreviewOutcome::Mapped(cells) => json!({ "mapped": cells_as_json(cells) }),
        PreviewOutcome::Filtered => json!({ "filtered": true }),
        PreviewOutcome::Suppressed => json!({ "suppressed": true }),
        PreviewOutcome::Deleted => json!({ "deleted": true }),
        PreviewOutcome::Malformed { reason } => json!({ "invalid": { "code": "malformed", "reason": reason } }),
        PreviewOutcome::Invalid(problem) => json!({
            "invalid": { "column": problem.column, "code": problem.code, "reason": problem.reason }
        }),
    };
    json!({ "origin": record.origin, "source": cells_as_json(&record.source), "outcome": outcome })
}

fn cells_as_json(cells: &[(String, Option<String>)]) -> Value {
    cells.iter().map(|(name, text)| (name.clone(), json!(text))).collect::<serde_json::Map<_, _>>().into()
}

/// Tells what is known of one record by its key.
pub(crate) async fn explain(global: &Global, sync: &str, key: &[String], source: SourceUse) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let wired = wire(&config, sync, progress::reporter(global), signals.cancel()).await?;
    let explanation = wired.pipeline.explain(key, source).await;
    wired.close().await;
    let explanation = explanation.map_err(|error| Failure::ended_by(error, &signals))?;
    if global.json {
        output::json(&explanation);
    } else {
        explanation.facts.iter().for_each(output::line);
    }
    Ok(Exit::Success)
}
