//! Files that look as if they were meant, and are not read: somebody waits for them.

use glob::Pattern;

/// Names that miss the pattern by no more than upper and lower case.
#[derive(Default)]
pub(crate) struct NearMisses {
    first: Option<String>,
    count: usize,
}

impl NearMisses {
    pub(crate) fn note(&mut self, name: &str) {
        self.count += 1;
        if self.first.as_deref().is_none_or(|first| name < first) {
            self.first = Some(name.to_owned());
        }
    }

    pub(crate) fn told(self, pattern: &Pattern) -> Option<String> {
        let first = escaped(&self.first?);
        let more = match self.count {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!("not read: `{first}`{more}; `pattern: {pattern}` tells upper from lower case"))
    }
}

/// A name as it is shown where it may hold anything.
pub(crate) fn escaped(name: &str) -> String {
    name.chars().map(|one| if one.is_control() { one.escape_default().to_string() } else { one.to_string() }).collect()
}
