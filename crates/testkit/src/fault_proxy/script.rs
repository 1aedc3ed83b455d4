//! Which fault befalls which request.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// One thing that can go wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes, nothing is forwarded, and further connections are refused for so long.
    Refuse { lasting: Duration },
    /// The connection closes before the request is forwarded.
    DropRequest,
    /// The request commits and the connection closes without an answer.
    DropAnswer,
    /// The request commits and the client is told this status, usually 500.
    FailAfterCommit { status: u16 },
    /// The request commits at once; the answer comes this much later.
    DelayAnswer { by: Duration },
    /// The connection closes at once; the request is forwarded this much later.
    CommitLate { after: Duration },
    /// The request commits and the answer breaks off in the middle of its body.
    TruncateAnswer,
    /// The request commits and each n-th row is missing from the answer's `data`; 1 leaves out all.
    LeaveOutRows { every: usize },
    /// The request commits and the rows of the answer's `data` come in another order.
    ShuffleRows,
    /// Nothing is forwarded; 429 with `Retry-After` in whole seconds.
    TooManyRequests { retry_after: Duration },
    /// Nothing is forwarded; 401.
    Unauthorized,
    /// Nothing is forwarded; this status, as for a request that the destination refuses as a whole.
    RefuseRequest { status: u16 },
}

impl Fault {
    /// The name under which this fault is counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refuse { .. } => "refuse",
            Self::DropRequest => "drop_request",
            Self::DropAnswer => "drop_answer",
            Self::FailAfterCommit { .. } => "fail_after_commit",
            Self::DelayAnswer { .. } => "delay_answer",
            Self::CommitLate { .. } => "commit_late",
            Self::TruncateAnswer => "truncate_answer",
            Self::LeaveOutRows { .. } => "leave_out_rows",
            Self::ShuffleRows => "shuffle_rows",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::Unauthorized => "unauthorized",
            Self::RefuseRequest { .. } => "refuse_request",
        }
    }

    /// Whether this fault acts on the rows of an answer, and so may find nothing to act on.
    pub(super) fn alters_rows(&self) -> bool {
        matches!(self, Self::LeaveOutRows { .. } | Self::ShuffleRows)
    }

    /// Alters the rows of an answer; false if nothing changed.
    pub(super) fn alter(&self, rows: &mut Vec<Value>, seed: u64) -> bool {
        match self {
            Self::LeaveOutRows { every } => leave_out(rows, (*every).max(1)),
            Self::ShuffleRows => shuffle(rows, seed),
            _ => false,
        }
    }
}

fn leave_out(rows: &mut Vec<Value>, every: usize) -> bool {
    let before = rows.len();
    let mut position = 0;
    rows.retain(|_| {
        position += 1;
        position % every != 0
    });
    rows.len() < before
}

fn shuffle(rows: &mut [Value], seed: u64) -> bool {
    if rows.len() < 2 {
        return false;
    }
    let before = rows.to_vec();
    rows.shuffle(&mut StdRng::seed_from_u64(seed));
    if rows == before {
        rows.rotate_left(1);
    }
    rows != before
}

/// A request as a script sees it.
#[derive(Clone, Copy, Debug)]
pub struct SeenRequest<'a> {
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Number of the request at this proxy, from 1.
    pub number: u64,
    pub body: &'a [u8],
}

type Choose = Box<dyn FnMut(&SeenRequest<'_>) -> Option<Fault> + Send>;

/// Chooses a fault, or none, for each request in the order in which they arrive.
pub struct FaultScript {
    choose: Choose,
}

impl FaultScript {
    /// Lets everything pass.
    pub fn none() -> Self {
        Self::from_fn(|_| None)
    }

    /// Asks a function about each request.
    pub fn from_fn(choose: impl FnMut(&SeenRequest<'_>) -> Option<Fault> + Send + 'static) -> Self {
        Self { choose: Box::new(choose) }
    }

    /// Asks the rules in order; the first that fires gives the fault. A rule counts a request that it matches only
    /// if no rule before it fired.
    pub fn rules(mut rules: Vec<Rule>) -> Self {
        Self::from_fn(move |request| rules.iter_mut().find_map(|rule| rule.fire(request)))
    }

    /// Draws faults at random, the same ones for the same seed and the same order of requests.
    pub fn seeded(seeded: Seeded) -> Self {
        let mut random = StdRng::seed_from_u64(seeded.seed);
        Self::from_fn(move |request| seeded.draw(request, &mut random))
    }

    pub(super) fn choose(&mut self, request: &SeenRequest<'_>) -> Option<Fault> {
        (self.choose)(request)
    }
}

impl fmt::Debug for FaultScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultScript")
    }
}

/// One line of a script: on which requests a fault falls, and how often.
#[derive(Clone, Debug)]
pub struct Rule {
    method: String,
    path_part: String,
    fault: Fault,
    skip: u64,
    times: u64,
}

impl Rule {
    /// The fault falls on each request with this method whose path contains `path_part`.
    pub fn on(method: &str, path_part: &str, fault: Fault) -> Self {
        Self { method: method.to_owned(), path_part: path_part.to_owned(), fault, skip: 0, times: u64::MAX }
    }

    /// Lets the first `count` matching requests pass.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Fires `count` times, then never again.
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// Fires once, then never again.
    pub fn once(self) -> Self {
        self.times(1)
    }

    fn fire(&mut self, request: &SeenRequest<'_>) -> Option<Fault> {
        let matches = request.method == self.method && request.path.contains(&self.path_part);
        if !matches || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault.clone())
    }
}

/// Faults at random, each with its probability, on requests to chosen paths.
#[derive(Clone, Debug)]
pub struct Seeded {
    pub seed: u64,
    /// A request is considered if its path contains one of these.
    pub path_parts: Vec<String>,
    /// Faults with their probabilities, of which the sum is at most 1.
    pub faults: Vec<(Fault, f64)>,
}

impl Seeded {
    fn draw(&self, request: &SeenRequest<'_>, random: &mut StdRng) -> Option<Fault> {
        if !self.path_parts.iter().any(|part| request.path.contains(part.as_str())) {
            return None;
        }
        let mut left: f64 = random.random();
        for (fault, probability) in &self.faults {
            if left < *probability {
                return Some(fault.clone());
            }
            left -= probability;
        }
        None
    }
}
