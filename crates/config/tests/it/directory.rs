//! A configuration directory in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use convoke_config::{Config, Environment, Problems, load};

/// Files under `/project`, and variables.
#[derive(Clone, Default)]
pub(crate) struct Directory {
    files: BTreeMap<PathBuf, Vec<u8>>,
    variables: BTreeMap<String, String>,
}

impl Directory {
    /// An embedded connection `local` and no sync.
    pub(crate) fn new() -> Self {
        Self::default().file("config/connections.yaml", "local: { embedded: { data: store } }\n")
    }

    pub(crate) fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.files.insert(Path::new("/project").join(path), contents.into());
        self
    }

    pub(crate) fn sync(self, name: &str, contents: &str) -> Self {
        self.file(&format!("config/syncs/{name}.yaml"), contents)
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn load(&self) -> Result<Config, Problems> {
        load(Path::new("config"), self)
    }

    pub(crate) fn loaded(&self) -> Config {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The problems as they are printed.
    pub(crate) fn refused(&self) -> Vec<String> {
        let problems = self.load().expect_err("the configuration must be refused");
        problems.iter().map(ToString::to_string).collect()
    }
}

impl Environment for Directory {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.absolute(path)?;
        self.files.get(&path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let absolute = self.absolute(dir)?;
        let below = self.files.keys().filter_map(|file| file.strip_prefix(&absolute).ok());
        let mut entries: Vec<PathBuf> =
            below.filter_map(|rest| rest.components().next()).map(|first| dir.join(first)).collect();
        entries.dedup();
        if entries.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(entries) }
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/project").join(path))
    }
}

/// A sync in which nothing is wrong.
pub(crate) const SYNC: &str = "\
sync: people
source:
  csv_drop: { path: drop, mode: snapshot }
map:
  Email: { sql: \"normalize_email(email)\", type: EMAIL }
  Company: company
key: [Email]
audience:
  gtm: { connection: local, name: People, type: CONTACT }
";
