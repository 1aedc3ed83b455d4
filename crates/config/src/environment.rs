//! What configuration may ask of its surroundings: variables, files, the current directory.

use std::io;
use std::path::{Path, PathBuf};

/// Where values come from that are not in the YAML itself. Tests put one of their own here.
pub trait Environment {
    /// The variable's value, if it is set to valid Unicode.
    fn variable(&self, name: &str) -> Option<String>;
    /// The whole contents of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Paths of the entries of a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// The path as seen from the root; need not exist.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf>;
}

/// The process environment and the file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Environment for System {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }
}
