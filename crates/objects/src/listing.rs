//! What of a listing counts.
//!
//! Pages are looked at as they come, and what does not count is dropped at once, so that a listing of millions of keys
//! takes the memory of those that are kept.

use std::collections::HashMap;

use convoke_core::source::Split;
use convoke_core::{Origin, SourceError};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::backend::Depth;
use crate::fault::{Attempt, explained};
use crate::location::{Location, Standing};
use crate::pin::{ListedObject, Pin};
use crate::store::Store;

/// The objects that a URL names, in the order in which they were written.
#[derive(Debug, Default)]
pub struct Listing {
    pub objects: Vec<ListedObject>,
    pub notices: Vec<String>,
}

/// An object that is not as it was when it was split off.
#[derive(Debug, PartialEq, Eq)]
pub struct ListingDifference {
    pub key: String,
    /// What befell it, in words: `was replaced`.
    pub what: &'static str,
}

impl Store {
    /// Lists all objects that the location names.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached.
    pub async fn list(&self, location: &Location) -> Result<Listing, SourceError> {
        let mut objects = Vec::new();
        let notices = self.list_each(location, None, |object| objects.push(object)).await?;
        objects.sort_by(|one: &ListedObject, other| one.age_order().cmp(&other.age_order()));
        Ok(Listing { objects, notices })
    }

    /// Passes on every object that the location names, page by page, in no order; tells what the operator should know.
    ///
    /// `enters` is asked about folders, so that those which are ruled out need not be listed. What lies in them is not passed
    /// on in any case.
    ///
    /// # Errors
    ///
    /// The store refuses, or cannot be reached.
    pub async fn list_each(
        &self,
        location: &Location,
        enters: Option<&Enters<'_>>,
        mut take: impl FnMut(ListedObject) + Send,
    ) -> Result<Vec<String>, SourceError> {
        let mut sieve = Sieve::new(location, enters, &mut take);
        if let Some(key) = location.only_key() {
            if let Some(meta) = self.head(&key).await? {
                sieve.put(meta);
            }
            return Ok(sieve.hidden.notices());
        }
        if self.backend().is_local() {
            check_folder(location).await?;
        }
        let start = location.key_start();
        match enters.filter(|_| !location.is_flat()) {
            Some(enters) => self.list_entered(&start, enters, &mut sieve).await?,
            None => {
                let depth = if location.is_flat() { Depth::Level } else { Depth::Everything };
                self.list_pages(&start, depth, &mut sieve).await?;
            }
        }
        Ok(sieve.hidden.notices())
    }

    /// Lists what begins with `start`; gives back the folders in it, if it is one level that is listed.
    async fn list_pages(&self, start: &str, depth: Depth, sieve: &mut Sieve<'_>) -> Result<Vec<Path>, SourceError> {
        let (mut page_token, mut folders) = (None, Vec::new());
        loop {
            let page = self.backend().page(start, depth, page_token).await;
            let attempt = Attempt::List { url: sieve.location.url() };
            let (page, next) = page.map_err(|error| explained(self.place(), &attempt, error))?;
            page.objects.into_iter().for_each(|meta| sieve.put(meta));
            folders.extend(page.common_prefixes);
            page_token = next;
            if page_token.is_none() {
                return Ok(folders);
            }
        }
    }

    /// Goes down folder by folder as far as it may rule one out.
    async fn list_entered(&self, start: &str, enters: &Enters<'_>, sieve: &mut Sieve<'_>) -> Result<(), SourceError> {
        let mut levels = vec![start.to_owned()];
        while let Some(level) = levels.pop() {
            let folders = self.list_pages(&level, Depth::Level, sieve).await?;
            let names = folders.iter().filter_map(|folder| Some((folder, sieve.location.name_of(folder.as_ref())?)));
            let entered: Vec<_> = names.map(|(folder, name)| (folder, enters(name))).collect();
            let kept = entered.iter().filter(|(_, entering)| *entering != Entering::No).count();
            if kept > FOLDERS_ONE_BY_ONE && kept * 4 > entered.len() {
                sieve.seen_level = Some(level.clone());
                self.list_pages(&level, Depth::Everything, sieve).await?;
                sieve.seen_level = None;
                continue;
            }
            for (folder, entering) in entered {
                let within = format!("{folder}/");
                match entering {
                    Entering::No => {}
                    Entering::Stepwise => levels.push(within),
                    Entering::Whole => drop(self.list_pages(&within, Depth::Everything, sieve).await?),
                }
            }
        }
        Ok(())
    }
}

/// Asked about a folder, by its name without the root and without a final `/`.
pub type Enters<'a> = dyn Fn(&str) -> Entering + Sync + 'a;

