//! Answers that go wrong without anything being wrong: refused records among good ones, and reads whose answers get lost.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use convoke_delivery::patience::READ_ATTEMPTS;
use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript, Rule, SeenRequest};
use serde_json::Value;

use crate::audience::assert_holds;
use crate::daemon::eventually;
use crate::workspace::{Ended, Person, SYNC, StoreProcess, Workspace, people};

/// Stands in the name of a record that the destination refuses, and in no other.
const POISON: &str = "Unwelcome";

/// As many as one request takes.
const BATCH: usize = 500;

const POISONED: [usize; 3] = [7, 250, 499];

fn poisoned_people() -> Vec<Person> {
    let mut people = people(0..BATCH);
    for number in POISONED {
        people[number].name = format!("{POISON} {number}");
    }
    people
}

/// Requests that write rows, and requests that look for some.
#[derive(Debug, Default)]
struct Requests {
    upserts: AtomicU64,
    refused: AtomicU64,
    searches: AtomicU64,
}

impl Requests {
    /// Refuses, whole, each write that holds a poisoned record.
    fn refuse_poison(&self, request: &SeenRequest<'_>) -> Option<Fault> {
        if request.path.contains("actions/search") {
            self.searches.fetch_add(1, Ordering::Relaxed);
        }
        if !request.path.contains("bulk/upsert") {
            return None;
        }
        self.upserts.fetch_add(1, Ordering::Relaxed);
        let is_poisoned = String::from_utf8_lossy(request.body).contains(POISON);
        is_poisoned.then(|| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Fault::RefuseRows { status: 400 }
        })
    }

    fn counts(&self) -> [u64; 3] {
        [&self.upserts, &self.refused, &self.searches].map(|count| count.load(Ordering::Relaxed))
    }
}

async fn behind_proxy(script: FaultScript) -> (StoreProcess, FaultProxy, Workspace) {
    let store = StoreProcess::start();
    let upstream = store.address().parse().expect("an address");
    let proxy = FaultProxy::start(upstream, script).await.expect("the proxy starts");
    let workspace = Workspace::remote(&proxy.base_url(), &store.client);
    (store, proxy, workspace)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_refused_records_among_five_hundred_are_found_in_few_requests_and_the_others_written_once() {
    let requests = Arc::new(Requests::default());
    let seen = Arc::clone(&requests);
    let (store, _proxy, workspace) =
        behind_proxy(FaultScript::from_fn(move |request| seen.refuse_poison(request))).await;
    workspace.drop_csv("1.csv", &poisoned_people());
    workspace.run(3);
    let [upserts, refused, searches] = requests.counts();
    println!("{upserts} requests wrote rows, of which {refused} were refused; {searches} looked for some");

    let mut expected = poisoned_people();
    expected.retain(|person| !person.name.contains(POISON));
    assert_holds(&store.base_url, &store.client, &expected).await;
    let creates = &workspace.newest_run()["delivery"]["creates"];
    let counts = ["acknowledged", "rejected"].map(|name| creates[name].as_u64().expect("a count"));
    assert_eq!(counts, [497, 3], "{}", workspace.newest_run());
    let listed = workspace.convoke(&["rejects", "list", SYNC, "--json"]);
    let listed = listed.json();
    let rejects: Vec<&Value> = listed.as_array().expect("a list").iter().collect();
    let mut origins: Vec<String> =
        rejects.iter().map(|reject| reject["origin"].as_str().expect("an origin").to_owned()).collect();
    origins.sort();
    // The header is line 1.
    assert_eq!(origins, ["1.csv:252", "1.csv:501", "1.csv:9"]);
    assert!(
        rejects.iter().all(|reject| reject["reason"].as_str().is_some_and(|text| text.contains("injected"))),
        "{listed}"
    );

    // crates/sink-gtm/ANSWERS.md: 2k⌈log₂ n⌉ + 1, and k more where a refusal may have done a part.
    assert!(upserts <= 2 * 3 * 9 + 1 + 3, "{upserts} requests wrote rows");
    // Each refused request is looked up twice, a hundred rows at a time.
    assert!(searches <= refused * 2 * 5, "{searches} look-ups for {refused} refusals");
}

/// The reads of a first run: folders and audiences by name, the audience, how its key column can be searched.
fn on_reads(fault: &Fault, times: u64) -> Vec<Rule> {
    ["/folders?", "/audiences?", "filter-metadata"]
        .map(|path| Rule::on("GET", path, fault.clone()).times(times))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_reads_whose_answers_are_lost_twice_in_a_row() {
    for fault in [Fault::DropAnswer, Fault::TruncateAnswer] {
        let mut rules = on_reads(&fault, 2);
        // A lost answer to a write, and to the first two look-ups that it leads to.
        rules.push(Rule::on("POST", "bulk/upsert", Fault::DropAnswer).once());
        rules.push(Rule::on("POST", "actions/search", fault.clone()).times(2));
        let (store, proxy, workspace) = behind_proxy(FaultScript::rules(rules)).await;
        workspace.drop_csv("1.csv", &people(0..50));
        workspace.run(0);
        assert_holds(&store.base_url, &store.client, &people(0..50)).await;
        assert_eq!(proxy.stats().total(), 3 * 2 + 1 + 2, "{:?}", proxy.stats());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_polls_are_lost_twice_in_a_row_is_seen_to_its_end() {
    let (store, proxy, workspace) = behind_proxy(FaultScript::none()).await;
    workspace.drop_csv("1.csv", &people(0..50));
    workspace.run(0);
    proxy.set_script(FaultScript::rules(vec![Rule::on("GET", "/jobs/", Fault::DropAnswer).times(2)]));
    workspace.drop_csv("2.csv", &people(2..50));
    workspace.run(0);
    assert_holds(&store.base_url, &store.client, &people(2..50)).await;
    assert_eq!(proxy.stats().total(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_answers_are_lost_for_good_ends_the_run_and_says_what_was_asked_how_often() {
    let (_store, proxy, workspace) = behind_proxy(FaultScript::rules(on_reads(&Fault::DropAnswer, u64::MAX))).await;
    workspace.drop_csv("1.csv", &people(0..5));
    let told = ["gave up looking at audience `People` after 6 attempts", "the connection to `127.0.0.1:"];
    workspace.run(1).expect(1, &told);
    assert_eq!(proxy.stats().total(), u64::from(READ_ATTEMPTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_waiting_between_two_reads() {
    let (_store, proxy, workspace) = behind_proxy(FaultScript::rules(on_reads(&Fault::DropAnswer, u64::MAX))).await;
    workspace.drop_csv("1.csv", &people(0..5));
    let mut command = workspace.command(&["run", SYNC]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // From the fourth attempt on it waits for seconds.
    eventually("the read is repeated", Duration::from_secs(60), async || proxy.stats().total() >= 3).await;
    let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().expect("kill runs");
    assert!(sent.success());
    let ended = Ended::of(child.wait_with_output().expect("the process ends"));
    assert_eq!(ended.code, Some(143), "{}", ended.text());
    assert!(proxy.stats().total() < u64::from(READ_ATTEMPTS), "it went on: {:?}", proxy.stats());
}
