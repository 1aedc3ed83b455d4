//! What the source says, day by day.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use convoke_core::{ContentHash, KeyHash};
use convoke_testkit::fake_sink::POISON;
use rand::Rng;
use rand::rngs::StdRng;

/// A record of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// Whether the destination refuses it.
    pub(crate) is_poison: bool,
}

impl Record {
    pub(crate) fn text(&self, key: u32) -> String {
        let mark = if self.is_poison { POISON } else { "good" };
        format!("{mark}-{key}-{}", self.version)
    }
}

pub(crate) type Source = BTreeMap<u32, Record>;

pub(crate) fn key_hash(key: u32) -> KeyHash {
    let mut bytes = [0x5a; 16];
    bytes[..4].copy_from_slice(&key.to_be_bytes());
    KeyHash(bytes)
}

pub(crate) fn content_hash(key: u32, record: &Record) -> ContentHash {
    let mut hasher = DefaultHasher::new();
    record.text(key).hash(&mut hasher);
    let half = hasher.finish().to_be_bytes();
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&half);
    ContentHash(bytes)
}

/// What the source says on the next day: some records are new, some changed, some gone.
pub(crate) fn next_day(source: &mut Source, keys: u32, version: u32, random: &mut StdRng) {
    for key in 0..keys {
        let is_poison = random.random_bool(0.04);
        let chance = random.random_range(0..10);
        match (source.contains_key(&key), chance) {
            (false, 0..=6) | (true, 0..=3) => {
                source.insert(key, Record { version, is_poison });
            }
            (true, 4) => {
                source.remove(&key);
            }
            _ => {}
        }
    }
}
