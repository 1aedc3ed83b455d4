//! What is promised about the rows of an audience, and what for: it follows from what the destination can do.
//!
//! The whole of it, with the cases that remain, is in `GUARANTEES.md` beside this crate.

use std::fmt;
use std::time::Duration;

use convoke_core::sink::{Capabilities, KeyLookUp};

/// What is promised of creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// No key gets two rows, and none is left out: what is unclear is looked up.
    OnceEach,
    /// No key gets two rows; a row whose request got no clear answer may be missing until somebody looks.
    AtMostOnce,
    /// Rows are not created: they could not be looked up, and nobody has consented to that.
    NoCreates,
}

/// A promise and its assumptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantee {
    pub promise: Promise,
    /// A request takes effect within this time after it was sent, or never.
    pub max_commit_delay: Duration,
    /// A row that exists is found by search within this time.
    pub settle: Duration,
    /// Whether a refused request is known to have applied nothing. If not, it is read back like a lost one.
    pub atomic_refusals: bool,
}

impl Guarantee {
    /// Of one audience: `key_look_up` tells whether its key column can be searched.
    pub fn of(capabilities: &Capabilities, key_look_up: Option<KeyLookUp>, allow_blind_creates: bool) -> Self {
        let promise = match (key_look_up, allow_blind_creates) {
            (Some(_), _) => Promise::OnceEach,
            (None, true) => Promise::AtMostOnce,
            (None, false) => Promise::NoCreates,
        };
        let Capabilities { max_commit_delay, settle, atomic_refusals, .. } = *capabilities;
        Self { promise, max_commit_delay, settle, atomic_refusals }
    }
}

/// One sentence, for the start of a delivery.
impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (delay, settle) = (seconds(self.max_commit_delay), seconds(self.settle));
        match self.promise {
            Promise::OnceEach => write!(
                f,
                "no key gets two rows and none is left out, as long as a request takes effect within {delay} s or never, and a row is found by search within {settle} s after that"
            )?,
            Promise::AtMostOnce => write!(
                f,
                "no key gets two rows, but a create without a clear answer stays in doubt: the key column of this audience cannot be searched"
            )?,
            Promise::NoCreates => write!(
                f,
                "no row is created: the key column of this audience cannot be searched, so an unclear answer could not be cleared up; `allow_blind_creates` consents to rows that stay in doubt"
            )?,
        }
        if self.atomic_refusals {
            write!(f, "; a refused request is taken to have applied nothing")?;
        }
        Ok(())
    }
}

/// Whole seconds, or with as many digits as there are.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(atomic_refusals: bool) -> Capabilities {
        Capabilities {
            upsert_rows: 500,
            delete_rows: 1000,
            look_up_ids: 500,
            atomic_refusals,
            max_commit_delay: Duration::from_secs(300),
            settle: Duration::from_millis(2_500),
            request_timeout: Duration::from_secs(60),
            requests_in_flight: 4,
            enrich_rows: None,
        }
    }

    #[test]
    fn a_key_column_that_can_be_searched_gives_the_whole_promise_with_both_of_its_times() {
        let look_up = KeyLookUp { values_per_request: 100, by_prefix: false };
        let text = Guarantee::of(&capabilities(false), Some(look_up), false).to_string();
        assert!(text.starts_with("no key gets two rows and none is left out"), "{text}");
        assert!(text.contains("within 300 s or never") && text.ends_with("within 2.5 s after that"), "{text}");
    }

    #[test]
    fn without_a_search_the_promise_drops_and_creates_need_consent() {
        let promise = |consent| Guarantee::of(&capabilities(true), None, consent).promise;
        assert_eq!((promise(false), promise(true)), (Promise::NoCreates, Promise::AtMostOnce));
    }

    #[test]
    fn that_refusals_are_taken_to_be_atomic_is_said() {
        let look_up = Some(KeyLookUp { values_per_request: 100, by_prefix: true });
        let text = |atomic| Guarantee::of(&capabilities(atomic), look_up, false).to_string();
        assert!(text(true).contains("applied nothing") && !text(false).contains("applied nothing"));
    }
}
