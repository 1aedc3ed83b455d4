//! Reads from the journal what earlier processes settled of a plan.

use convoke_core::state::StateStore;
use convoke_core::{PlanId, StateError};

use crate::protocol::Resume;

/// Entries per read: about two megabytes of rows.
const ENTRIES_PER_PAGE: u32 = 64;

pub(super) async fn load(state: &dyn StateStore, plan: PlanId) -> Result<Resume, StateError> {
    let mut resume = Resume::default();
    let mut after = None;
    loop {
        let page = state.entries_of(plan, after, ENTRIES_PER_PAGE).await?;
        let Some(last) = page.last() else { return Ok(resume) };
        after = Some(last.id);
        page.into_iter().for_each(|entry| resume.add(entry));
    }
}
