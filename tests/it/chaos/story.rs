//! Some days in the life of a sync.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use convoke_testkit::fault_proxy::FaultScript;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use super::people::World;
use super::trouble::{self, Diary, PER_SECOND};
use crate::audience::{delete_row, edit_row};
use crate::crash::{BOUNDARIES, Scene};
use crate::workspace::{Ended, SYNC, remote_connection};

/// A process that has not ended by then hangs.
const LONGEST_RUN: Duration = Duration::from_secs(120);

/// Long enough for a busy machine, and short enough to wait for its end.
const LEASE: Duration = Duration::from_secs(15);

/// What is done besides what befalls requests; each must have come up once all seeds are through.
pub(crate) const DEEDS: [&str; 9] = [
    "killed",
    "interrupted",
    "two_at_once",
    "applied",
    "file_replaced",
    "plans_lost",
    "poisoned",
    "row_deleted",
    "row_edited",
];

/// How a run may end while there is trouble: well, failed, partial, waiting for quota, or told to stop. Never over rows that
/// nobody explains (4), and never out of balance (5).
const RUN_ENDS: &[i32] = &[0, 1, 3, 6, 130];

/// A plan that waited may have become stale (4), or its id may be unknown because it was never made (2).
const APPLY_ENDS: &[i32] = &[0, 1, 2, 3, 4, 6, 130];

pub(crate) struct Story {
    seed: u64,
    random: StdRng,
    scene: Scene,
    world: World,
    day: usize,
    /// Whether the destination keeps a rate, of which the configuration may know nothing.
    is_limited: bool,
    /// A plan that was made to be applied later.
    waiting: Option<String>,
    deeds: BTreeMap<&'static str, u64>,
    /// What happened, for whoever has to understand a failure.
    log: Vec<String>,
    diary: Diary,
}

impl Story {
    pub(crate) async fn begin(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let scene = Scene::new(FaultScript::none()).await;
        let is_limited = random.random_bool(0.2);
        let plain = remote_connection(&scene.proxy.base_url(), &scene.store.client);
        let knows_limit = is_limited && random.random_bool(0.5);
        scene.workspace.write("config/connections.yaml", &trouble::connection(&plain, knows_limit));
        let settings = format!("state_dir: state\nmemory_limit: 128MB\nstate: {{ lease: {}s }}\n", LEASE.as_secs());
        scene.workspace.write("config/convoke.yaml", &settings);
        Self {
            seed,
            random,
            scene,
            world: World::default(),
            day: 0,
            is_limited,
            waiting: None,
            deeds: BTreeMap::new(),
            log: vec![format!("limited {is_limited}, and known {knows_limit}")],
            diary: Diary::default(),
        }
    }

    /// How often each kind of trouble came up.
    pub(crate) fn trouble(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let injected = self.scene.proxy.stats().injected;
        injected.into_iter().chain(self.deeds.clone())
    }

    pub(crate) async fn tell(&mut self) {
        let days = self.random.random_range(1..=3);
        self.make_trouble();
        for _ in 0..days {
            self.next_day();
            for _ in 0..self.random.random_range(1..=3) {
                self.troubled_run();
            }
            if self.random.random_bool(0.1) {
                self.lose_plans();
            }
            if self.random.random_bool(0.25) {
                self.quiet_hour().await;
            }
        }
        self.end_trouble().await;
        self.assert_ends_well().await;
    }

    fn make_trouble(&mut self) {
        self.scene.proxy.set_script(trouble::script(&mut self.random, &self.diary));
        self.scene.proxy.throttle(self.is_limited.then_some(PER_SECOND));
    }

    /// What is under way arrives; then nothing goes wrong any more but for poison.
    async fn end_trouble(&mut self) {
        self.scene.proxy.set_script(trouble::poison_only());
        self.scene.proxy.throttle(None);
        self.scene.proxy.accept_connections().await;
        self.scene.proxy.late_commits_done().await;
    }

    fn next_day(&mut self) {
        self.day += 1;
        self.world.next_day(&mut self.random);
        self.drop_file();
        let (people, poisoned) = (self.world.people.len(), self.world.poisoned());
        self.note("poisoned", u64::from(poisoned > 0));
        self.log.push(format!("day {}: {people} people, {poisoned} of them poisoned", self.day));
    }

    fn drop_file(&self) {
        self.scene.workspace.drop_csv(&format!("{}.csv", self.day), &self.world.people);
    }

    fn note(&mut self, deed: &'static str, times: u64) {
        *self.deeds.entry(deed).or_default() += times;
    }

