//! The defaults, read from the compiled-in reference file.

use std::sync::LazyLock;

use crate::yaml::{Node, parse};

/// The compiled-in defaults: every key of every file, explained once.
pub const DEFAULTS: &str = include_str!("../config/convoke.default.yaml");

static TREE: LazyLock<Node> =
    LazyLock::new(|| parse(DEFAULTS.as_bytes()).expect("the compiled-in file is YAML: a test reads it"));

/// One section of the file: `convoke`, `connections` or `sync`.
pub(crate) fn section(name: &str) -> Option<&'static Node> {
    TREE.get(name)
}

#[cfg(test)]
mod tests;