/// What is done about a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entering {
    /// It is left out with all that lies beneath it.
    No,
    /// The folders in it are asked about one by one.
    Stepwise,
    /// Everything beneath it counts.
    Whole,
}

/// So many folders are listed each for itself; of more, unless most are ruled out, all is listed at once: a request brings a
/// thousand keys.
const FOLDERS_ONE_BY_ONE: usize = 32;

/// Lets through what a URL names.
struct Sieve<'a> {
    location: &'a Location,
    enters: Option<&'a Enters<'a>>,
    /// What the keys begin with that lie no deeper and were let through already.
    seen_level: Option<String>,
    /// The folder that was asked about last, and whether it is ruled out: keys come ordered.
    last_folder: (String, bool),
    hidden: Hidden,
    take: &'a mut (dyn FnMut(ListedObject) + Send),
}

impl<'a> Sieve<'a> {
    fn new(
        location: &'a Location,
        enters: Option<&'a Enters<'a>>,
        take: &'a mut (dyn FnMut(ListedObject) + Send),
    ) -> Self {
        Self { location, enters, seen_level: None, last_folder: Default::default(), hidden: Hidden::default(), take }
    }

    fn put(&mut self, meta: ObjectMeta) {
        let key = meta.location.as_ref();
        let Some(name) = self.location.name_of(key) else { return };
        let level = self.seen_level.as_deref();
        let was_seen = level.and_then(|level| key.strip_prefix(level)).is_some_and(|rest| !rest.contains('/'));
        if was_seen || is_ruled_out(name, self.enters, &mut self.last_folder) {
            return;
        }
        match self.location.standing(name) {
            Standing::Named if self.location.has_folder_marks() && is_folder_marker(name, meta.size) => {}
            Standing::Named => {
                let name = name.to_owned();
                (self.take)(ListedObject::new(&name, meta));
            }
            Standing::Hidden => self.hidden.note(name),
            Standing::Other => {}
        }
    }
}

/// Whether one of the folders of a name is not entered.
fn is_ruled_out(name: &str, enters: Option<&Enters<'_>>, last_folder: &mut (String, bool)) -> bool {
    let (Some(enters), Some((folder, _))) = (enters, name.rsplit_once('/')) else { return false };
    if last_folder.0 != folder {
        let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
        let is_out = ends.map(|end| &folder[..end]).any(|folder| enters(folder) == Entering::No);
        *last_folder = (folder.to_owned(), is_out);
    }
    last_folder.1
}

/// Names that would match, and are those of what is not to be read.
#[derive(Default)]
struct Hidden {
    first: Option<String>,
    count: usize,
}

impl Hidden {
    fn note(&mut self, name: &str) {
        self.count += 1;
        if self.first.as_deref().is_none_or(|first| name < first) {
            self.first = Some(name.to_owned());
        }
    }

    fn notices(self) -> Vec<String> {
        let Some(first) = self.first else { return Vec::new() };
        let others = match self.count {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        vec![format!(
            "not read: `{first}`{others}; names that begin with `_` or `.` are for what is not (yet) to be read"
        )]
    }
}

impl Listing {
    /// An object that is not as it was when it was split off; none if these splits are what is listed.
    ///
    /// # Errors
    ///
    /// A split of another source.
    pub fn difference(&self, splits: &[Split]) -> Result<Option<ListingDifference>, SourceError> {
        let mut pins = HashMap::with_capacity(splits.len());
        for split in splits {
            pins.insert(split.name.as_str(), Pin::of(split)?);
        }
        let differs = |key: &str, what| Some(ListingDifference { key: key.to_owned(), what });
        for object in &self.objects {
            match pins.remove(object.name.as_str()) {
                Some(pin) if pin == object.pin => {}
                Some(pin) => return Ok(differs(&pin.key, "was replaced")),
                None => return Ok(differs(&object.pin.key, "has come")),
            }
        }
        let gone = pins.into_values().map(|pin| pin.key).min();
        Ok(gone.and_then(|key| differs(&key, "has gone")))
    }
}

async fn check_folder(location: &Location) -> Result<(), SourceError> {
    let folder = format!("/{}", location.root().trim_end_matches('/'));
    match tokio::fs::metadata(&folder).await {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(SourceError::new(Origin::User, format!("`{folder}` is no folder; correct `url`"))),
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => "create it, or correct `url`",
                _ => "give this user the right to read it",
            };
            let message = format!("cannot list the folder `{folder}`; {remedy}");
            Err(SourceError::new(Origin::User, message).caused_by(error))
        }
    }
}

/// Consoles make an empty object for a folder, named as the folder is. An empty object with the ending of a file is a file
/// that was not written, and has to be told.
fn is_folder_marker(name: &str, size: u64) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    size == 0 && !last.contains('.')
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
