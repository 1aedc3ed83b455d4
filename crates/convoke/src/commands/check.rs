//! `check`: every problem of a configuration at once.

use convoke_pipeline::CheckReport;
use serde_json::json;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::signals::Signals;
use crate::wiring::load_config;
use crate::{output, progress};

pub(crate) async fn check(global: &Global, connect: bool) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let mut reports = Vec::new();
    if connect {
        let signals = Signals::watch()?;
        let host = Host::open(config.clone(), signals.cancel()).await?;
        for sync in config.syncs.keys() {
            let report = match host.pipeline(sync.as_str(), progress::reporter(global), signals.cancel()).await {
                Ok(pipeline) => pipeline.check_connections().await,
                Err(failure) => CheckReport {
                    is_misconfigured: failure.is_usage(),
                    problems: vec![failure.into_message()],
                    ..CheckReport::default()
                },
            };
            reports.push((sync.as_str(), report));
        }
        host.close().await;
    }
    let connections = config.connections.len() + config.object_stores.len() + config.databases.len();
    let is_well = reports.iter().all(|(_, report)| report.problems.is_empty());
    if global.json {
        let syncs: serde_json::Map<_, _> =
            reports.iter().map(|(sync, report)| ((*sync).to_owned(), json!(report))).collect();
        let configured = config.syncs.len();
        output::json(&json!({ "ok": is_well, "connections": connections, "syncs": configured, "reached": syncs }));
    } else {
        let syncs = config.syncs.len();
        output::line(format!("{}: {connections} connections, {syncs} syncs, all well formed", global.config.display()));
        for (sync, report) in &reports {
            report.facts.iter().for_each(|fact| output::line(format!("{sync}: {fact}")));
            report.problems.iter().for_each(|problem| output::line(format!("{sync}: PROBLEM {problem}")));
        }
    }
    // What is wrong at the other end is no error of the configuration.
    let is_misconfigured = reports.iter().any(|(_, report)| report.is_misconfigured);
    Ok(match (is_well, is_misconfigured) {
        (true, _) => Exit::Success,
        (false, true) => Exit::Usage,
        (false, false) => Exit::Failed,
    })
}
