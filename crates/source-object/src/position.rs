//! What the source remembers between runs: the objects whose records are settled.

use std::collections::{BTreeMap, HashSet};

use convoke_core::source::{SourcePosition, SplitOutcome, SplitResult};
use convoke_core::{Origin, SourceError};
use serde::{Deserialize, Serialize};

use crate::listed::{ListedObject, Pin};

/// Settled objects, told by name, fingerprint and size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// What all names begin with.
    root: String,
    objects: BTreeMap<String, (String, u64)>,
}

impl Position {
    pub(crate) fn empty(root: &str) -> Self {
        Self { root: root.to_owned(), objects: BTreeMap::new() }
    }

    /// Reads a position, and brings its names under the root that the source has now.
    pub(crate) fn parse(stored: &SourcePosition, root: &str) -> Result<Self, SourceError> {
        let position: Self = serde_json::from_value(stored.0.clone()).map_err(|error| {
            let message = "the stored position is not that of an object store; \
                           if the sync had another source before, give the sync a new name";
            SourceError::new(Origin::User, message).caused_by(error)
        })?;
        if position.root == root {
            return Ok(position);
        }
        let moved = position.objects.into_iter().filter_map(|(name, object)| {
            let url = format!("{}{name}", position.root);
            url.strip_prefix(root).map(|name| (name.to_owned(), object))
        });
        Ok(Self { root: root.to_owned(), objects: moved.collect() })
    }

    /// Whether this object is settled as it is.
    pub(crate) fn holds(&self, object: &ListedObject) -> bool {
        self.objects.get(&object.name).is_some_and(|settled| *settled == identity(&object.pin))
    }

    /// Whether these objects, and no others, are settled as they are.
    pub(crate) fn is_exactly(&self, objects: &[ListedObject]) -> bool {
        objects.len() == self.objects.len() && objects.iter().all(|object| self.holds(object))
    }

    /// The position after a snapshot of these splits. One that is broken is to be met again, so it is not settled.
    pub(crate) fn of_snapshot(root: &str, outcomes: &[SplitOutcome]) -> Self {
        let read = outcomes.iter().filter(|outcome| matches!(outcome.result, SplitResult::Read { .. }));
        Self::empty(root).with(read)
    }

    /// The position after these additions. One that is broken is settled too: it is not read again until it is replaced.
    /// What `listed` no longer has is forgotten.
    pub(crate) fn after_additions(self, outcomes: &[SplitOutcome], listed: Option<&HashSet<String>>) -> Self {
        let mut position = self.with(outcomes);
        if let Some(listed) = listed {
            position.objects.retain(|name, _| listed.contains(name));
        }
        position
    }

    fn with<'o>(mut self, outcomes: impl IntoIterator<Item = &'o SplitOutcome>) -> Self {
        for outcome in outcomes {
            let Ok(pin) = Pin::of(&outcome.split) else { continue };
            self.objects.insert(outcome.split.name.clone(), identity(&pin));
        }
        self
    }

    pub(crate) fn store(&self) -> SourcePosition {
        SourcePosition(serde_json::json!(self))
    }
}

fn identity(pin: &Pin) -> (String, u64) {
    (pin.fingerprint(), pin.size)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use object_store::{ObjectMeta, path::Path};

    use super::*;

    fn object(name: &str, e_tag: &str) -> ListedObject {
        let meta = ObjectMeta {
            location: Path::from(format!("in/{name}")),
            last_modified: DateTime::UNIX_EPOCH,
            size: 7,
            e_tag: Some(format!("\"{e_tag}\"")),
            version: None,
        };
        ListedObject::new(name, meta)
    }

    fn outcome(name: &str, e_tag: &str, is_read: bool) -> SplitOutcome {
        let result = match is_read {
            true => SplitResult::Read { fingerprint: e_tag.to_owned(), records: 1 },
            false => SplitResult::Broken { reason: "torn".to_owned() },
        };
        SplitOutcome { split: object(name, e_tag).split(), result }
    }

    #[test]
    fn a_snapshot_settles_what_was_read_and_nothing_else() {
        let position = Position::of_snapshot("s3://b/in/", &[outcome("a", "1", true), outcome("b", "1", false)]);
        assert!(position.is_exactly(&[object("a", "1")]));
        assert!(!position.is_exactly(&[object("a", "2")]));
        assert!(!position.is_exactly(&[object("a", "1"), object("b", "1")]));
        assert!(!position.is_exactly(&[]));
    }

    #[test]
    fn additions_settle_broken_objects_too_and_forget_what_is_gone() {
        let before = Position::empty("s3://b/in/").with(&[outcome("gone", "1", true), outcome("a", "1", true)]);
        let listed = HashSet::from(["a".to_owned(), "b".to_owned()]);
        let after = before.clone().after_additions(&[outcome("a", "2", true), outcome("b", "1", false)], Some(&listed));
        assert!(after.is_exactly(&[object("a", "2"), object("b", "1")]));
        assert!(before.after_additions(&[], None).holds(&object("gone", "1")));
    }

    #[test]
    fn a_position_is_compact_and_follows_a_url_that_was_widened() {
        let position = Position::of_snapshot("s3://b/in/", &[outcome("x/a", "1", true)]);
        let stored = position.store();
        assert_eq!(stored.0.to_string(), r#"{"root":"s3://b/in/","objects":{"x/a":["1",7]}}"#);
        assert_eq!(Position::parse(&stored, "s3://b/in/").unwrap(), position);
        assert!(Position::parse(&stored, "s3://b/in/x/").unwrap().holds(&object("a", "1")));
        assert!(Position::parse(&stored, "s3://b/").unwrap().holds(&object("in/x/a", "1")));
        assert!(Position::parse(&stored, "s3://other/in/").unwrap().is_exactly(&[]));
    }

    #[test]
    fn the_position_of_another_source_is_refused() {
        let error = Position::parse(&SourcePosition(serde_json::json!({ "files": [] })), "s3://b/").unwrap_err();
        assert!(error.to_string().contains("give the sync a new name"), "{error}");
    }
}
