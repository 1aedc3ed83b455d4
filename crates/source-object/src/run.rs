//! What a discovery leaves for the rest of a run.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Fields;
use convoke_core::source::SourceSchema;
use convoke_objects::{ListedObject, Pin};

use crate::drift::KnownColumn;
use crate::footer::Tail;
use crate::position::Mark;

/// Ends of objects that are kept for those who read the footers again: about a thousand.
const KEPT_TAIL_BYTES: usize = 64 << 20;

#[derive(Default)]
pub(crate) struct Run {
    /// What is to be read; none before a discovery, and where it found nothing.
    pub(crate) chosen: Option<Arc<Vec<ListedObject>>>,
    /// Whether they are what a backfill asked for.
    pub(crate) is_selection: bool,
    /// The columns that were known before.
    pub(crate) known: Option<Vec<KnownColumn>>,
    pub(crate) schema: Option<SourceSchema>,
    /// Of what was settled before, what was listed as it was.
    pub(crate) kept: Option<Vec<Mark>>,
    tails: HashMap<String, (Pin, Tail)>,
    tail_bytes: usize,
    /// The columns of objects that are read as streams.
    fields: HashMap<String, (Pin, Fields)>,
}

impl Run {
    /// After a discovery that found these objects.
    pub(crate) fn over(objects: Vec<ListedObject>, known: Option<Vec<KnownColumn>>) -> Self {
        Self { chosen: Some(Arc::new(objects)), known, ..Self::default() }
    }

    pub(crate) fn keep_tail(&mut self, pin: &Pin, tail: Tail) {
        if self.tail_bytes + tail.bytes.len() <= KEPT_TAIL_BYTES {
            self.tail_bytes += tail.bytes.len();
            if let Some((_, before)) = self.tails.insert(pin.key.clone(), (pin.clone(), tail)) {
                self.tail_bytes -= before.bytes.len();
            }
        }
    }

    pub(crate) fn take_tail(&mut self, pin: &Pin) -> Option<Tail> {
        let (kept, tail) = self.tails.remove(&pin.key)?;
        self.tail_bytes -= tail.bytes.len();
        (kept == *pin).then_some(tail)
    }

    pub(crate) fn keep_fields(&mut self, pin: &Pin, fields: Fields) {
        self.fields.insert(pin.key.clone(), (pin.clone(), fields));
    }

    pub(crate) fn fields_of(&self, pin: &Pin) -> Option<Fields> {
        let (kept, fields) = self.fields.get(&pin.key)?;
        (kept == pin).then(|| fields.clone())
    }
}
