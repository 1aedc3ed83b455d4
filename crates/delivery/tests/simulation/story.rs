//! A story: days of a source, and the processes that bring each day to the audience, with all that a seed does to them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use convoke_core::sink::{AudienceBinding, Capabilities, KeyLookUp, Sink};
use convoke_core::spec::RateLimits;
use convoke_core::state::{Journal, Lease};
use convoke_core::{Clock, KeyHash};
use convoke_delivery::protocol::CELL_FAILED;
use convoke_testkit::clock::TestClock;
use convoke_testkit::fake_sink::{FakeSink, Faults};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::books::Books;
use crate::chronicle::{Chronicle, Counts, Fault};
use crate::memory_state::MemoryState;
use crate::network::Roads;
use crate::oracle::{Kind, Oracle, Violation};
use crate::process::{Mortal, Paused};
use crate::run::{Ended, live};
use crate::source::{Source, key_hash, next_day};

/// Processes that may meet trouble, each day. After them nothing goes wrong any more.
const TROUBLED_LIVES: u32 = 5;
/// Processes within which a plan is done once nothing goes wrong any more; some only learn that the quota is used up.
const CALM_LIVES: u32 = 40;

/// Runs with nothing to do but rejects after which a day is done: what was noted for the sweep was looked up once more
/// when all had come that may come, and by the run after that.
const QUIET_LIVES: u32 = 3;

/// A bug planted around the courier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    SendsAgainWhatIsInDoubt,
    NeverSweeps,
    SweepsWithoutTheLedger,
    ForgetsTheFold,
    WritesWithoutItsLease,
    DeletesRowsOfOthers,
}

/// What all processes of a story live in.
pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) state: Arc<MemoryState>,
    pub(crate) roads: Arc<Roads>,
    pub(crate) books: Books,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) binding: AudienceBinding,
    pub(crate) limits: RateLimits,
    pub(crate) bug: Option<Bug>,
    /// The source, and the number of its day.
    source: Mutex<(u32, Source)>,
    lease: Mutex<Option<Lease>>,
}

impl World {
    pub(crate) fn source(&self) -> (u32, Source) {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_lease(&self, lease: &Lease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease.clone());
    }

    pub(crate) fn newest_lease(&self) -> Option<Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a story ended.
pub(crate) struct Told {
    pub(crate) seed: u64,
    pub(crate) violations: Vec<Violation>,
    pub(crate) faults: Counts,
    pub(crate) lines: Vec<String>,
    /// Of all lines: two tellings with one hash are the same.
    pub(crate) hash: u64,
}

/// Tells the story of a seed.
pub(crate) fn tell(seed: u64, bug: Option<Bug>) -> Told {
    let mut story = Story::new(seed, bug);
    let mut violations = Vec::new();
    for day in 1..=story.days {
        violations = story.tell_day(day);
        if !violations.is_empty() {
            break;
        }
    }
    let chronicle = &story.world.chronicle;
    Told { seed, violations, faults: chronicle.counts(), lines: chronicle.lines(), hash: chronicle.hash() }
}

struct Story {
    world: Arc<World>,
    oracle: Oracle,
    random: StdRng,
    days: u32,
    keys: u32,
    /// Share of requests that go wrong while there is trouble.
    rate: f64,
    names: u32,
}

impl Story {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let capabilities = Capabilities {
            atomic_refusals: random.random_bool(0.5),
            requests_in_flight: random.random_range(1..=3),
            ..FakeSink::small_capabilities()
        };
        let clock = TestClock::stepping();
        let faults = Faults { seed: random.random(), lagging_search: true, ..Faults::none() };
        let sink = FakeSink::new(Arc::clone(&clock) as Arc<dyn Clock>, capabilities, faults);
        let look_up = KeyLookUp { values_per_request: 5, by_prefix: random.random_bool(0.5) };
        let chronicle = Arc::new(Chronicle::new(Arc::clone(&clock)));
        let roads = Roads::new(sink, Arc::clone(&clock), Arc::clone(&chronicle), random.random());
        // Few enough that a request has to be waited for longer than a run does. Of the least, a run that comes back finds
        // fifteen: about what it takes to find a refused row in a batch where each refusal has to be read back.
        let per_hour = random.random_bool(0.3).then(|| random.random_range(20..60));
        let world = World {
            state: Arc::new(MemoryState::timed_by(Arc::clone(&clock))),
            clock,
            roads: Arc::new(roads),
            books: Books::default(),
            chronicle,
            binding: FakeSink::binding(&["Email"], Some(look_up)),
            limits: RateLimits { per_second: Some(25), per_hour, per_day: None },
            bug,
            source: Mutex::default(),
            lease: Mutex::default(),
        };
        let (days, keys) = (random.random_range(3..=4), random.random_range(10..40));
        let rate = random.random_range(0.1..0.5);
        let mut story = Self { world: Arc::new(world), oracle: Oracle::default(), random, days, keys, rate, names: 0 };
        story.person_adds();
        story
    }

