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
    } else if name.contains('\0') {
        NUL.to_owned()
    } else {
        return;
    };
    problems.push(Problem::new(Place::Pointer(pointer()), ProblemKind::Value, detail));
}

const NUL: &str = "a text must not contain the character U+0000";

/// The longest description or notes; the vendor publishes none.
const MAX_TEXT_CHARS: usize = 32_000;

/// Checks the free texts of a folder or an audience.
pub(crate) fn check_texts(description: Option<&String>, notes: Option<&String>, problems: &mut Vec<Problem>) {
    for (name, text) in [("description", description), ("notes", notes)] {
        let detail = match text {
            Some(text) if text.contains('\0') => NUL.to_owned(),
            Some(text) if text.len() > MAX_TEXT_CHARS && text.chars().count() > MAX_TEXT_CHARS => {
                format!("`{name}` must have at most {MAX_TEXT_CHARS} characters")
            }
            _ => continue,
        };
        problems.push(Problem::new(Place::Pointer(format!("/data/attributes/{name}")), ProblemKind::Value, detail));
    }
}

/// Returns a new id for a folder, an audience, a column or a job.
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
