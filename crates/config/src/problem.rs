//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// One problem (or warning) at one place. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named on the way in: `config/syncs/booth-scans.yaml`.
    pub file: PathBuf,
    /// Counted from 1; none if the problem is the file itself.
    pub line: Option<usize>,
    /// Counted from 1.
    pub column: Option<usize>,
    /// `source.csv_drop.mode`; empty for the whole file.
    pub key: String,
    /// What is wrong, and the remedy after a semicolon.
    pub message: String,
}

impl fmt::Display for Problem {
    /// Prints ``config/syncs/x.yaml:12: `source.csv_drop.modee`: unknown key; did you mean `mode`?``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": `{}`", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn new(problems: Vec<Problem>) -> Option<Self> {
        if problems.is_empty() { None } else { Some(Self(problems)) }
    }

    /// Goes over the problems in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// Prints one problem per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
