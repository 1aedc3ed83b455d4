//! Where items go, and the account of what could not be carried.

use std::ops::ControlFlow;

use convoke_core::source::{MalformedRecord, SourceBatch, SplitItem};

use crate::input::InputError;

/// Malformed records that are named in the reason of a broken file.
const NAMED_MALFORMED: usize = 3;

/// Why reading stopped before the end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody listens any more.
    Unheard,
    Input(InputError),
    /// The file cannot be used, with the reason.
    Broken(String),
}

/// Passes items on and counts.
pub(crate) struct Outlet<'a> {
    take: &'a mut dyn FnMut(SplitItem) -> ControlFlow<()>,
    records: u64,
    malformed: u64,
    first_malformed: Vec<MalformedRecord>,
}

impl<'a> Outlet<'a> {
    pub(crate) fn new(take: &'a mut dyn FnMut(SplitItem) -> ControlFlow<()>) -> Self {
        Self { take, records: 0, malformed: 0, first_malformed: Vec::new() }
    }

    pub(crate) fn batch(&mut self, batch: SourceBatch) -> Result<(), Stop> {
        self.records += batch.positions.len() as u64;
        self.item(SplitItem::Records(batch))
    }

    pub(crate) fn malformed(&mut self, position: u64, reason: String) -> Result<(), Stop> {
        self.records += 1;
        self.malformed += 1;
        let record = MalformedRecord { position, reason };
        if self.first_malformed.len() < NAMED_MALFORMED {
            self.first_malformed.push(record.clone());
        }
        self.item(SplitItem::Malformed(record))
    }

    /// Passes the last item on.
    pub(crate) fn end(&mut self, item: SplitItem) {
        // Whoever does not listen needs no end.
        let _ = self.item(item);
    }

    /// Refuses a file with a larger share of malformed records than is allowed.
    pub(crate) fn check(&self, max_malformed: f64) -> Result<(), Stop> {
        if self.malformed as f64 <= max_malformed * self.records as f64 {
            return Ok(());
        }
        let named = self.first_malformed.iter().map(|record| format!("line {}: {}", record.position, record.reason));
        Err(Stop::Broken(format!(
            "{} of {} records are malformed, more than `max_malformed` allows; first: {}",
            self.malformed,
            self.records,
            named.collect::<Vec<_>>().join("; ")
        )))
    }

    fn item(&mut self, item: SplitItem) -> Result<(), Stop> {
        match (self.take)(item) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Unheard),
        }
    }
}
