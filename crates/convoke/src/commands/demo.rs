//! `demo`: the whole product on a small messy drop folder.
//!
//! Works in a temporary folder that is removed at the end, or in one that is kept. It uses the shipped example
//! configuration and the ordinary run, so what it shows is what a user gets.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoke_config::Config;
use convoke_core::Clock;
use convoke_core::state::RunState;
use convoke_engine::{PreviewOutcome, PreviewRecord};
use convoke_pipeline::{Ended, Extent, Silent, chain};

use crate::cli::Global;
use crate::clock::SystemClock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::signals::Signals;
use crate::wiring::{load_config, wire};

const SYNC: &str = "newsletter";
const FIRST_DROP: &str = include_str!("../../demo/contacts.csv");
const SUPPRESSED: &str = include_str!("../../demo/suppressed.csv");
/// The configuration's files: the shipped examples, word for word.
const CONFIGURATION: [(&str, &str); 3] = [
    ("config/convoke.yaml", include_str!("../../../../config/convoke.yaml")),
    ("config/connections.yaml", include_str!("../../../../config/connections.yaml")),
    ("config/syncs/newsletter.yaml", include_str!("../../../../config/syncs/newsletter.yaml")),
];

/// One person whose title changes between the first drop and the second.
const CHANGED: (&str, &str) = ("soren.garcia@lumiere.example.org", "Chief Listening Officer");
/// One person who is no longer in the second drop.
const REMOVED: &str = "zoe87@grunwald.example";
/// One person who is new in the second drop.
const ADDED: &str = "  New.Person@Aldermoor.Example ,ngozi,ADEYEMI-o'neill,Aldermoor Logistics Inc,https://WWW.Aldermoor.example/team,0161 496 0123,GB,Data Engineer,2026-05-01,77,yes,2026-05-01T08:00:00Z\n";

pub(crate) async fn demo(global: &Global, keep: Option<&Path>) -> Result<Exit, Failure> {
    if global.json {
        return Err(Failure::usage("`demo` is for people to look at and knows no `--json`; leave it out"));
    }
    let signals = Signals::watch()?;
    let workspace = Workspace::create(keep)?;
    let clock = SystemClock;
    let begun = clock.elapsed();
    let outcome = Box::pin(show(&workspace, &signals)).await;
    if outcome.is_ok() {
        conclude(&workspace, clock.elapsed().saturating_sub(begun));
    }
    outcome
}

async fn show(workspace: &Workspace, signals: &Signals) -> Result<Exit, Failure> {
    workspace.write(&CONFIGURATION)?;
    workspace.write(&[("demo/suppressed.csv", SUPPRESSED), ("demo/drop/contacts-monday.csv", FIRST_DROP)])?;
    let config = load_config(&workspace.root.join("config"), 0)?;

    output::line(
        "A drop folder holds contacts-monday.csv: 1,079 messy contacts. A few of them, and what becomes of them:\n",
    );
    preview(&config, signals).await?;

    output::line("\n1. First load: the audience does not exist yet.\n");
    step(&config, signals).await?;

    let second = second_drop()?;
    workspace.write(&[("demo/drop/contacts-tuesday.csv", &second)])?;
    output::line("\n2. contacts-tuesday.csv: one title changed, one person is new, one is gone.\n");
    step(&config, signals).await?;

    output::line("\n3. Once more, with nothing new.\n");
    step(&config, signals).await?;
    Ok(Exit::Success)
}

/// Runs the sync and prints its plan and its result as a short table.
async fn step(config: &Config, signals: &Signals) -> Result<(), Failure> {
    let wired = wire(config, SYNC, Box::new(Silent), signals.cancel()).await?;
    let ended = wired.pipeline.run(Extent::default()).await;
    wired.close().await;
    let ended = ended?;
    if let Some(error) = &ended.error {
        return Err(Failure::new(Exit::of_run(ended.run.state, signals.received()), chain(error)));
    }
    print(&ended);
    Ok(())
}

fn print(ended: &Ended) {
    let counts = ended.run.counts.unwrap_or_default();
    let delivery = ended.run.delivery.unwrap_or_default();
    let state = match ended.run.state {
        RunState::Partial => "partial: some records were refused, with reasons",
        state => state.as_str(),
    };
    let live = ended.run.ledger.map(|ledger| format!("{} rows in the audience", ledger.live_after));
    let rows = [
        ("records", output::describe_records(&counts)),
        ("plan", output::describe_changes(&counts)),
        ("sent", format!("{} ({} requests)", output::describe_delivery(&delivery), delivery.requests)),
        ("result", [Some(state.to_owned()), live].into_iter().flatten().collect::<Vec<_>>().join("; ")),
    ];
    for (name, text) in rows {
        output::line(format!("   {name:8} {text}"));
    }
}

/// Shows a clean record, a refused one and one in need of tidying, out of the first few.
async fn preview(config: &Config, signals: &Signals) -> Result<(), Failure> {
    /// Far enough into the sample to meet every kind.
    const LOOKED_AT: usize = 400;
    const SHOWN_PER_KIND: usize = 2;
    let wired = wire(config, SYNC, Box::new(Silent), signals.cancel()).await?;
    let records = wired.pipeline.preview(LOOKED_AT).await;
    wired.close().await;
    let records = records?;
    let is_mapped = |record: &&PreviewRecord| matches!(record.outcome, PreviewOutcome::Mapped(_));
    let untidy = records.iter().filter(is_mapped).filter(|record| is_untidy(record)).take(SHOWN_PER_KIND);
    let refused = records.iter().filter(|record| !is_mapped(record)).take(SHOWN_PER_KIND);
    for record in untidy.chain(refused) {
        output::line(format!(
            "   {:<24} {}",
            record.origin,
            shown(&record.source, &["email", "first_name", "last_name", "phone"])
        ));
        output::line(format!("   {:<24} {}", "", describe(&record.outcome)));
    }
    Ok(())
}

