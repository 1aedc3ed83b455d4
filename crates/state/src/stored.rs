//! How facts stand in columns: ids as text, structures as JSON, times as milliseconds.

use convoke_core::ids::{PlanId, RunId};
use convoke_core::{HashKey, StateError};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fault::Fault;

pub(crate) fn to_json<T: Serialize>(value: &T, what: &'static str) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|_| Fault::Unreadable { what })
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, Fault> {
    // The parser's message may quote the text, which may hold personal data.
    serde_json::from_str(text).map_err(|_| Fault::Unreadable { what })
}

pub(crate) fn optional_to_json<T: Serialize>(value: Option<&T>, what: &'static str) -> Result<Option<String>, Fault> {
    value.map(|value| to_json(value, what)).transpose()
}

pub(crate) fn optional_from_json<T: DeserializeOwned>(
    text: Option<String>,
    what: &'static str,
) -> Result<Option<T>, Fault> {
    text.map(|text| from_json(&text, what)).transpose()
}

pub(crate) fn plan_id(text: &str) -> Result<PlanId, Fault> {
    known(PlanId::parse(text), "a plan id")
}

pub(crate) fn run_id(text: &str) -> Result<RunId, Fault> {
    known(RunId::parse(text), "a run id")
}

/// Turns what could not be parsed into a fault.
pub(crate) fn known<T>(parsed: Option<T>, what: &'static str) -> Result<T, Fault> {
    parsed.ok_or(Fault::Unreadable { what })
}

/// Reads a 16-byte hash.
pub(crate) fn hash(bytes: &[u8], what: &'static str) -> Result<[u8; 16], Fault> {
    known(bytes.try_into().ok(), what)
}

/// Reads a number that was stored as one of 32 bits.
pub(crate) fn small(number: i64, what: &'static str) -> Result<u32, Fault> {
    known(u32::try_from(number).ok(), what)
}

/// Draws a new secret hash key from the operating system's randomness.
pub(crate) fn fresh_hash_key() -> Result<[u8; 32], Fault> {
    let mut fresh = [0; 32];
    OsRng.try_fill_bytes(&mut fresh).map_err(|error| {
        StateError::storage("making the hash key failed: the operating system gave no random bytes", error)
    })?;
    Ok(fresh)
}

/// Reads the secret hash key.
pub(crate) fn hash_key(bytes: &[u8]) -> Result<HashKey, Fault> {
    Ok(HashKey::from_bytes(known(bytes.try_into().ok(), "a hash key")?))
}

/// A run that was never started.
pub(crate) fn no_run(id: RunId) -> StateError {
    StateError::Missing { message: format!("run {id} is not in the state; see `convoke runs` for those that are") }
}
