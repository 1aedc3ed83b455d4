//! `verify`: holds an audience against the ledger and the source.

use convoke_core::audit::{AuditCounts, AuditSample, Finding};
use convoke_core::plan::PlanCounts;
use convoke_pipeline::{Ended, Error, Repair, Verification, chain};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::{Failure, print_error};
use crate::signals::Signals;
use crate::wiring::{load_config, wire};
use crate::{output, progress};

/// What `--json` prints.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(flatten)]
    verification: Option<&'a Verification>,
    differences: u64,
    /// The plan that mends what differs, if one was made.
    plan: Option<PlanFacts<'a>>,
    error: Option<String>,
    exit_code: u8,
}

#[derive(Serialize)]
struct PlanFacts<'a> {
    id: convoke_core::PlanId,
    hash: &'a str,
    counts: &'a PlanCounts,
    guard_hits: &'a [convoke_core::plan::GuardHit],
}

pub(crate) async fn verify(global: &Global, sync: &str, samples: usize) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let wired = wire(&config, sync, progress::reporter(global), signals.cancel()).await?;
    let verification = wired.pipeline.verify(samples).await;
    wired.close().await;
    let verification = verification.map_err(|error| Failure::ended_by(error, &signals))?;
    let exit = match &verification {
        Verification { source: None, .. } => Exit::Failed,
        Verification { counts, .. } => exit_of(counts),
    };
    if global.json {
        print_json(Some(&verification), None, exit);
        return Ok(exit);
    }
    print(&verification);
    if let Some(problem) = &verification.source_problem {
        print_error(global, &format!("the source could not be compared: {problem}"));
    }
    if verification.counts.differences() > 0 {
        output::line(format!("`convoke verify {sync} --repair` makes the plan that mends what is ours"));
    } else if let Some(ahead) = describe_ahead(sync, &verification) {
        output::line(ahead);
    }
    Ok(exit)
}

pub(crate) async fn repair(global: &Global, sync: &str, samples: usize) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let wired = wire(&config, sync, progress::reporter(global), signals.cancel()).await?;
    let repair = wired.pipeline.repair(samples).await;
    if let Ok(Repair { verification: Some(verification), .. }) = &repair {
        let actor = format!("uid {}", rustix::process::getuid().as_raw());
        let differences = verification.counts.differences();
        let detail = format!("sync {sync}, audience {}: {differences} differences", verification.audience);
        wired.host.state.audit(&actor, "repair", &detail).await?;
    }
    wired.close().await;
    let Repair { verification, ended } = repair.map_err(|error| Failure::ended_by(error, &signals))?;
    let exit = match &ended.error {
        Some(Error::Request { .. }) => Exit::Usage,
        Some(_) => Exit::of_run(ended.run.state, signals.received()),
        None => verification.as_ref().map_or(Exit::Success, |verification| exit_of(&verification.counts)),
    };
    if global.json {
        print_json(verification.as_ref(), Some(&ended), exit);
        return Ok(exit);
    }
    verification.iter().for_each(print);
    if let Some(error) = &ended.error {
        print_error(global, &chain(error));
    } else if let Some(plan) = &ended.plan {
        let changes = output::describe_changes(&plan.manifest.counts);
        output::line(format!("repair: {changes}; `apply {}` sends it", plan.manifest.id));
    } else if let Some(message) = &ended.run.message {
        output::line(message);
    }
    Ok(exit)
}

/// What is no difference between audience and ledger: the source says something that was not sent yet.
fn describe_ahead(sync: &str, verification: &Verification) -> Option<String> {
    let counts = verification.source.as_ref()?;
    let parts = [("create", counts.creates), ("update", counts.updates), ("delete", counts.deletes)];
    let shown = parts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}"));
    let changes = shown.collect::<Vec<_>>().join(", ");
    let full = if verification.deletes_need_full && counts.deletes > 0 { " --full" } else { "" };
    (!changes.is_empty()).then(|| {
        format!(
            "the audience is as it was written, and the source is ahead of it: `convoke run {sync}{full}` would {changes}"
        )
    })
}

fn exit_of(counts: &AuditCounts) -> Exit {
    if counts.differences() == 0 { Exit::Success } else { Exit::Partial }
}

fn print_json(verification: Option<&Verification>, ended: Option<&Ended>, exit: Exit) {
    let plan = ended.and_then(|ended| ended.plan.as_ref()).map(|plan| PlanFacts {
        id: plan.manifest.id,
        hash: &plan.hash,
        counts: &plan.manifest.counts,
        guard_hits: &plan.manifest.guard_hits,
    });
    output::json(&Facts {
        verification,
        differences: verification.map_or(0, |verification| verification.counts.differences()),
        plan,
        error: ended.and_then(|ended| ended.error.as_ref()).map(|error| chain(error)),
        exit_code: exit.code(),
    });
}

