//! `drill`: kills and lost answers, rehearsed on a copy of a sync's own records.
//!
//! What a run would read is copied, up to a limit, into a temporary folder. There the shipped binary keeps a scratch
//! audience in step with the copy, round by round, in a store that this process serves behind a proxy: it is killed at a
//! boundary, and its requests and answers are lost, late or damaged. Then it runs again, and a judge of its own compares
//! the rows of the audience with the mapped records. The real audience, ledger, checkpoint and files are neither written
//! nor, but for the source, read.

mod child;
mod judge;
mod rehearsal;
mod report;
mod rounds;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use convoke_config::Config;
use convoke_core::Clock;
use convoke_engine::{Excerpt, PreviewOutcome};
use convoke_fault_proxy::FaultScript;
use convoke_pipeline::Silent;
use rand::Rng;

use self::child::{Ended, Runs};
use self::judge::Expected;
use self::report::{Report, RoundReport};
use self::rounds::{Round, Trouble, rounds};
use self::stage::Stage;
use crate::cli::{Drill, Global};
use crate::clock::SystemClock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::wiring::{find_sync, load_config, wire};

/// Runs after a kill until all is done: a run may end early over trouble that it met, and the next goes on.
const RECOVERING_RUNS: usize = 3;

pub(crate) async fn drill(global: &Global, drill: &Drill) -> Result<Exit, Failure> {
    if let Some(folder) = &drill.within {
        return Box::pin(child::run(global, &drill.sync, folder)).await;
    }
    let config = load_config(&global.config, global.verbose)?;
    rehearsal::check(find_sync(&config, &drill.sync)?)?;
    let signals = Signals::watch()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stage = Stage::set(clock).await?;
    let outcome = Box::pin(Rehearsal { global, drill, config: &config, stage: &stage, signals: &signals }.run()).await;
    let struck = stage.strike().await;
    if let Some(exit) = signals.received() {
        struck?;
        return Err(Failure::new(exit, "the drill was stopped; nothing is left of it"));
    }
    let exit = outcome?;
    struck?;
    Ok(exit)
}

struct Rehearsal<'a> {
    global: &'a Global,
    drill: &'a Drill,
    config: &'a Config,
    stage: &'a Stage,
    signals: &'a Signals,
}

impl Rehearsal<'_> {
    async fn run(&self) -> Result<Exit, Failure> {
        let excerpt = self.excerpt().await?;
        let seed = self.drill.seed.unwrap_or_else(|| u64::from(rand::rng().random::<u32>()));
        let mut report = Report::begin(self.global, &self.drill.sync, seed, &excerpt);
        let records = u32::try_from(excerpt.len()).unwrap_or(u32::MAX);
        for round in rounds(seed, self.drill.rounds, records) {
            let told = self.round(&round, &excerpt).await?;
            if !report.add(told) {
                // What comes after it would only show the same once more.
                break;
            }
        }
        Ok(report.conclude())
    }

    async fn excerpt(&self) -> Result<Excerpt, Failure> {
        let sync = &self.drill.sync;
        let config = rehearsal::on_the_real_source(self.config, sync, &self.stage.scratch)?;
        let wired = wire(&config, sync, Box::new(Silent), self.signals.cancel()).await?;
        let limit = usize::try_from(self.drill.limit).unwrap_or(usize::MAX);
        let excerpt = wired.pipeline.excerpt(limit).await;
        wired.close().await;
        let excerpt = excerpt.map_err(|error| Failure::ended_by(error, self.signals))?;
        if excerpt.is_empty() {
            return Err(Failure::failed(format!("the source of `{sync}` has no record to drill with")));
        }
        if excerpt.has_column(rehearsal::ROUND_COLUMN) {
            let column = rehearsal::ROUND_COLUMN;
            return Err(Failure::usage(format!("the source of `{sync}` has a column `{column}`, which a drill needs")));
        }
        Ok(excerpt)
    }

    async fn round(&self, round: &Round, excerpt: &Excerpt) -> Result<RoundReport, Failure> {
        let scratch = &self.stage.scratch;
        let copied = excerpt.write(&scratch.records(), rehearsal::ROUND_COLUMN, &round.records);
        copied.map_err(|error| Failure::caused("the records could not be copied", &error))?;
        let runs = Runs { global: self.global, sync: &self.drill.sync, scratch, cancel: self.signals.cancel() };
        self.stage.proxy.set_script(round.script());
        let before = self.stage.proxy.stats().total();
        let first = runs.run(Some(&format!("{}:{}", round.boundary, round.passing))).await?;
        if round.trouble == Trouble::LostPlan {
            self.lose_plans()?;
        }
        let later = self.recover(&runs, &first).await?;
        self.stage.proxy.late_commits_done().await;
        let injected = self.stage.proxy.stats().total() - before;
        self.stage.proxy.set_script(FaultScript::none());
        let verdict = self.expected(round.records.len()).await?.judge(&self.stage.rows().await?);
        Ok(RoundReport::new(round, (&first, &later), injected, verdict))
    }

    /// Runs until all is done. A run that came to its end at once needs no other.
    async fn recover(&self, runs: &Runs<'_>, first: &Ended) -> Result<Vec<Ended>, Failure> {
        let mut later = Vec::new();
        let mut is_done = first.is_done();
        while !is_done && later.len() < RECOVERING_RUNS {
            let ended = runs.run(None).await?;
            is_done = ended.is_done();
            later.push(ended);
        }
        Ok(later)
    }

    fn lose_plans(&self) -> Result<(), Failure> {
        let plans = self.stage.scratch.state().join("plans");
        match std::fs::remove_dir_all(&plans) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::caused("the scratch plans could not be lost", &error))
            }
            _ => Ok(()),
        }
    }

    /// What the audience must hold: the copy's records, as the mapping makes them.
    async fn expected(&self, records: usize) -> Result<Expected, Failure> {
        let sync = &self.drill.sync;
        let config = rehearsal::for_the_judge(self.config, sync, &self.stage.scratch)?;
        let key = find_sync(&config, sync)?.spec.key.clone();
        let wired = wire(&config, sync, Box::new(Silent), self.signals.cancel()).await?;
        let mapped = wired.pipeline.preview(records).await;
        wired.close().await;
        let mapped = mapped.map_err(|error| Failure::ended_by(error, self.signals))?;
        let cells = mapped.into_iter().filter_map(|record| match record.outcome {
            PreviewOutcome::Mapped(cells) => Some(cells.into_iter().collect::<BTreeMap<_, _>>()),
            _ => None,
        });
        Ok(Expected::new(&key, cells))
    }
}
