//! A strict rate limit: no more than so many requests in any second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::Message;

const SECOND: Duration = Duration::from_secs(1);

/// Counts the requests that were let through within the second before.
#[derive(Debug)]
pub(crate) struct Throttle {
    per_second: usize,
    passed_at: VecDeque<Instant>,
}

impl Throttle {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: usize::try_from(per_second).unwrap_or(usize::MAX), passed_at: VecDeque::new() }
    }

    /// Counts one request, or refuses it. A refused one spends nothing.
    pub(crate) fn takes(&mut self) -> bool {
        self.forget_old();
        let takes = self.passed_at.len() < self.per_second;
        if takes {
            self.passed_at.push_back(Instant::now());
        }
        takes
    }

    /// What a refused request is answered.
    pub(crate) fn refusal(&mut self) -> Message {
        let mut answer = Message::error_answer(429);
        answer.set_header("retry-after", "1");
        answer.set_header("x-ratelimit-rejected-bucket", "second");
        self.announce(&mut answer);
        answer
    }

    /// Adds the vendor's headers to an answer.
    pub(crate) fn announce(&mut self, answer: &mut Message) {
        self.forget_old();
        let left = self.per_second.saturating_sub(self.passed_at.len());
        answer.set_header("x-ratelimit-limit-second", &self.per_second.to_string());
        answer.set_header("x-ratelimit-remaining-second", &left.to_string());
    }

    fn forget_old(&mut self) {
        while self.passed_at.front().is_some_and(|passed_at| passed_at.elapsed() >= SECOND) {
            self.passed_at.pop_front();
        }
    }
}