fn print(verification: &Verification) {
    let Verification { audience, audience_name, counts, samples, source, .. } = verification;
    output::line(format!("audience `{audience_name}` ({audience})"));
    let shown: Vec<_> = figures(counts).into_iter().filter(|figure| figure.is_shown()).collect();
    let cell = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|figure| {
            vec![figure.name.to_owned(), cell(figure.audience), cell(figure.ledger), figure.meaning.to_owned()]
        })
        .collect();
    output::table(&["", "audience", "ledger", ""], &rows);
    if let Some(counts) = source {
        let changes = output::describe_changes(counts);
        output::line(format!("source: {}; a plan would change: {changes}", output::describe_records(counts)));
    }
    samples.iter().map(describe_sample).for_each(output::line);
}

/// One line of the table: how many rows of the audience, and how many live entries of the ledger.
struct Figure {
    name: &'static str,
    audience: Option<u64>,
    ledger: Option<u64>,
    meaning: &'static str,
}

impl Figure {
    fn is_shown(&self) -> bool {
        matches!(self.name, "in step" | "in all") || self.audience.or(self.ledger).is_some_and(|count| count > 0)
    }
}

/// The figures, which add up to the last line.
fn figures(counts: &AuditCounts) -> Vec<Figure> {
    let both = |name, count, meaning| Figure { name, audience: Some(count), ledger: Some(count), meaning };
    let audience = |name, count, meaning| Figure { name, audience: Some(count), ledger: None, meaning };
    let ledger = |name, count, meaning| Figure { name, audience: None, ledger: Some(count), meaning };
    vec![
        both("in step", counts.in_step, ""),
        both("drifted", counts.drifted, "cells differ from what was written"),
        both("unconfirmed", counts.unconfirmed, "what was written is not known for sure"),
        both("moved", counts.moved, "somebody edited or cleared the key cell"),
        both("other syncs'", counts.other_syncs, "there, and not compared"),
        audience("doubled", counts.doubled, "made by us besides the row that the ledger names"),
        audience("doubled by others", counts.doubled_by_others, "not known to be ours, with a key of ours; left alone"),
        audience("extra", counts.extra, "made by us, and in no ledger"),
        audience("others' rows", counts.extra_of_others, "somebody else's; left alone"),
        ledger("missing", counts.missing, "somebody removed them"),
        ledger("missing, other syncs'", counts.missing_of_other_syncs, "left to their sync"),
        Figure { name: "in all", audience: Some(counts.rows), ledger: Some(counts.ledger_rows), meaning: "" },
    ]
}

fn describe_sample(sample: &AuditSample) -> String {
    let AuditSample { finding, row_id, ledger_row, attempt, origin, columns } = sample;
    let mut facts = vec![format!("{}: row {row_id}", name_of(*finding))];
    facts.extend(ledger_row.as_ref().map(|row| format!("the ledger names row {row}")));
    facts.extend(attempt.map(|tag| format!("attempt {:08x}", tag.0)));
    facts.extend(origin.as_ref().map(|origin| format!("source {origin}")));
    if !columns.is_empty() {
        facts.push(format!(
            "differs in {}",
            columns.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ));
    }
    facts.join(", ")
}

fn name_of(finding: Finding) -> &'static str {
    match finding {
        Finding::Drifted => "drifted",
        Finding::Unconfirmed => "unconfirmed",
        Finding::Moved => "moved",
        Finding::Doubled => "doubled",
        Finding::DoubledByOthers => "doubled by others",
        Finding::Extra => "extra",
        Finding::ExtraOfOthers => "others' row",
        Finding::Missing => "missing",
        Finding::MissingOfOtherSyncs => "missing, another sync's",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_table_add_up_to_the_last() {
        let counts = AuditCounts {
            rows: 2 + 3 + 5 + 7 + 11 + 13 + 17 + 19 + 23,
            ledger_rows: 2 + 3 + 5 + 7 + 11 + 29 + 31,
            in_step: 2,
            drifted: 3,
            unconfirmed: 5,
            moved: 7,
            other_syncs: 11,
            doubled: 13,
            doubled_by_others: 17,
            extra: 19,
            extra_of_others: 23,
            missing: 29,
            missing_of_other_syncs: 31,
        };
        assert!(counts.is_balanced());
        let mut figures = figures(&counts);
        let all = figures.pop().expect("a last line");
        assert_eq!(figures.iter().filter_map(|figure| figure.audience).sum::<u64>(), all.audience.unwrap());
        assert_eq!(figures.iter().filter_map(|figure| figure.ledger).sum::<u64>(), all.ledger.unwrap());
    }
}
