//! The life of a reject: noted, repeated by later plans or held back, and closed once its record is settled.
//!
//! A reject is open from its first refusal until a plan settles its record in another way: it was accepted, it left the
//! source, or it says something else. While it is open each plan sends the record again, until it is older than
//! `rejects.resend_for`; from then on the record is held back until its content changes or somebody asks for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hash::{ContentHash, KeyHash};
use crate::ids::RunId;
use crate::state::RejectRecord;
use crate::time::Timestamp;

/// Number of a reject in its store; a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RejectId(pub u64);

/// What has become of a reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectState {
    /// Nothing has settled its record since.
    Open,
    /// A later plan was refused the same record for the same reason; that reject stands for it now.
    Repeated,
    /// Its record was accepted, left the source, or says something else.
    Closed,
}

impl RejectState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::Repeated, Self::Closed];

    /// The name under which it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Repeated => "repeated",
            Self::Closed => "closed",
        }
    }

    /// Reads the name that `as_str` gives.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A reject as its store keeps it. Personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedReject {
    pub id: RejectId,
    pub record: RejectRecord,
    /// Plans, this one included, that were refused this content for this reason.
    pub attempts: u32,
    /// When this content was refused first; [`RejectRecord::at`] is when it was last.
    pub first_at: Timestamp,
    pub state: RejectState,
}

/// An open reject of a record with a key, in hashes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReject {
    pub id: RejectId,
    pub key: KeyHash,
    /// What the destination refused; none of a record that was refused while planning.
    pub content: Option<ContentHash>,
    /// The run that noted it.
    pub run: RunId,
    pub first_at: Timestamp,
}

/// Which open rejects a plan leaves as they are, because it neither sends nor settles their records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptRejects {
    /// Those with these keys.
    Only(Vec<KeyHash>),
    /// All but those with these keys.
    AllBut(Vec<KeyHash>),
}

/// Whether content that was first refused then is no longer sent again by itself.
pub fn is_past_resending(first_at: Timestamp, now: Timestamp, resend_for: Duration) -> bool {
    now.since(first_at) >= resend_for
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_sent_again_until_it_is_as_old_as_the_limit() {
        let is_past = |now, limit| is_past_resending(Timestamp(1_000), Timestamp(now), Duration::from_millis(limit));
        assert!(!is_past(1_499, 500));
        assert!(is_past(1_500, 500));
        assert!(is_past(1_000, 0), "without a limit nothing is sent again");
        assert!(!is_past(0, 500), "a clock that was set back makes nothing old");
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        assert!(RejectState::ALL.iter().all(|state| RejectState::parse(state.as_str()) == Some(*state)));
        assert_eq!(RejectState::parse("lost"), None);
    }
}
