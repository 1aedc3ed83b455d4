//! Gathers what is wrong with one file.

use std::path::PathBuf;

use crate::problem::Problem;
use crate::yaml::{Place, YamlProblem};

/// The problems and warnings of one file.
pub(crate) struct Report {
    file: PathBuf,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) fn problem(&mut self, place: Place, key: &str, message: impl Into<String>) {
        let problem = self.at(Some(place), key, message.into());
        self.problems.push(problem);
    }

    pub(crate) fn warning(&mut self, place: Place, key: &str, message: impl Into<String>) {
        let warning = self.at(Some(place), key, message.into());
        self.warnings.push(warning);
    }

    /// A problem of the file as a whole.
    pub(crate) fn file_problem(&mut self, message: impl Into<String>) {
        let problem = self.at(None, "", message.into());
        self.problems.push(problem);
    }

    pub(crate) fn yaml_problem(&mut self, problem: YamlProblem) {
        let problem = self.at(problem.place, &problem.key, problem.message);
        self.problems.push(problem);
    }

    fn at(&self, place: Option<Place>, key: &str, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            key: key.to_owned(),
            message,
        }
    }
}
