//! What of a listing counts.

use std::collections::HashMap;

use convoke_core::SourceError;
use convoke_core::source::Split;

use crate::listed::{ListedObject, Pin};
use crate::location::{Location, Standing};
use crate::store::Store;

/// The objects that the URL names, in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) objects: Vec<ListedObject>,
    pub(crate) notices: Vec<String>,
}

impl Listing {
    pub(crate) async fn of(store: &Store, location: &Location) -> Result<Self, SourceError> {
        let (mut objects, mut hidden) = (Vec::new(), Vec::new());
        for meta in store.list(location).await? {
            let key = meta.location.to_string();
            let Some(name) = location.name_of(&key) else { continue };
            match location.standing(name) {
                Standing::Named if is_folder_marker(name, meta.size) => {}
                Standing::Named => objects.push(ListedObject::new(name, meta)),
                Standing::Hidden => hidden.push(name.to_owned()),
                Standing::Other => {}
            }
        }
        objects.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
        hidden.sort();
        let notices = hidden.first().map(|first| told_hidden(first, hidden.len()));
        Ok(Self { objects, notices: notices.into_iter().collect() })
    }

    /// The key of an object that is not as it was when it was split off, and what befell it; none if these splits are what
    /// is listed.
    pub(crate) fn difference(&self, splits: &[Split]) -> Result<Option<(String, &'static str)>, SourceError> {
        let mut pins = HashMap::with_capacity(splits.len());
        for split in splits {
            pins.insert(split.name.as_str(), Pin::of(split)?);
        }
        for object in &self.objects {
            match pins.remove(object.name.as_str()) {
                Some(pin) if pin == object.pin => {}
                Some(pin) => return Ok(Some((pin.key, "was replaced"))),
                None => return Ok(Some((object.pin.key.clone(), "has come"))),
            }
        }
        Ok(pins.into_values().map(|pin| (pin.key, "has gone")).min())
    }
}

/// Consoles make an empty object for a folder, named as the folder is. An empty object with the ending of a file is a file
/// that was not written, and has to be told.
fn is_folder_marker(name: &str, size: u64) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    size == 0 && !last.contains('.')
}

fn told_hidden(first: &str, count: usize) -> String {
    let others = match count {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    format!("not read: `{first}`{others}; names that begin with `_` or `.` are for what is not (yet) to be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_objects_without_an_ending_are_folders() {
        assert!(is_folder_marker("in/2026", 0));
        assert!(!is_folder_marker("in/2026", 4));
        assert!(!is_folder_marker("in/a.parquet", 0));
    }
}
