//! One client's view of the store.

use crate::client::Caller;
use crate::database::Store;
use crate::error::{Place, Problem, ProblemKind};

/// What one client owns: every operation on folders, audiences and rows goes through here, so that none can reach
/// what belongs to another client.
#[derive(Clone)]
pub struct Tenant {
    pub(crate) store: Store,
    pub(crate) number: i64,
}

impl Store {
    /// Returns what the caller owns.
    pub fn tenant(&self, caller: &Caller) -> Tenant {
        Tenant { store: self.clone(), number: caller.number }
    }
}

/// The longest name of a folder, audience or column; the vendor publishes none.
const MAX_NAME_CHARS: usize = 255;

/// Checks a display name that stands at `pointer`.
pub(crate) fn check_name(name: &str, pointer: impl FnOnce() -> String, problems: &mut Vec<Problem>) {
    let detail = if name.trim().is_empty() {
        "`name` must not be empty".to_owned()
    } else if name.chars().count() > MAX_NAME_CHARS {
        format!("`name` must have at most {MAX_NAME_CHARS} characters")
    } else {
        return;
    };
    problems.push(Problem::new(Place::Pointer(pointer()), ProblemKind::Value, detail));
}

/// Returns a new id for a folder, an audience, a column or a job.
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
