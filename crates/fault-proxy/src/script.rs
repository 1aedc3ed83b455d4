//! Which fault befalls which request.

use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fault::Fault;
use crate::rows;

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

impl SeenRequest<'_> {
    /// Whether this request writes a row that has no id yet.
    pub fn creates_rows(&self) -> bool {
        rows::is_upsert(self.path) && rows::creates_rows(self.body)
    }

    /// Whether the body holds this text.
    pub fn holds(&self, text: &str) -> bool {
        !text.is_empty() && self.body.windows(text.len()).any(|part| part == text.as_bytes())
    }
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

    pub(crate) fn choose(&mut self, request: &SeenRequest<'_>) -> Option<Fault> {
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