    fn tell_day(&mut self, day: u32) -> Vec<Violation> {
        self.world.chronicle.tell(format!("day {day}"));
        self.persons_between_days();
        self.move_source();
        let (_, source) = self.world.source();
        self.oracle.expect(&source);
        self.world.roads.set_rate(self.rate);
        for _ in 0..TROUBLED_LIVES {
            if let Ended::Unbalanced(what) = self.troubled_life() {
                return vec![Violation::new(Kind::Books, what)];
            }
            self.trouble_between_lives();
        }
        self.world.roads.set_rate(0.0);
        if let Err(what) = self.come_to_rest() {
            return vec![Violation::new(Kind::Endless, what)];
        }
        self.judge()
    }

    fn move_source(&mut self) {
        let mut source = self.world.source.lock().unwrap_or_else(PoisonError::into_inner);
        source.0 += 1;
        let version = source.0;
        next_day(&mut source.1, self.keys, version, &mut self.random);
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("process {}", self.names)
    }

    fn life(&mut self) -> impl Future<Output = Ended> + use<> {
        live(Arc::clone(&self.world), self.name())
    }

    /// A number of steps: often few, and sometimes many.
    fn steps(&mut self) -> u32 {
        let most = 1 << self.random.random_range(2..=9);
        self.random.random_range(1..=most)
    }

    fn troubled_life(&mut self) -> Ended {
        let clock = Arc::clone(&self.world.clock);
        let ended = match self.random.random_range(0..10) {
            0..=4 => self.cut_short(),
            5..=6 => self.paused_beside_another(),
            _ => clock.run(self.life()),
        };
        if let Ended::WaitsForQuota(until) = ended {
            self.world.clock.advance(until.since(self.world.clock.now()));
        }
        ended
    }

    /// The process is killed.
    fn cut_short(&mut self) -> Ended {
        let (steps, clock) = (self.steps(), Arc::clone(&self.world.clock));
        match clock.run(Mortal::new(self.life(), steps)) {
            Some(ended) => ended,
            None => {
                self.world.roads.cut_short();
                self.world.chronicle.fault(Fault::Crash);
                Ended::Failed("it was killed".to_owned())
            }
        }
    }

    /// The process is stopped until its lease has run out; another one takes over, and then both go on.
    fn paused_beside_another(&mut self) -> Ended {
        let (steps, clock) = (self.steps(), Arc::clone(&self.world.clock));
        let (asleep, chronicle) = (Arc::clone(&clock), Arc::clone(&self.world.chronicle));
        let pause = Duration::from_secs(self.random.random_range(61..600));
        let pause = async move { asleep.sleep(pause).await };
        let first = Paused::new(self.life(), steps, pause, move || chronicle.fault(Fault::LostLease));
        let second = self.life();
        let (first, second) = clock.run(futures::future::join(first, second));
        self.world.roads.cut_short();
        if matches!(first, Ended::Unbalanced(_)) { first } else { second }
    }

    fn trouble_between_lives(&mut self) {
        if self.random.random_bool(0.15) && self.world.books.lose_plans() {
            self.world.chronicle.fault(Fault::LostPlan);
        }
        if self.random.random_bool(0.1) {
            self.person_removes_midway();
        }
        if self.random.random_bool(0.15) {
            self.world.chronicle.fault(Fault::MovedSource);
            self.move_source();
            let (_, source) = self.world.source();
            self.oracle.expect_midway(&source);
        }
        let pause = Duration::from_secs(self.random.random_range(0..400));
        self.world.clock.advance(pause);
    }

    fn person_removes_midway(&mut self) {
        let (_, source) = self.world.source();
        let rows = self.world.roads.sink.rows_now();
        let keys = rows.iter().filter_map(|row| {
            let key = source.keys().find(|key| row.key_cell.is_some_and(|cell| cell.key == key_hash(**key)));
            Some((row.row_id.clone(), *key?))
        });
        let keys: Vec<_> = keys.collect();
        if let Some((row_id, key)) = keys.choose(&mut self.random) {
            self.world.roads.sink.remove_row(row_id);
            self.oracle.person_removed_midway(*key);
            self.world.chronicle.fault(Fault::PersonRemovesARow);
        }
    }

