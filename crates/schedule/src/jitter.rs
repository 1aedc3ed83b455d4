//! Spreads runs that are due at one time.

use std::time::Duration;

use convoke_core::Timestamp;

/// A delay of up to some length after each time of a schedule.
///
/// It follows from the name and the time alone, so whoever asks about the same run gets the same answer: replicas agree,
/// and a restart starts nothing earlier or later. Runs of one name are spread from time to time, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jitter {
    name: String,
    up_to: Duration,
}

impl Jitter {
    /// Delays of less than or as long as `up_to`, for runs of this name; to the millisecond.
    pub fn new(name: impl Into<String>, up_to: Duration) -> Self {
        Self { name: name.into(), up_to }
    }

    /// When the run of this time starts.
    pub fn start_of(&self, time: Timestamp) -> Timestamp {
        let up_to = u64::try_from(self.up_to.as_millis()).unwrap_or(u64::MAX);
        if up_to == 0 {
            return time;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.name.as_bytes()).update(&time.0.to_le_bytes());
        let mut random = [0; 8];
        hasher.finalize_xof().fill(&mut random);
        let delay = u64::from_le_bytes(random) % up_to.saturating_add(1);
        time.after(Duration::from_millis(delay))
    }
}
