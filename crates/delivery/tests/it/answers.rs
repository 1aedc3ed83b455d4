//! What follows from refusals, and from answers that nobody declares; above all how many requests it takes to find the
//! rows that a destination refuses among those that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::journal::Operation;
use convoke_core::sink::{
    Answer, AppliedRow, AttemptTag, AudienceBinding, AudienceSetup, AudienceTarget, Capabilities, FoundRow, JobId,
    JobState, LookUp, Problem, Provision, ProvisionAnswer, Refusal, Request, ScanPage, Sink, Survey,
};
use convoke_core::{Clock, RowId, SinkError};
use convoke_delivery::protocol::{Action, Assumptions, BatchTask, Fact, Fate, Found, Machine};
use convoke_delivery::provision::{ProvisionError, SetupPorts, ensure};
use convoke_testkit::fake_sink::{FakeSink, Faults};
use proptest::collection::btree_set;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::provision::{COMPLETE, account, target};

/// Which rows of a refused request its problems point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pointers {
    None,
    /// At every bad row.
    All,
    /// At the first bad row, as a destination does that stops at the first problem.
    First,
    /// At any rows, good or bad.
    Wrong,
    /// At all rows but one.
    AllButOne,
}

/// A destination that refuses every request with a bad row in it.
struct Picky {
    operation: Operation,
    bad: BTreeSet<u32>,
    /// Whether a refused request has applied nothing; else it has applied some of its good rows.
    is_atomic: bool,
    pointers: Pointers,
    random: StdRng,
    /// Rows that were made, with the tag that they were made under.
    made: BTreeMap<u32, Vec<AttemptTag>>,
    sends: u64,
    refusals: u64,
    look_ups: u64,
}

fn id(row: u32) -> RowId {
    RowId::new(format!("id-{row}"))
}

impl Picky {
    fn answer(&mut self, rows: &[u32], tag: AttemptTag) -> Answer {
        self.sends += 1;
        let (bad, good): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| self.bad.contains(row));
        if bad.is_empty() {
            self.take(&good, tag);
            let applied = |(index, row): (usize, &u32)| AppliedRow { index, row_id: id(*row), failed_cells: vec![] };
            return Answer::Applied(rows.iter().enumerate().map(applied).collect());
        }
        self.refusals += 1;
        if !self.is_atomic {
            let some: Vec<u32> = good.into_iter().filter(|_| self.random.random_bool(0.3)).collect();
            self.take(&some, tag);
        }
        let problems = self.pointed_at(rows, &bad).into_iter().map(|index| Problem {
            index: Some(index),
            column: None,
            code: "PFAPI0008".to_owned(),
            detail: "wrong type".to_owned(),
        });
        Answer::Refused(Refusal { too_large: false, problems: problems.collect() })
    }

    fn take(&mut self, rows: &[u32], tag: AttemptTag) {
        for row in rows {
            self.made.entry(*row).or_default().push(tag);
        }
    }

    fn pointed_at(&mut self, rows: &[u32], bad: &[u32]) -> Vec<usize> {
        let index_of = |wanted: &u32| rows.iter().position(|row| row == wanted).expect("a row of the request");
        let all: Vec<usize> = (0..rows.len()).collect();
        match self.pointers {
            Pointers::None => Vec::new(),
            Pointers::All => bad.iter().map(index_of).collect(),
            Pointers::First => vec![index_of(&bad[0])],
            Pointers::Wrong => {
                let count = self.random.random_range(0..=rows.len().min(3));
                all.choose_multiple(&mut self.random, count).copied().collect()
            }
            Pointers::AllButOne => all.choose_multiple(&mut self.random, rows.len() - 1).copied().collect(),
        }
    }

    fn find(&mut self, rows: impl Iterator<Item = (u32, Option<AttemptTag>)>) -> Vec<Found> {
        self.look_ups += 1;
        let is_found = |(row, tag): &(u32, Option<AttemptTag>)| match tag {
            Some(tag) => self.made.get(row).is_some_and(|tags| tags.contains(tag)),
            None => true,
        };
        rows.filter(is_found).map(|(row, tag)| Found { row, row_id: id(row), tag }).collect()
    }

    /// Delivers rows `0..count`; returns what became of each.
    fn settle(&mut self, count: u32) -> BTreeMap<u32, Fate> {
        let assumptions = Assumptions {
            atomic_refusals: self.is_atomic,
            max_commit_delay: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            key_look_up: true,
        };
        let task = BatchTask {
            operation: self.operation,
            rows: (0..count).collect(),
            attempts_before: 0,
            attempts_swept: 0,
            tag_seed: 7,
            recreated: BTreeSet::new(),
        };
        let mut machine = Machine::new(assumptions, task);
        let (mut fates, mut entry) = (BTreeMap::new(), Vec::new());
        loop {
            let fact = match machine.next().clone() {
                Action::Done => return fates,
                Action::Stop(stop) => panic!("stopped: {stop:?}"),
                Action::Send { rows, tag } => Fact::Answered(self.answer(&rows, tag)),
                Action::LookUpKeys { cells } => {
                    Fact::LookedUp(self.find(cells.into_iter().map(|(row, tag)| (row, Some(tag)))))
                }
                Action::LookUpIds { rows } => Fact::LookedUp(self.find(rows.into_iter().map(|row| (row, None)))),
                Action::Journal { rows, .. } => {
                    entry = rows;
                    Fact::Done
                }
                Action::Close { fates: closed } => {
                    fates.extend(entry.drain(..).zip(closed));
                    Fact::Done
                }
                _ => Fact::Done,
            };
            machine.on(fact);
        }
    }
}

