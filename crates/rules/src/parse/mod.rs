//! The two spellings of a rule that this program reads.
//!
//! Parsing knows no columns: whether operators fit is told by [`validate`](crate::validate()).

mod gtm;
mod yaml;

pub use gtm::gtm;
pub use yaml::yaml;

use serde_json::Value;

use crate::RuleProblem;

/// Below this likeness (0 to 1) a suggestion would puzzle more than help.
const LEAST_LIKENESS: f64 = 0.5;

/// The known name that is most like an unknown one.
pub(crate) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    known
        .map(|name| (strsim::normalized_damerau_levenshtein(&unknown, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

fn hint<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(unknown, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Collects problems with the path at which each was met.
#[derive(Default)]
struct Problems {
    path: Vec<String>,
    found: Vec<RuleProblem>,
}

impl Problems {
    fn push(&mut self, message: impl Into<String>) {
        self.found.push(RuleProblem { path: self.path.clone(), message: message.into() });
    }

    /// Runs `step` with `key` at the end of the path.
    fn within<T>(&mut self, key: impl Into<String>, step: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.into());
        let result = step(self);
        self.path.pop();
        result
    }

    fn finish<T>(self, parsed: Option<T>) -> Result<T, Vec<RuleProblem>> {
        match parsed {
            Some(parsed) if self.found.is_empty() => Ok(parsed),
            _ => Err(self.found),
        }
    }
}

/// How a JSON value is called in messages, without showing it.
fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