    fn persons_between_days(&mut self) {
        if self.random.random_bool(0.5) {
            self.person_adds();
        }
        let (_, source) = self.world.source();
        let keys = self.oracle.removable(&source);
        let Some(key) = keys.choose(&mut self.random).copied().filter(|_| self.random.random_bool(0.5)) else { return };
        let rows = self.world.roads.sink.rows_now();
        let of_key = rows.iter().find(|row| row.key_cell.is_some_and(|cell| cell.key == key_hash(key)));
        let row = of_key.expect("the oracle found it there");
        self.world.roads.sink.remove_row(&row.row_id);
        self.oracle.person_removed_between_days(key);
        self.world.chronicle.tell(format!("a person removes {} of key {key}", row.row_id));
        self.world.chronicle.fault(Fault::PersonRemovesARow);
    }

    fn person_adds(&mut self) {
        let sink = &self.world.roads.sink;
        let row_id = sink.add_foreign_row(&["somebody@else"]);
        let row = sink.rows_now().into_iter().find(|row| row.row_id == row_id).expect("it was just added");
        self.oracle.person_added(row);
        self.world.chronicle.fault(Fault::PersonAddsARow);
    }

    /// Nothing goes wrong any more: the day comes to its end.
    fn come_to_rest(&mut self) -> Result<(), String> {
        let mut quiet_lives = 0;
        for _ in 0..CALM_LIVES {
            if quiet_lives == QUIET_LIVES {
                return Ok(());
            }
            quiet_lives = if self.calm_life()? { quiet_lives + 1 } else { 0 };
            let Capabilities { max_commit_delay, settle, .. } = Sink::capabilities(&*self.world.roads.sink);
            self.world.clock.advance(max_commit_delay + settle);
        }
        Err("there is something to do in every run".to_owned())
    }

    /// A run in which nothing goes wrong; true if nothing but rejects came of it.
    fn calm_life(&mut self) -> Result<bool, String> {
        for _ in 0..CALM_LIVES {
            let clock = Arc::clone(&self.world.clock);
            match clock.run(self.life()) {
                Ended::Settled { changed } => return Ok(!changed),
                Ended::NothingToDo => return Ok(true),
                Ended::WaitsForQuota(until) => self.world.clock.advance(until.since(self.world.clock.now())),
                ended => return Err(format!("nothing goes wrong, and yet: {ended:?}")),
            }
        }
        Err("the day does not come to its end".to_owned())
    }

    fn judge(&mut self) -> Vec<Violation> {
        let World { state, books, clock, binding, .. } = &*self.world;
        let (version, source) = self.world.source();
        let rejects = state.all_rejects();
        let of_today = rejects.iter().filter(|reject| books.version_of(reject.plan) == Some(version));
        // A row whose cell failed is there, and is written again.
        let of_today = of_today.filter(|reject| reject.code != CELL_FAILED);
        let rejected: BTreeSet<KeyHash> = of_today.filter_map(|reject| reject.key).collect();
        let mut rows = self.world.roads.sink.rows();
        // A row that is found after its answer was lost is believed to hold what was sent: the one case that only an
        // audit tells.
        let unheard = self.world.roads.failed_unheard();
        self.oracle.believe(&mut rows, |row| unheard.contains(&row.row_id) && row.cells == [None]);
        let mut wrong = self.oracle.violations(&source, &rows, &rejected);
        let (open, unfolded, noted) = clock.run(async {
            let open = state.open_entries(&binding.key).await.expect("it is in memory");
            let unfolded = state.unfolded(&binding.key, None, 1).await.expect("it is in memory");
            (open, unfolded, state.recreated(&binding.key).await.expect("it is in memory"))
        });
        let mut left = Vec::new();
        left.extend(open.iter().map(|entry| format!("entry {:?} is open", entry.id)));
        left.extend(unfolded.iter().map(|entry| format!("entry {:?} is not folded", entry.id)));
        // What is refused again in each run, by a destination that may have taken it all the same, is looked up each time.
        let is_refused = |key: KeyHash| source.iter().any(|(of, record)| record.is_poison && key_hash(*of) == key);
        left.extend(
            noted
                .iter()
                .filter(|known| !is_refused(known.key))
                .map(|known| format!("key {} is noted for ever", known.key)),
        );
        left.extend(books.applying().iter().map(|plan| format!("plan {} is neither settled nor given up", plan.id)));
        wrong.extend(left.into_iter().map(|what| Violation::new(Kind::Books, what)));
        self.oracle.settle(&source, &rows);
        wrong
    }
}