/// Whether the mapping changed the address, so that showing the record shows something.
fn is_untidy(record: &PreviewRecord) -> bool {
    let PreviewOutcome::Mapped(cells) = &record.outcome else { return false };
    let email = |cells: &[(String, Option<String>)], name: &str| {
        cells.iter().find(|(cell, _)| cell == name).and_then(|(_, text)| text.clone())
    };
    email(&record.source, "email") != email(cells, "Email") && email(&record.source, "phone").is_some()
}

fn describe(outcome: &PreviewOutcome) -> String {
    match outcome {
        PreviewOutcome::Mapped(cells) => format!("→ {}", shown(cells, &["Email", "Full Name", "Phone"])),
        PreviewOutcome::Filtered => "→ filtered: did not ask for the newsletter".to_owned(),
        PreviewOutcome::Deleted => "→ deleted at the source: its row goes".to_owned(),
        PreviewOutcome::Suppressed => "→ suppressed: must not be sent, ever".to_owned(),
        PreviewOutcome::Malformed { reason } => format!("→ refused: {reason}"),
        PreviewOutcome::Invalid(problem) => format!("→ refused: {}", problem.reason),
    }
}

fn shown(cells: &[(String, Option<String>)], names: &[&str]) -> String {
    let texts = names.iter().filter_map(|name| {
        let (_, text) = cells.iter().find(|(cell, _)| cell == name)?;
        Some(format!("{:?}", text.as_deref().unwrap_or("")))
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// The first drop with one title changed, one person gone and one new.
fn second_drop() -> Result<String, Failure> {
    let (email, title) = CHANGED;
    let mut changed = false;
    let mut drop = String::with_capacity(FIRST_DROP.len() + ADDED.len());
    for line in FIRST_DROP.split_inclusive('\n').filter(|line| !line.starts_with(REMOVED)) {
        let Some(rest) = line.strip_prefix(email) else {
            drop.push_str(line);
            continue;
        };
        drop.push_str(&changed_line(email, rest, title));
        changed = true;
    }
    if !changed {
        return Err(Failure::failed("the demo's sample lacks the person that it changes"));
    }
    drop.push_str(ADDED);
    Ok(drop)
}

/// Replaces `job_title`, the eighth field; this person's line holds no quoted field.
fn changed_line(email: &str, rest: &str, title: &str) -> String {
    const JOB_TITLE: usize = 7;
    let mut fields: Vec<_> = rest.split(',').collect();
    if let Some(field) = fields.get_mut(JOB_TITLE) {
        *field = title;
    }
    format!("{email}{}", fields.join(","))
}

fn conclude(workspace: &Workspace, took: Duration) {
    output::line(format!("\nThree runs in {:.1} s.", took.as_secs_f64()));
    if workspace.temporary.is_some() {
        output::line("Nothing is left behind. To look further, keep it:  convoke demo --keep demo-convoke");
        return;
    }
    let config = workspace.root.join("config");
    let config = config.display();
    output::line(format!("Everything is in {}. To look further:", workspace.root.display()));
    for command in [
        "runs",
        "rejects list newsletter",
        "explain newsletter soren.garcia@lumiere.example.org",
        "preview newsletter -n 5",
    ] {
        output::line(format!("   convoke --config {config} {command}"));
    }
}

/// The folder in which the demo works.
struct Workspace {
    root: PathBuf,
    /// Removes the folder at the end, also after a failure; none if it is kept.
    temporary: Option<tempfile::TempDir>,
}

impl Workspace {
    fn create(keep: Option<&Path>) -> Result<Self, Failure> {
        let Some(root) = keep else {
            let temporary = tempfile::Builder::new()
                .prefix("convoke-demo-")
                .tempdir()
                .map_err(|error| Failure::caused("a temporary folder could not be made", &error))?;
            return Ok(Self { root: temporary.path().to_owned(), temporary: Some(temporary) });
        };
        let is_empty = fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none());
        if !is_empty {
            let message =
                format!("`{}` is not empty; name a new folder, so that nothing of yours is touched", root.display());
            return Err(Failure::usage(message));
        }
        Ok(Self { root: root.to_owned(), temporary: None })
    }

    fn write(&self, files: &[(&str, &str)]) -> Result<(), Failure> {
        for (name, contents) in files {
            let path = self.root.join(name);
            let folder = path.parent().unwrap_or(&self.root);
            let written = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .and_then(|()| fs::write(&path, contents));
            written.map_err(|error| Failure::caused(&format!("writing `{}`", path.display()), &error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_drop_differs_by_one_change_one_removal_and_one_addition() {
        let second = second_drop().expect("the sample holds the person that changes");
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        let (before, after) = (lines(FIRST_DROP), lines(&second));
        let gone: Vec<_> = before.difference(&after).collect();
        let new: Vec<_> = after.difference(&before).collect();
        assert_eq!(gone.len(), 2, "the removed person and the old title");
        assert_eq!(new.len(), 2, "the added person and the new title");
        assert!(new.iter().any(|line| line.contains(CHANGED.1) && line.split(',').count() == 12));
    }
}
