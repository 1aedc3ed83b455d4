//! What a run of the daemon tells: events with fields, in the log.

use std::sync::Mutex;

use convoke_core::SyncName;
use convoke_pipeline::{Event, Reporter};

/// Writes a run's events to the log; mere progress only now and then.
pub(crate) struct LogReporter {
    sync: SyncName,
    /// Tenths of the delivery that were told.
    tenths: Mutex<u64>,
}

impl LogReporter {
    pub(crate) fn new(sync: SyncName) -> Self {
        Self { sync, tenths: Mutex::new(0) }
    }

    fn delivering(&self, settled: u64, total: u64) {
        let tenth = (settled * 10).checked_div(total).unwrap_or(0);
        let mut told = self.tenths.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tenth > *told {
            *told = tenth;
            tracing::info!(sync = %self.sync, settled, total, "delivering");
        }
    }
}

impl Reporter for LogReporter {
    fn report(&self, event: Event) {
        let sync = &self.sync;
        match event {
            Event::Recovering { open_entries, until } => {
                tracing::warn!(%sync, open_entries, until = %until, "requests are in doubt and will be looked up");
            }
            Event::Recovered { settled_rows } => tracing::info!(%sync, settled_rows, "settled what was in doubt"),
            Event::Resuming { plan } => tracing::info!(%sync, %plan, "going on with an interrupted plan"),
            Event::Abandoned { plan, reason, cancelled } => {
                tracing::warn!(%sync, %plan, reason, cancelled, "gave up the rest of a plan");
            }
            Event::Window { number, of } => tracing::info!(%sync, number, of, "the next window of a backfill"),
            Event::Notice { text } => tracing::info!(%sync, notice = text, "noticed"),
            Event::Settling { what, wait } => {
                tracing::info!(%sync, what, seconds = wait.as_secs_f64(), "waiting for the source to settle");
            }
            Event::Planned { manifest, hash } => {
                let counts = manifest.counts;
                tracing::info!(
                    %sync,
                    plan = %manifest.id,
                    hash,
                    read = counts.read,
                    creates = counts.creates,
                    updates = counts.updates,
                    deletes = counts.deletes,
                    unchanged = counts.unchanged,
                    invalid = counts.invalid,
                    guard_hits = manifest.guard_hits.len(),
                    "planned"
                );
            }
            Event::SettingUp { what } => tracing::info!(%sync, what, "setting up the audience"),
            Event::WaitingForQuiet { until } => {
                tracing::info!(%sync, until = %until, "waiting for requests of an earlier run");
            }
            Event::Guaranteed { guarantee } => tracing::info!(%sync, guarantee = %guarantee, "delivery begins"),
            Event::ReadingBack { rows } => tracing::warn!(%sync, rows, "looking up rows without a clear answer"),
            Event::Delivered { counts } => {
                tracing::info!(
                    %sync,
                    created = counts.creates.acknowledged,
                    updated = counts.updates.acknowledged,
                    deleted = counts.deletes.acknowledged,
                    in_part = counts.failed(),
                    rejected = counts.rejected(),
                    requests = counts.requests,
                    "delivered"
                );
            }
            Event::Unchanged { counts } => tracing::info!(%sync, unchanged = counts.unchanged, "nothing changed"),
            Event::Delivering { settled, total } => self.delivering(settled, total),
            Event::Reading { .. } | Event::Comparing { .. } => {}
        }
    }
}
