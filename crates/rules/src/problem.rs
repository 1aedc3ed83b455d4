//! What is wrong with a rule, and where.

use std::fmt;

use thiserror::Error;

/// One thing wrong with a rule. Holds column names and operators, never a value from a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// Keys and indices from the rule's root, for example `["all", "0", "column"]`.
    pub path: Vec<String>,
    pub message: String,
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "`{}`: {}", self.path.join("."), self.message)
    }
}

/// Why a rule cannot be compiled: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the rule does not fit its columns: {}", join(problems))]
pub struct RuleError {
    pub problems: Vec<RuleProblem>,
}

fn join(problems: &[RuleProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
