//! Any text as a file of the configuration: it loads, or every problem has a place.

use std::io;
use std::path::{Path, PathBuf};

use convoke_config::{Environment, load};

/// Well-formed neighbours of the file that is tried.
const CONNECTIONS: &str = "local: { embedded: { data: store } }\n";

/// The first byte chooses which file is tried, the others are its text.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let tried = ["config/syncs/tried.yaml", "config/connections.yaml", "config/convoke.yaml"][usize::from(choice % 3)];
    let Err(problems) = load(Path::new("config"), &Tried { path: tried, text }) else { return };
    assert!(problems.iter().count() > 0);
    for problem in problems.iter() {
        assert!(problem.file.starts_with("config"), "{problem}");
        assert!(problem.line.is_some() || problem.key.is_empty(), "{problem}");
        // What the file itself says may stand behind the first words.
        assert!(!problem.message.starts_with("could not be decoded"), "{problem}");
    }
}

struct Tried<'a> {
    path: &'static str,
    text: &'a [u8],
}

impl Environment for Tried<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "SET").then(|| "value".to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.ends_with(self.path) {
            return Ok(self.text.to_vec());
        }
        if path.ends_with("config/connections.yaml") {
            return Ok(CONNECTIONS.into());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        if dir.ends_with("config/syncs") {
            return Ok(if self.path.contains("syncs") { vec![dir.join("tried.yaml")] } else { Vec::new() });
        }
        if dir.ends_with("config") {
            return Ok(["connections.yaml", "convoke.yaml", "syncs"].map(|name| dir.join(name)).to_vec());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/project").join(path))
    }
}
