//! What is known of earlier refusals when a plan is computed, in hashes only.

use std::collections::HashMap;

use convoke_core::{ContentHash, KeyHash};

/// Keys of records that were refused and are not settled since, and the content that is held back for each.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    held: HashMap<KeyHash, Option<ContentHash>>,
}

impl Refusals {
    /// Adds a key; with `held`, a record of it with just this content is not sent again. Of several, one that holds back
    /// counts.
    pub fn add(&mut self, key: KeyHash, held: Option<ContentHash>) {
        let known = self.held.entry(key).or_default();
        *known = held.or(*known);
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What is held back of a key that was refused; none if it was not.
    pub(crate) fn of(&self, key: KeyHash) -> Option<Option<ContentHash>> {
        // Most plans know of none.
        if self.held.is_empty() { None } else { self.held.get(&key).copied() }
    }
}

/// What a plan makes of the records that were refused before. A key that is not named has no valid record in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalFates {
    /// Not sent, because this content was refused for long enough.
    pub held: Vec<KeyHash>,
    /// Created or updated by the plan.
    pub sent: Vec<KeyHash>,
    /// Neither: the record is in the row already, or must not be in it.
    pub settled: Vec<KeyHash>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_refused_for_several_reasons_is_held_back_if_one_of_them_holds_it() {
        let (one, other) = (KeyHash([1; 16]), KeyHash([2; 16]));
        let content = ContentHash([7; 16]);
        let mut refusals = Refusals::default();
        for held in [None, Some(content), None] {
            refusals.add(one, held);
        }
        refusals.add(other, None);
        assert_eq!((refusals.of(one), refusals.of(other)), (Some(Some(content)), Some(None)));
        assert_eq!(refusals.of(KeyHash([3; 16])), None);
    }
}