/// The promise: so many requests at most for `bad` of `rows`, read-backs apart.
fn bound(rows: u32, bad: u64, pointers: Pointers, is_atomic: bool) -> u64 {
    let halvings = u64::from(rows.next_power_of_two().ilog2());
    let factor = match pointers {
        Pointers::None | Pointers::All | Pointers::First => 2,
        Pointers::Wrong | Pointers::AllButOne => 4,
    };
    factor * bad * halvings + 1 + if is_atomic { 0 } else { bad }
}

fn any_pointers() -> impl Strategy<Value = Pointers> {
    use Pointers::*;
    prop_oneof![Just(None), Just(All), Just(First), Just(Wrong), Just(AllButOne)]
}

fn any_batch() -> impl Strategy<Value = (u32, BTreeSet<u32>)> {
    (1_u32..=500).prop_flat_map(|rows| {
        let most_bad = rows.min(12) as usize;
        (Just(rows), btree_set(0..rows, 0..=most_bad))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn k_refused_rows_among_n_cost_requests_in_the_order_of_k_log_n(
        (rows, bad) in any_batch(),
        pointers in any_pointers(),
        is_atomic: bool,
        is_update: bool,
        seed: u64,
    ) {
        let operation = if is_update { Operation::Update } else { Operation::Create };
        let mut picky = Picky {
            operation,
            bad: bad.clone(),
            is_atomic,
            pointers,
            random: StdRng::seed_from_u64(seed),
            made: BTreeMap::new(),
            sends: 0,
            refusals: 0,
            look_ups: 0,
        };
        let fates = picky.settle(rows);
        for row in 0..rows {
            let (fate, is_bad) = (&fates[&row], bad.contains(&row));
            prop_assert_eq!(*fate == Fate::Rejected, is_bad, "row {}: {:?}", row, fate);
            let times = picky.made.get(&row).map_or(0, Vec::len);
            let as_wanted = if is_bad { times == 0 } else { times == 1 || (is_update && times > 1) };
            prop_assert!(as_wanted, "row {} was made {} times", row, times);
        }
        let most = bound(rows, bad.len() as u64, pointers, is_atomic);
        prop_assert!(picky.sends <= most, "{} requests, and at most {} are promised", picky.sends, most);
        let most_look_ups = if is_atomic && !is_update { 0 } else { 2 * picky.refusals };
        prop_assert!(picky.look_ups <= most_look_ups, "{} look-ups for {} refusals", picky.look_ups, picky.refusals);
    }
}

/// An account in which making a thing is answered with what no API declares.
struct Baffling(Arc<FakeSink>);

#[async_trait]
impl AudienceSetup for Baffling {
    async fn survey(&self, target: &AudienceTarget, known_id: Option<&str>) -> Result<Survey, SinkError> {
        self.0.survey(target, known_id).await
    }

    async fn provision(&self, step: &Provision) -> Result<ProvisionAnswer, SinkError> {
        self.0.provision(step).await?;
        Err(SinkError::Protocol { message: "it was answered 302".to_owned() })
    }
}

#[async_trait]
impl Sink for Baffling {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn send(&self, audience: &AudienceBinding, request: &Request) -> Result<Answer, SinkError> {
        self.0.send(audience, request).await
    }

    async fn poll(&self, audience: &AudienceBinding, job: &JobId) -> Result<JobState, SinkError> {
        self.0.poll(audience, job).await
    }

    async fn look_up(&self, audience: &AudienceBinding, query: &LookUp) -> Result<Vec<FoundRow>, SinkError> {
        self.0.look_up(audience, query).await
    }

    async fn scan(&self, audience: &AudienceBinding, cursor: Option<&str>) -> Result<ScanPage, SinkError> {
        self.0.scan(audience, cursor).await
    }
}

#[test]
fn a_set_up_step_that_was_answered_beyond_the_contract_stops_the_run_and_is_settled_by_the_next() {
    let (clock, sink, ports) = account(Faults::none());
    let baffling = SetupPorts { sink: Arc::new(Baffling(Arc::clone(&sink))), ..ports.clone() };
    let error = clock.run(ensure(&baffling, &target(), None)).unwrap_err();
    assert!(matches!(error, ProvisionError::Sink { source: SinkError::Protocol { .. }, .. }), "{error}");
    assert_eq!(sink.made().0, 1, "nothing is made again by the run that was baffled");
    let stopped_at = clock.elapsed();
    clock.run(ensure(&ports, &target(), None)).unwrap();
    assert_eq!(sink.made(), COMPLETE);
    assert!(clock.elapsed() < stopped_at + sink.capabilities().max_commit_delay, "what shows needs no waiting");
}
