//! Decodes `after`.

use convoke_core::spec::{AfterRun, EnrichedRows, SyncMode};

use crate::field::Field;
use crate::report::Report;

const ENRICHED_ROWS: &[(&str, EnrichedRows)] = &[("changed", EnrichedRows::Changed), ("all", EnrichedRows::All)];

/// The outer `Option` tells a problem, the inner one that nothing happens.
#[expect(clippy::option_option, reason = "what is left out is no problem")]
pub(super) fn decode(after: &Field<'_>, mode: Option<SyncMode>, report: &mut Report) -> Option<Option<AfterRun>> {
    if after.given().is_none() {
        return Some(None);
    }
    if mode == Some(SyncMode::DeleteList) {
        let message = "`mode: delete_list` leaves no row to enrich; leave it out";
        report.problem(after.place, &after.path, message);
    }
    let enrich = after.field("enrich").choice(ENRICHED_ROWS)?;
    Some(Some(AfterRun { enrich, wait: after.field("wait").duration()? }))
}
