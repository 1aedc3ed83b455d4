//! What a drill tells: a line for each round, and a table or a document at the end.

use convoke_engine::Excerpt;
use serde::Serialize;
use serde_json::json;

use super::child::Ended;
use super::judge::Verdict;
use super::rounds::Round;
use crate::cli::Global;
use crate::exit::Exit;
use crate::output;

/// What came of a round.
#[derive(Debug, Serialize)]
pub(super) struct RoundReport {
    round: u32,
    /// What was done to it.
    done: String,
    /// What the runs after it found, or said.
    found: String,
    /// Whether everything was delivered in the end.
    recovered: bool,
    #[serde(flatten)]
    verdict: Verdict,
}

impl RoundReport {
    /// `first` is the run that things were done to, `later` are those that recovered from them.
    pub(super) fn new(round: &Round, (first, later): (&Ended, &[Ended]), injected: u64, verdict: Verdict) -> Self {
        let recovered = later.last().unwrap_or(first).is_done();
        Self {
            round: round.number,
            done: describe_done(round, first, injected),
            found: describe_found(first, later),
            recovered,
            verdict,
        }
    }

    fn is_well(&self) -> bool {
        self.recovered && self.verdict.is_well()
    }

    fn cells(&self) -> Vec<String> {
        let Verdict { expected, present, doubled, missing, unexplained, different } = self.verdict;
        let counts = [expected, present, doubled, missing, unexplained + different].map(|count| count.to_string());
        let mut cells = vec![self.round.to_string(), self.done.clone()];
        cells.extend(counts);
        cells.push(self.found.clone());
        cells
    }
}

fn describe_done(round: &Round, first: &Ended, injected: u64) -> String {
    let kill = match first.code {
        None => format!("killed at {}", round.boundary),
        Some(_) => format!("never came to {} ({})", round.boundary, round.passing),
    };
    let trouble = round.trouble.describe().map(|trouble| match injected {
        0 => format!(", {trouble}"),
        times => format!(", {trouble} ({times})"),
    });
    format!("{kill}{}", trouble.unwrap_or_default())
}

fn describe_found(first: &Ended, later: &[Ended]) -> String {
    let all = || later.iter().chain([first]).map(|ended| &ended.told);
    let sum = |count: fn(&super::child::Told) -> u64| all().map(count).sum::<u64>();
    let mut parts = Vec::new();
    let counts = [
        (sum(|told| told.settled), "in doubt and settled"),
        (sum(|told| told.looked_up), "looked up"),
        (sum(|told| told.doubles_removed), "doubles removed"),
        (sum(|told| told.rejected), "rejected"),
    ];
    parts.extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    parts.extend(all().any(|told| told.resumed).then(|| "plan resumed".to_owned()));
    parts.extend(all().any(|told| told.given_up).then(|| "plan given up".to_owned()));
    let last = later.last().unwrap_or(first);
    if !last.is_done() {
        let why = last.told.error.clone().unwrap_or_else(|| format!("it ended as `{}`", last.told.state));
        parts.push(format!("NOT RECOVERED: {why}"));
    }
    if parts.is_empty() { "nothing in doubt".to_owned() } else { parts.join(", ") }
}

/// Gathers the rounds.
pub(super) struct Report<'a> {
    json: bool,
    sync: &'a str,
    seed: u64,
    records: usize,
    malformed: u64,
    rounds: Vec<RoundReport>,
}

impl<'a> Report<'a> {
    pub(super) fn begin(global: &Global, sync: &'a str, seed: u64, excerpt: &Excerpt) -> Self {
        let (records, malformed) = (excerpt.len(), excerpt.malformed());
        if !global.json {
            output::line(format!(
                "drill of `{sync}` with {records} records of its source, in a scratch audience of its own; seed {seed}"
            ));
            if malformed > 0 {
                output::line(format!("left out, because they cannot be read: {malformed}"));
            }
        }
        Self { json: global.json, sync, seed, records, malformed, rounds: Vec::new() }
    }

    /// Takes a round; returns whether it ended well. Progress goes to standard error: the table is for standard output.
    pub(super) fn add(&mut self, round: RoundReport) -> bool {
        let is_well = round.is_well();
        if !self.json {
            eprintln!("round {}: {}; {}", round.round, round.done, if is_well { "well" } else { "NOT WELL" });
        }
        self.rounds.push(round);
        is_well
    }

    /// Prints the outcome.
    pub(super) fn conclude(self) -> Exit {
        let passed = self.rounds.iter().all(RoundReport::is_well);
        let exit = if passed { Exit::Success } else { Exit::Failed };
        if self.json {
            output::json(&json!({
                "sync": self.sync,
                "seed": self.seed,
                "records": self.records,
                "malformed": self.malformed,
                "rounds": self.rounds,
                "passed": passed,
                "exit_code": exit.code(),
            }));
            return exit;
        }
        let header = ["round", "done", "expected", "present", "doubled", "missing", "other", "found"];
        output::table(&header, &self.rounds.iter().map(RoundReport::cells).collect::<Vec<_>>());
        let rounds = self.rounds.len();
        output::line(match passed {
            true => format!("passed: after each of {rounds} rounds every record stood in the audience once"),
            false => format!("FAILED in round {rounds}; `--seed {}` brings it back", self.seed),
        });
        exit
    }
}

#[cfg(test)]
mod tests {
    use super::super::child::Told;
    use super::super::rounds::rounds;
    use super::*;

    fn ended(code: Option<i32>, state: &str) -> Ended {
        Ended { code, told: Told { state: state.to_owned(), error: Some("no disk".to_owned()), ..Told::default() } }
    }

    fn exit_after(first: &Ended, later: &[Ended], verdict: Verdict) -> (Exit, String) {
        let round = &rounds(1, 1, 1)[0];
        let told = RoundReport::new(round, (first, later), 0, verdict);
        let found = told.found.clone();
        let report = Report { json: true, sync: "people", seed: 1, records: 1, malformed: 0, rounds: vec![told] };
        (report.conclude(), found)
    }

    #[test]
    fn a_drill_passes_only_if_each_round_recovered_and_each_row_stands_once() {
        let well = Verdict { expected: 1, present: 1, ..Verdict::default() };
        let (killed, done) = (ended(None, ""), ended(Some(0), "succeeded"));
        assert_eq!(exit_after(&killed, &[ended(Some(3), "partial")], well).0, Exit::Success);
        assert_eq!(exit_after(&done, &[], well).0, Exit::Success);
        assert_eq!(exit_after(&killed, &[done], Verdict { doubled: 1, ..well }).0, Exit::Failed);
        let (exit, found) = exit_after(&killed, &[ended(Some(1), "failed")], well);
        assert_eq!(exit, Exit::Failed);
        assert!(found.contains("NOT RECOVERED: no disk"), "{found}");
        assert_eq!(exit_after(&killed, &[], well).0, Exit::Failed);
    }
}
