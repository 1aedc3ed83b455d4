//! Progress of a run: bars on a terminal, plain lines in a pipe, nothing with `--json`. Always on standard error.

use std::io::IsTerminal;
use std::sync::Mutex;

use convoke_core::plan::PlanManifest;
use convoke_pipeline::{Event, Reporter, Silent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Global;
use crate::output;

/// Chooses the reporter for a command: with `--json` nothing but facts is wanted.
pub(crate) fn reporter(global: &Global) -> Box<dyn Reporter> {
    if global.json {
        return Box::new(Silent);
    }
    if std::io::stderr().is_terminal() {
        return Box::new(Bars::new());
    }
    Box::new(Lines::default())
}

/// What is said about an event whichever way progress is shown; none for mere progress.
fn sentence(event: &Event) -> Option<Vec<String>> {
    let text = match event {
        Event::Recovering { open_entries, until } => format!(
            "{open_entries} requests are in doubt; they may take effect until {until}, then their rows are looked up"
        ),
        Event::Recovered { settled_rows } => format!("settled {settled_rows} rows that were in doubt"),
        Event::Resuming { plan } => format!("going on with plan {plan}, which was interrupted"),
        Event::Abandoned { plan, reason, cancelled } => {
            format!("giving up the rest of plan {plan}: {reason}; {cancelled} of its changes are cancelled")
        }
        Event::Notice { text } => format!("note: {text}"),
        Event::Window { number: 1, of: 1 } => return None,
        Event::Window { number, of } => format!("window {number} of {of}"),
        Event::Settling { what, wait } => {
            let seconds = wait.as_secs_f64().ceil();
            format!("waiting {seconds} s for {what} to settle: a file counts once nobody has written to it for a while")
        }
        Event::Planned { manifest, hash } => return Some(describe(manifest, hash)),
        Event::SettingUp { what } => format!("making {what}"),
        Event::WaitingForQuiet { until } => {
            format!("requests of an earlier run may still take effect; waiting until {until}")
        }
        Event::Guaranteed { guarantee } => format!("guarantee: {guarantee}"),
        Event::ReadingBack { rows } => format!("looking up {rows} rows whose request got no clear answer"),
        Event::Delivered { counts } => format!("delivered: {}", output::describe_delivery(counts)),
        Event::Unchanged { counts } => format!("nothing changed: {}", output::describe_records(counts)),
        Event::Reading { .. } | Event::Comparing { .. } | Event::Delivering { .. } => return None,
    };
    Some(vec![text])
}

fn describe(manifest: &PlanManifest, hash: &str) -> Vec<String> {
    output::describe_plan(manifest, hash)
}

/// Plain lines: each sentence once, and each tenth part of reading and delivering.
#[derive(Default)]
struct Lines {
    last_tenth: Mutex<Option<(Phase, u64)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    Delivering,
}

impl Lines {
    fn tenth(&self, phase: Phase, done: u64, total: u64) -> Option<u64> {
        let tenth = (done * 10).checked_div(total)?;
        let mut last = self.last_tenth.lock().expect("nobody panics while holding it");
        let is_new = last.is_none_or(|(last_phase, last_tenth)| last_phase != phase || last_tenth < tenth);
        if !is_new {
            return None;
        }
        *last = Some((phase, tenth));
        (tenth > 0).then_some(tenth * 10)
    }
}

impl Reporter for Lines {
    fn report(&self, event: Event) {
        for text in sentence(&event).into_iter().flatten() {
            eprintln!("{text}");
        }
        match event {
            Event::Reading { split, bytes_total: Some(total), bytes_read, records } => {
                if let Some(percent) = self.tenth(Phase::Reading, bytes_read, total) {
                    eprintln!("reading {split}: {percent} %, {records} records");
                }
            }
            Event::Delivering { settled, total } => {
                if let Some(percent) = self.tenth(Phase::Delivering, settled, total) {
                    eprintln!("delivering: {percent} %, {settled} of {total} changes");
                }
            }
            _ => {}
        }
    }
}

/// Bars with rate and remaining time.
struct Bars {
    bar: ProgressBar,
    phase: Mutex<Option<Phase>>,
}

impl Bars {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, phase: Mutex::new(None) }
    }

    fn enter(&self, phase: Phase, total: u64) {
        let mut current = self.phase.lock().expect("nobody panics while holding it");
        if *current != Some(phase) {
            *current = Some(phase);
            self.bar.reset();
            self.bar.set_style(style(phase));
        }
        self.bar.set_length(total);
    }
}

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Reading => "reading    {bar:30} {bytes}/{total_bytes} {msg} {bytes_per_sec} {eta} left",
        Phase::Delivering => "delivering {bar:30} {pos}/{len} changes {per_sec} {eta} left",
    };
    ProgressStyle::with_template(template).expect("the template above is well formed")
}

impl Reporter for Bars {
    fn report(&self, event: Event) {
        match &event {
            Event::Reading { bytes_total, bytes_read, records, .. } => {
                self.enter(Phase::Reading, bytes_total.unwrap_or(*bytes_read));
                self.bar.set_message(format!("{records} records"));
                self.bar.set_position(*bytes_read);
            }
            Event::Delivering { settled, total } => {
                self.enter(Phase::Delivering, *total);
                self.bar.set_position(*settled);
            }
            Event::Comparing { .. } | Event::Delivered { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
        for text in sentence(&event).into_iter().flatten() {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }
}
