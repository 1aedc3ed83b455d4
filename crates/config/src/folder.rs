//! Finds the files of a configuration directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::check::nearest;
use crate::environment::Environment;
use crate::problem::Problem;

const CONVOKE_FILE: &str = "convoke.yaml";
const CONNECTIONS_FILE: &str = "connections.yaml";
const SYNCS_DIR: &str = "syncs";

/// The files to read. What is not there takes its defaults.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) convoke: Option<PathBuf>,
    pub(crate) connections: Option<PathBuf>,
    /// In the order of their names.
    pub(crate) syncs: Vec<PathBuf>,
}

/// Lists the directory and reports YAML files that nothing would read: a misnamed file is never silently left out.
pub(crate) fn survey(dir: &Path, environment: &dyn Environment, problems: &mut Vec<Problem>) -> Files {
    let mut files = Files::default();
    let mut has_syncs = false;
    for path in list(dir, environment, problems) {
        match file_name(&path) {
            CONVOKE_FILE => files.convoke = Some(path),
            CONNECTIONS_FILE => files.connections = Some(path),
            SYNCS_DIR => has_syncs = true,
            name if is_yaml(name) => problems.push(misplaced(&path, name)),
            _ => {}
        }
    }
    if has_syncs {
        for path in list(&dir.join(SYNCS_DIR), environment, problems) {
            match file_name(&path) {
                name if name.ends_with(".yaml") => files.syncs.push(path),
                name if is_yaml(name) => {
                    problems.push(problem(&path, "would not be read; rename it to `.yaml`".to_owned()))
                }
                _ => {}
            }
        }
    }
    files
}

/// Entries of a directory in the order of their names, hidden ones left out.
fn list(dir: &Path, environment: &dyn Environment, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    match environment.list(dir) {
        Ok(mut entries) => {
            entries.retain(|entry| !file_name(entry).starts_with('.'));
            entries.sort();
            entries
        }
        Err(error) => {
            let message = if error.kind() == io::ErrorKind::NotFound {
                "the configuration directory does not exist; name another with `--config`".to_owned()
            } else {
                format!("the directory cannot be listed: {error}")
            };
            problems.push(problem(dir, message));
            Vec::new()
        }
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_yaml(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

fn misplaced(path: &Path, name: &str) -> Problem {
    let known = [CONVOKE_FILE, CONNECTIONS_FILE];
    let remedy = match nearest(name, known.into_iter()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("syncs belong into `{SYNCS_DIR}/`"),
    };
    problem(path, format!("would not be read; {remedy}"))
}

fn problem(path: &Path, message: String) -> Problem {
    Problem { file: path.to_owned(), line: None, column: None, key: String::new(), message }
}
