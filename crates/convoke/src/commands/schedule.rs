//! `schedule next`: when syncs run.

use convoke_config::LoadedSync;
use convoke_core::Clock;
use convoke_core::spec::ScheduleSpec;
use convoke_schedule::{NextRun, Schedule};
use serde_json::json;

use crate::cli::Global;
use crate::clock::SystemClock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::wiring::{find_sync, load_config};

pub(crate) fn next(global: &Global, sync: Option<&str>, count: usize) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let syncs = match sync {
        Some(name) => vec![find_sync(&config, name)?],
        None => config.syncs.values().collect(),
    };
    let mut listed = Vec::with_capacity(syncs.len());
    for loaded in syncs {
        listed.push((loaded, next_runs(loaded, count)?));
    }
    if global.json {
        output::json(&listed.iter().map(|(loaded, runs)| facts(loaded, runs)).collect::<Vec<_>>());
    } else {
        listed.iter().for_each(|(loaded, runs)| print(loaded, runs));
    }
    Ok(Exit::Success)
}

fn next_runs(loaded: &LoadedSync, count: usize) -> Result<Vec<NextRun>, Failure> {
    let ScheduleSpec::Cron(cron) = &loaded.spec.schedule else { return Ok(Vec::new()) };
    let schedule = Schedule::cron(&cron.expression, &cron.timezone)
        .map_err(|error| Failure::caused(&format!("the schedule of `{}`", loaded.spec.name), &error))?;
    Ok(schedule.next_runs(SystemClock.now(), count))
}

fn print(loaded: &LoadedSync, runs: &[NextRun]) {
    let name = &loaded.spec.name;
    let on_arrival =
        loaded.spec.arrival.map(|arrival| format!("on arrival, looked at every {} s", arrival.scan.as_secs()));
    let ScheduleSpec::Cron(cron) = &loaded.spec.schedule else {
        let told = on_arrival.unwrap_or_else(|| format!("no schedule; `convoke run {name}` runs it"));
        output::line(format!("{name}: {told}"));
        return;
    };
    let jitter = match cron.jitter.as_secs() {
        0 => String::new(),
        seconds => format!(", up to {seconds} s later"),
    };
    let on_arrival = on_arrival.map_or_else(String::new, |told| format!("; also {told}"));
    output::line(format!("{name}: {} in {}{jitter}{on_arrival}", cron.expression, cron.timezone));
    for run in runs {
        let note = run.note.as_ref().map_or_else(String::new, |note| format!("   {note}"));
        output::line(format!("  {}   {}{note}", run.local, run.at));
    }
}

fn facts(loaded: &LoadedSync, runs: &[NextRun]) -> serde_json::Value {
    let runs = runs.iter().map(|run| json!({ "at": run.at.to_string(), "local": run.local, "note": run.note }));
    let runs: Vec<_> = runs.collect();
    let scan = loaded.spec.arrival.map(|arrival| arrival.scan.as_secs());
    match &loaded.spec.schedule {
        ScheduleSpec::Manual => {
            json!({ "sync": loaded.spec.name, "schedule": null, "arrival_scan_seconds": scan, "next": runs })
        }
        ScheduleSpec::Cron(cron) => json!({
            "sync": loaded.spec.name,
            "schedule": { "cron": cron.expression, "timezone": cron.timezone, "jitter_seconds": cron.jitter.as_secs() },
            "arrival_scan_seconds": scan,
            "next": runs,
        }),
    }
}