    /// A run that is killed at a boundary or at any moment, is told to stop, meets another one or another file, or ends by
    /// itself as it may.
    fn troubled_run(&mut self) {
        match self.random.random_range(0..10) {
            0 | 1 => {
                let (mut command, point) = self.killed_at_a_boundary(&["run", SYNC]);
                self.log.push(format!("killed at {point}, if it gets there"));
                self.finish(&mut command, RUN_ENDS);
            }
            2 | 3 => self.killed_at_any_moment(),
            4 => self.interrupted(),
            5 => self.two_at_once(),
            6 | 7 => self.plan_and_apply(),
            8 => self.file_replaced(),
            _ => {
                self.log.push("left alone".to_owned());
                let mut command = self.scene.workspace.command(&["run", SYNC]);
                self.finish(&mut command, RUN_ENDS);
            }
        }
    }

    fn killed_at_a_boundary(&mut self, arguments: &[&str]) -> (Command, String) {
        let boundary = BOUNDARIES.choose(&mut self.random).expect("there are some");
        let point = format!("{boundary}:{}", self.random.random_range(1..=3));
        let mut command = self.scene.workspace.command(arguments);
        command.env("CONVOKE_CRASH_AT", &point);
        (command, point)
    }

    fn killed_at_any_moment(&mut self) {
        let mut child = self.start(&["run", SYNC]);
        let after = self.moment();
        self.log.push(format!("killed after {after:?}"));
        if !ends_within(&mut child, after) {
            child.kill().expect("it still runs, or has just ended");
        }
        self.ended(&mut child, RUN_ENDS);
    }

    fn interrupted(&mut self) {
        let mut child = self.start(&["run", SYNC]);
        let after = self.moment();
        self.log.push(format!("told to stop after {after:?}"));
        if !ends_within(&mut child, after) {
            // It may just have ended.
            let _ = kill_process(Pid::from_child(&child), Signal::INT);
        }
        // Before it watches for signals, one ends it as it ends any process.
        let code = self.ended(&mut child, RUN_ENDS);
        self.note("interrupted", u64::from(code == Some(130)));
    }

    /// One of the two finds the audience busy, or waits, or goes on where the other was killed.
    fn two_at_once(&mut self) {
        let (mut command, point) = self.killed_at_a_boundary(&["run", SYNC]);
        self.log.push(format!("two at once, one killed at {point}, if it gets there"));
        let mut one = self.spawn(&mut command);
        let mut other = self.start(&["run", SYNC]);
        self.ended(&mut one, RUN_ENDS);
        self.ended(&mut other, RUN_ENDS);
        self.note("two_at_once", 1);
    }

    /// Makes a plan that somebody may apply later, or applies the one that waits, however old it is.
    fn plan_and_apply(&mut self) {
        if self.waiting.is_none() || self.random.random_bool(0.3) {
            let ended = self.scene.workspace.convoke(&["plan", SYNC, "--json"]);
            assert!(RUN_ENDS.contains(&ended.code.expect("nobody kills it")), "{}", ended.text());
            self.waiting = plan_id(&ended);
            self.log.push(format!("planned: {:?}", ended.code));
        }
        if self.random.random_bool(0.3) {
            return;
        }
        let Some(plan) = self.waiting.take() else { return };
        let (mut command, point) = self.killed_at_a_boundary(&["apply", &plan]);
        if self.random.random_bool(0.5) {
            self.log.push(format!("applied, and killed at {point}, if it gets there"));
        } else {
            self.log.push("applied".to_owned());
            command.env_remove("CONVOKE_CRASH_AT");
        }
        let code = self.finish(&mut command, APPLY_ENDS);
        self.note("applied", u64::from(matches!(code, Some(0 | 3))));
    }

    /// The day's file is replaced by another one of its name while a run reads or sends it.
    fn file_replaced(&mut self) {
        let mut child = self.start(&["run", SYNC]);
        let after = self.moment();
        self.log.push(format!("the file is replaced after {after:?}"));
        let has_ended = ends_within(&mut child, after);
        self.world.next_day(&mut self.random);
        self.drop_file();
        self.ended(&mut child, RUN_ENDS);
        self.note("file_replaced", u64::from(!has_ended));
    }

