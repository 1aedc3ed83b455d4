//! What a discovery leaves for the rest of a run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::Fields;
use convoke_objects::{ListedObject, Pin};

use crate::describing::Described;
use crate::drift::KnownColumn;
use crate::footer::Tail;
use crate::position::Mark;

/// Ends of objects that are kept for those who read the footers again: about a thousand.
const KEPT_TAIL_BYTES: usize = 64 << 20;

/// The end of an object, with the room that it takes. Without, it is to be let go of once the footer was asked for.
pub(crate) struct KeptTail {
    pub(crate) tail: Tail,
    pub(crate) room: Option<Room>,
}

/// Given back when it is dropped.
pub(crate) struct Room {
    kept_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.kept_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub(crate) struct Run {
    /// What is to be read; none before a discovery, and where it found nothing.
    pub(crate) chosen: Option<Arc<Vec<ListedObject>>>,
    /// Whether they are what a backfill asked for.
    pub(crate) is_selection: bool,
    /// The columns that were known before.
    pub(crate) known: Option<Vec<KnownColumn>>,
    pub(crate) described: Option<Described>,
    /// Of what was settled before, what was listed as it was.
    pub(crate) kept: Option<Vec<Mark>>,
    tails: HashMap<String, (Pin, KeptTail)>,
    kept_bytes: Arc<AtomicUsize>,
    /// The columns of objects that are read as streams.
    fields: HashMap<String, (Pin, Fields)>,
    /// All of them, each once: of many objects most have the same.
    distinct_fields: HashSet<Fields>,
}

impl Run {
    /// After a discovery that found these objects.
    pub(crate) fn over(objects: Vec<ListedObject>, known: Option<Vec<KnownColumn>>) -> Self {
        Self { chosen: Some(Arc::new(objects)), known, ..Self::default() }
    }

    pub(crate) fn keep_tail(&mut self, pin: &Pin, tail: Tail) {
        let kept = self.kept(tail);
        if kept.room.is_some() {
            self.tails.insert(pin.key.clone(), (pin.clone(), kept));
        }
    }

    pub(crate) fn take_tail(&mut self, pin: &Pin) -> Option<KeptTail> {
        let (kept, tail) = self.tails.remove(&pin.key)?;
        (kept == *pin).then_some(tail)
    }

    /// A tail with room for it, if there is any left.
    pub(crate) fn kept(&self, tail: Tail) -> KeptTail {
        let bytes = tail.bytes.len();
        let with = |kept: usize| kept.checked_add(bytes).filter(|kept| *kept <= KEPT_TAIL_BYTES);
        let taken = self.kept_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with);
        let room = taken.is_ok().then(|| Room { kept_bytes: Arc::clone(&self.kept_bytes), bytes });
        KeptTail { tail, room }
    }

    pub(crate) fn keep_fields(&mut self, pin: &Pin, fields: Fields) {
        let known = self.distinct_fields.get(&fields).cloned();
        let fields = known.unwrap_or_else(|| {
            self.distinct_fields.insert(fields.clone());
            fields
        });
        self.fields.insert(pin.key.clone(), (pin.clone(), fields));
    }

    pub(crate) fn fields_of(&self, pin: &Pin) -> Option<Fields> {
        let (kept, fields) = self.fields.get(&pin.key)?;
        (kept == pin).then(|| fields.clone())
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn pin(key: &str) -> Pin {
        Pin { key: key.to_owned(), size: 1, e_tag: None, version: None, modified: None }
    }

    fn tail(bytes: usize) -> Tail {
        Tail { start: 0, bytes: vec![0; bytes].into() }
    }

    #[test]
    fn ends_take_room_as_long_as_anybody_has_them() {
        let mut run = Run::default();
        run.keep_tail(&pin("a"), tail(KEPT_TAIL_BYTES));
        run.keep_tail(&pin("b"), tail(1));
        assert!(run.take_tail(&pin("b")).is_none());
        let taken = run.take_tail(&pin("a")).unwrap();
        assert!(run.kept(tail(1)).room.is_none(), "whoever has taken it has it still");
        drop(taken);
        assert!(run.kept(tail(KEPT_TAIL_BYTES)).room.is_some());
    }

    #[test]
    fn the_columns_of_many_objects_are_kept_once_where_they_are_the_same() {
        let fields = || Fields::from(vec![Field::new("id", DataType::Utf8, true)]);
        let mut run = Run::default();
        for key in ["a", "b"] {
            run.keep_fields(&pin(key), fields());
        }
        let kept = |key: &str| run.fields_of(&pin(key)).unwrap();
        assert_eq!(kept("a"), fields());
        assert!(std::ptr::eq(&*kept("a"), &*kept("b")));
    }
}
