//! Where items go, and the account of what could not be carried.

use std::ops::ControlFlow;

use convoke_core::source::{MalformedRecord, SourceBatch, SplitItem};

use crate::input::InputError;

/// Malformed records that are named in the reason of a broken file.
const NAMED_MALFORMED: usize = 3;

/// From so many malformed records on, a share that is too large is told before the end of the file: they would all be
/// passed on for nothing, and may be as many as there are lines.
const MANY_MALFORMED: u64 = 100_000;

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
    /// The share of malformed records, 0 to 1, above which a file is broken.
    max_malformed: f64,
    records: u64,
    malformed: u64,
    first_malformed: Vec<MalformedRecord>,
}

impl<'a> Outlet<'a> {
    pub(crate) fn new(max_malformed: f64, take: &'a mut dyn FnMut(SplitItem) -> ControlFlow<()>) -> Self {
        Self { take, max_malformed, records: 0, malformed: 0, first_malformed: Vec::new() }
    }

    pub(crate) fn batch(&mut self, batch: SourceBatch) -> Result<(), Stop> {
        self.records += batch.positions.len() as u64;
        self.item(SplitItem::Records(batch))
    }

    /// Tells of a malformed record, unless there are too many already to go on with the file.
    pub(crate) fn malformed(&mut self, position: u64, reason: String) -> Result<(), Stop> {
        self.records += 1;
        self.malformed += 1;
        let record = MalformedRecord { position, reason };
        if self.first_malformed.len() < NAMED_MALFORMED {
            self.first_malformed.push(record.clone());
        }
        // Where none is allowed, one decides.
        if self.max_malformed <= 0.0 || self.malformed >= MANY_MALFORMED {
            self.check("read so far ")?;
        }
        self.item(SplitItem::Malformed(record))
    }

    /// Passes the last item on.
    pub(crate) fn end(&mut self, item: SplitItem) {
        // Whoever does not listen needs no end.
        let _ = self.item(item);
    }

    /// Refuses a file with a larger share of malformed records than is allowed.
    pub(crate) fn check_all(&self) -> Result<(), Stop> {
        self.check("")
    }

    fn check(&self, which: &str) -> Result<(), Stop> {
        if self.malformed as f64 <= self.max_malformed * self.records as f64 {
            return Ok(());
        }
        let named = self.first_malformed.iter().map(|record| format!("line {}: {}", record.position, record.reason));
        Err(Stop::Broken(format!(
            "{} of {} records {which}are malformed, more than `max_malformed` allows; first: {}",
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
