//! What befalls requests and answers: everything that the API's promises allow, and nothing beyond them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convoke_testkit::fault_proxy::{Fault, FaultScript, SeenRequest};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::people::POISON;

/// The times that the destination promises: see [`connection`].
const REQUEST_TIMEOUT: Duration = Duration::from_millis(800);
const MAX_COMMIT_DELAY: Duration = Duration::from_millis(1_600);
const SETTLE: Duration = Duration::from_millis(300);

/// Requests in any second, in stories with a rate limit.
pub(crate) const PER_SECOND: u32 = 5;

/// The connection of [`crate::workspace::remote_connection`] under these promises. `limits` says whether Convoke knows of
/// the destination's rate limit.
pub(crate) fn connection(text: &str, limits: bool) -> String {
    let rate = if limits { format!("rate: {{ per_second: {PER_SECOND} }}") } else { "rate: unlimited".to_owned() };
    text.replace("rate: unlimited", &rate)
        .replace("request_timeout: 2s", &format!("request_timeout: {}ms", REQUEST_TIMEOUT.as_millis()))
        .replace("max_commit_delay: 1s", &format!("max_commit_delay: {}ms", MAX_COMMIT_DELAY.as_millis()))
        .replace("settle: 50ms", &format!("settle: {}ms", SETTLE.as_millis()))
}

/// Trouble of any request.
const ANYWHERE: [Fault; 13] = [
    Fault::DropRequest,
    Fault::DropAnswer,
    Fault::FailAfterCommit { status: 500 },
    Fault::FailAfterCommit { status: 503 },
    Fault::TruncateAnswer,
    Fault::CommitLate { after: Duration::from_millis(700) },
    Fault::DelayAnswer { by: Duration::from_millis(1_000) },
    Fault::DelayRequest { by: Duration::from_millis(1_000) },
    Fault::SlowBody { over: Duration::from_millis(300) },
    Fault::SlowBody { over: Duration::from_millis(1_200) },
    Fault::TooManyRequests { retry_after: Duration::from_secs(1) },
    Fault::Unauthorized,
    Fault::Refuse { lasting: Duration::from_millis(300) },
];

/// Trouble of requests to the audience: a token's request carries none.
const WITH_A_TOKEN: [Fault; 1] = [Fault::ExpireToken];

/// Trouble of what is told about rows.
const TOLD_ROWS: [Fault; 3] = [Fault::LeaveOutRows { every: 3 }, Fault::LeaveOutRows { every: 1 }, Fault::ShuffleRows];

/// Trouble of searches, within `settle`.
const SEARCHES: [Fault; 2] = [
    Fault::LagSearch { by: Duration::from_millis(270) },
    Fault::SearchSubset { every: 2, within: Duration::from_millis(270) },
];

/// How often: there is but little that they can hide, so mostly nothing comes of it.
const SEARCH_SHARE: f64 = 0.8;

/// What makes rows be created again, and be searched right afterwards: a search that lags has something to hide then.
const RECREATED: Fault = Fault::DropRequest;

const RECREATED_SHARE: f64 = 0.15;

/// Trouble of upserts.
const UPSERTS: [Fault; 3] = [
    Fault::RefuseInPart { status: 400, mark: None },
    Fault::DeliverTwiceUnseen { again_after: Duration::from_millis(200) },
    Fault::DeliverTwiceUnseen { again_after: Duration::from_millis(500) },
];

/// Trouble of writes that name all their rows: a network that doubles a create whose answer came is out of anybody's reach.
const REPEATABLE: [Fault; 1] = [Fault::DeliverTwice];

/// The names of all kinds of trouble that must have come up once all seeds are through; of those in one set, one.
pub(crate) fn kinds() -> impl Iterator<Item = Vec<&'static str>> {
    let all = [&ANYWHERE[..], &WITH_A_TOKEN, &TOLD_ROWS, &UPSERTS, &REPEATABLE];
    let names = all.into_iter().flatten().map(Fault::name).chain(["refuse_rows", "throttled"]);
    // Whether a search comes soon enough for something to be hidden is up to the machine.
    names.map(|name| vec![name]).chain([SEARCHES.iter().map(Fault::name).collect()])
}

/// What the script did, for whoever has to understand a failure.
pub(crate) type Diary = Arc<Mutex<Vec<String>>>;

/// Draws a script: the same for the same state of `random`.
pub(crate) fn script(random: &mut StdRng, diary: &Diary) -> FaultScript {
    let mut trouble = Trouble {
        share: random.random_range(0.0..0.45),
        // A set-up that fails ends the run before anything is at stake: mostly it goes well.
        spared: ["audiences", "folders", "jobs"].into_iter().filter(|_| random.random_bool(0.8)).collect(),
        random: StdRng::seed_from_u64(random.random()),
    };
    let diary = Arc::clone(diary);
    FaultScript::from_fn(move |request| {
        let fault = trouble.choose(request);
        if let Some(fault) = &fault {
            let noted = format!("#{} {} {}: {fault:?}", request.number, request.method, place(request.path));
            diary.lock().expect("nothing panics while it is held").push(noted);
        }
        fault
    })
}

/// Lets all pass but marked rows.
pub(crate) fn poison_only() -> FaultScript {
    FaultScript::from_fn(|request| holds_poison(request).then_some(Fault::RefuseRows { status: 422 }))
}

fn holds_poison(request: &SeenRequest<'_>) -> bool {
    request.path.contains("upsert") && request.holds(POISON)
}

/// The end of a path, which tells what a request is for.
fn place(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    path.rsplit_once("/rows/").map_or(path, |(_, end)| end)
}

struct Trouble {
    share: f64,
    spared: Vec<&'static str>,
    random: StdRng,
}

impl Trouble {
    fn choose(&mut self, request: &SeenRequest<'_>) -> Option<Fault> {
        if holds_poison(request) {
            let in_part = Fault::RefuseInPart { status: 400, mark: Some(POISON.to_owned()) };
            return Some(if self.random.random_bool(0.5) { in_part } else { Fault::RefuseRows { status: 422 } });
        }
        if request.path.contains("actions/search") && self.random.random_bool(SEARCH_SHARE) {
            return SEARCHES.choose(&mut self.random).cloned();
        }
        if request.creates_rows() && self.random.random_bool(RECREATED_SHARE) {
            return Some(RECREATED);
        }
        let is_about_rows = request.path.contains("rows/");
        let is_spared = !is_about_rows && self.spared.iter().any(|part| request.path.contains(part));
        if is_spared || !self.random.random_bool(self.share) {
            return None;
        }
        if is_about_rows && self.random.random_bool(0.5) {
            return rows_trouble(request).choose(&mut self.random).map(|fault| (*fault).clone());
        }
        let with_a_token = WITH_A_TOKEN.iter().filter(|_| !request.path.contains("oauth"));
        let kinds: Vec<&Fault> = ANYWHERE.iter().chain(with_a_token).collect();
        kinds.choose(&mut self.random).map(|fault| (*fault).clone())
    }
}

fn rows_trouble(request: &SeenRequest<'_>) -> Vec<&'static Fault> {
    if request.path.contains("actions/search") {
        return TOLD_ROWS.iter().collect();
    }
    if request.path.contains("upsert") {
        let repeatable = REPEATABLE.iter().cycle().take(if request.creates_rows() { 0 } else { TOLD_ROWS.len() });
        return TOLD_ROWS.iter().chain(&UPSERTS).chain(repeatable).collect();
    }
    REPEATABLE.iter().collect()
}
