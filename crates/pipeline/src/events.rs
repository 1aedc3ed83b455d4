//! What a run tells while it goes on, for progress bars, plain lines and logs.

use std::time::Duration;

use convoke_core::plan::{DeliveryCounts, PlanCounts, PlanManifest};
use convoke_core::{PlanId, Timestamp};
use convoke_delivery::Guarantee;

/// Something that happened in a run. Holds no values of records.
#[derive(Clone, Debug)]
pub enum Event {
    /// Requests are in doubt, mostly of an earlier run; they are settled before anything else.
    Recovering { open_entries: u64, until: Timestamp },
    /// What was in doubt is settled.
    Recovered { settled_rows: u64 },
    /// A plan that was left half applied goes on.
    Resuming { plan: PlanId },
    /// A plan that was left half applied is given up, with the reason and how many of its changes that cancels.
    Abandoned { plan: PlanId, reason: String, cancelled: u64 },
    /// The next window of a backfill begins.
    Window { number: u32, of: u32 },
    /// Something the operator should know.
    Notice { text: String },
    /// The source is not settled yet; it is looked at again then.
    Settling { what: String, wait: Duration },
    /// A split is being read. How far all of them are: of how many bytes, where known.
    Reading { split: String, bytes_total: Option<u64>, bytes_read: u64, records: u64 },
    /// Reading is done; changes are being worked out.
    Comparing { records: u64 },
    /// The plan is ready.
    Planned { manifest: Box<PlanManifest>, hash: String },
    /// Something is being made at the destination before the first row.
    SettingUp { what: String },
    /// Requests of earlier runs may still commit until then.
    WaitingForQuiet { until: Timestamp },
    /// Delivery begins; this is what is promised about it.
    Guaranteed { guarantee: Guarantee },
    /// Changes settled so far, of how many.
    Delivering { settled: u64, total: u64 },
    /// Rows in doubt are looked up.
    ReadingBack { rows: u64 },
    /// Delivery is over.
    Delivered { counts: DeliveryCounts },
    /// Nothing changed.
    Unchanged { counts: PlanCounts },
}

/// Learns of events; must not block.
pub trait Reporter: Send + Sync {
    fn report(&self, event: Event);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _event: Event) {}
}