    /// Long enough to come to the end of a run without trouble.
    fn moment(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(50..2_500))
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.spawn(&mut self.scene.workspace.command(arguments))
    }

    /// Starts a process; what it says is kept in one file with what the others say.
    fn spawn(&self, command: &mut Command) -> Child {
        let said = OpenOptions::new().create(true).append(true).open(self.said()).expect("a file");
        command.stdout(Stdio::null()).stderr(said).spawn().expect("the binary runs")
    }

    fn said(&self) -> PathBuf {
        self.scene.workspace.path("said")
    }

    fn finish(&mut self, command: &mut Command, ends: &[i32]) -> Option<i32> {
        let mut child = self.spawn(command);
        self.ended(&mut child, ends)
    }

    /// Waits for the end, which must be one of `ends` unless something killed it.
    fn ended(&mut self, child: &mut Child, ends: &[i32]) -> Option<i32> {
        if !ends_within(child, LONGEST_RUN) {
            child.kill().expect("it still runs, or has just ended");
            child.wait().expect("the child can be waited for");
            panic!("a process hangs");
        }
        let status = child.wait().expect("the child can be waited for");
        self.log.push(match status.code() {
            Some(0) | None => format!("{status}"),
            Some(_) => format!("{status} ({})", last_line(&self.said())),
        });
        self.note("killed", u64::from(status.code().is_none()));
        assert!(status.code().is_none_or(|code| ends.contains(&code)), "it ended as it must not: {status}");
        status.code()
    }

    /// Runs once nothing goes wrong any more. A lease whose holder was killed before it could lock it ends by its time alone.
    fn run_to_the_end(&mut self) {
        for _ in 0..LEASE.as_secs() * 3 {
            let mut command = self.scene.workspace.command(&["run", SYNC]);
            let code = self.finish(&mut command, &[0, 1, 3]);
            if matches!(code, Some(0 | 3)) {
                return;
            }
            let why = last_line(&self.said());
            assert!(why.contains("another run is under way"), "nothing goes wrong, and yet: {why}");
            std::thread::sleep(Duration::from_secs(1));
        }
        panic!("a lease outlives its time");
    }

    fn lose_plans(&mut self) {
        self.log.push("the plans are lost".to_owned());
        // There may be none yet.
        let lost = fs::remove_dir_all(self.scene.workspace.path("state/plans")).is_ok();
        self.note("plans_lost", u64::from(lost));
    }

    /// Nothing goes wrong for a while; once all is settled, a person edits a row and deletes another one.
    async fn quiet_hour(&mut self) {
        self.end_trouble().await;
        self.log.push("a quiet hour".to_owned());
        self.run_to_the_end();
        let (base_url, client) = (self.scene.store.base_url.clone(), self.scene.store.client.clone());
        if let Some(person) = self.world.pick(&mut self.random) {
            edit_row(&base_url, &client, "People", &person.email, ("Name", "Edited by hand".into())).await;
            self.world.edit(&person, "Edited by hand");
            self.note("row_edited", 1);
        }
        if let Some(person) = self.world.pick(&mut self.random) {
            delete_row(&base_url, &client, "People", &person.email).await;
            self.world.delete(&person);
            self.note("row_deleted", 1);
        }
        self.make_trouble();
    }

    /// Once all is read, settled and sent, the audience holds what it must, nothing is left to send, and no run was ever out
    /// of balance. Who is poisoned is refused each time, and counted.
    async fn assert_ends_well(&mut self) {
        self.run_to_the_end();
        let (expected, poisoned) = (self.world.expected(), self.world.poisoned());
        self.scene.assert_holds(&expected).await;
        let again = self.scene.workspace.convoke(&["run", SYNC, "--full", "--json"]);
        again.expect(if poisoned > 0 { 3 } else { 0 }, &[]);
        let run = &again.json()["run"];
        let planned = ["creates", "updates", "deletes"].map(|name| run["counts"][name].as_u64().expect("a count"));
        assert_eq!(planned, [poisoned as u64, 0, 0], "nothing else is left to send: {}", again.text());
        if poisoned > 0 {
            assert_eq!(run["delivery"]["creates"]["rejected"], poisoned, "{}", again.text());
        }
        self.scene.assert_holds(&expected).await;
        let runs = self.scene.workspace.convoke(&["runs", SYNC, "-n", "1000", "--json"]).json();
        let states: Vec<_> = runs.as_array().expect("runs").iter().map(|run| run["state"].clone()).collect();
        assert!(!states.iter().any(|state| state == "unbalanced" || state == "running"), "{states:?}");
    }
}

fn plan_id(ended: &Ended) -> Option<String> {
    if ended.code != Some(0) {
        return None;
    }
    ended.json()["plan"]["id"].as_str().map(str::to_owned)
}

/// What was said last.
fn last_line(said: &Path) -> String {
    let text = fs::read_to_string(said).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}

/// Whether the process ends within this time.
#[expect(clippy::disallowed_methods, reason = "processes live in real time")]
fn ends_within(child: &mut Child, time: Duration) -> bool {
    let started = Instant::now();
    while child.try_wait().expect("the child can be waited for").is_none() {
        if started.elapsed() >= time {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trouble = self.diary.lock().map(|diary| diary.join("\n  ")).unwrap_or_default();
            eprintln!("seed {}: {}\ntrouble:\n  {trouble}", self.seed, self.log.join("\n  "));
        }
    }
}
