//! The rule that a file counts only once nobody writes to it any more.

use std::collections::HashMap;
use std::time::Duration;

use convoke_core::source::Settling;
use convoke_core::{Clock, SourceError, Timestamp};

use crate::file::{DroppedFile, Identity, Lot};
use crate::folder::{Contents, Folder};
use crate::known::Known;
use crate::listed::{Checked, Manifests};
use crate::marker::Marked;

/// The files of the folder, judged.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Oldest first.
    pub(crate) settled: Vec<Lot>,
    /// Why each other file does not count yet.
    pub(crate) notices: Vec<String>,
}

/// How files settle here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) settle: Duration,
    /// What was read before is not held against the checksums of a manifest again.
    pub(crate) known: &'a Known,
    /// None: only sizes are held against a manifest, so that no file is read for a look.
    pub(crate) checked: Option<&'a Checked>,
}

/// What can be seen at once.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) judged: Judged,
    /// Files that were written to lately, oldest first.
    pub(crate) young: Vec<DroppedFile>,
}

impl Look {
    /// How long it is until the last of the young files has settled, if none is written to again.
    pub(crate) fn wait(&self, settle: Duration, now: Timestamp) -> Option<Duration> {
        self.young.iter().map(|file| settle.saturating_sub(stood_for(&file.identity, now))).max()
    }
}

/// A look at what was young, once it had the time to settle.
pub(crate) struct SecondLook {
    young: HashMap<String, Identity>,
    first: Judged,
}

impl SecondLook {
    /// What is still to be looked at once more, after a wait.
    pub(crate) fn after(look: Look) -> Self {
        let young = look.young.into_iter().map(|file| (file.name, file.identity)).collect();
        Self { young, first: look.judged }
    }

    /// Judges what was young.
    pub(crate) fn judge(self, rule: Rule<'_>, now: Timestamp) -> Result<Judged, SourceError> {
        let Self { young, first: mut judged } = self;
        let contents = rule.folder.contents()?;
        let stood = |file: &&DroppedFile| match young.get(&file.name) {
            Some(before) => *before == file.identity,
            None => stood_for(&file.identity, now) >= rule.settle,
        };
        let unsettled = |files: &[DroppedFile]| -> Vec<String> {
            let moving = files.iter().filter(|file| young.contains_key(&file.name) && !stood(file));
            moving.map(|file| told_unsettled(&file.name)).collect()
        };
        if rule.folder.uses_manifests() {
            let mut notices = contents.notices.clone();
            notices.extend(unsettled(&contents.manifests));
            let is_calm = |file: &DroppedFile| stood(&file);
            let mut manifests = Manifests::new(rule, &contents, &is_calm)?;
            // One that is still being written says already whose some files are.
            let mut settled = manifests.complete(&contents.manifests, &mut notices)?;
            let has_stood = |lot: &Lot| contents.manifests.iter().filter(stood).any(|one| one.name == lot.name.name);
            settled.retain(has_stood);
            let unsettled = manifests.young.iter().map(|file| told_unsettled(&file.name));
            notices.extend(unsettled);
            manifests.tell_unlisted(&mut notices);
            return Ok(Judged { settled, notices });
        }
        judged.notices.extend(unsettled(&contents.files));
        let was_young = |file: &&DroppedFile| young.contains_key(&file.name);
        let settled = contents.files.iter().filter(was_young).filter(stood);
        judged.settled.extend(settled.cloned().map(Lot::of_one));
        judged.settled.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(judged)
    }
}

fn told_unsettled(name: &str) -> String {
    format!("`{name}` is still being written; not read")
}

/// Judges the files by what can be seen at once; those that were written to lately stand aside.
pub(crate) fn look(rule: Rule<'_>, now: Timestamp) -> Result<Look, SourceError> {
    let contents = rule.folder.contents()?;
    if rule.folder.uses_manifests() {
        return look_at_manifests(rule, &contents, now);
    }
    let mut look = Look::default();
    look.judged.notices.clone_from(&contents.notices);
    for file in &contents.files {
        let name = &file.name;
        match rule.folder.marked(&contents, file) {
            Marked::Complete => look.judged.settled.push(Lot::of_one(file.clone())),
            Marked::Missing => look.judged.notices.push(format!("`{name}` has no marker beside it yet; not read")),
            Marked::Stale => look
                .judged
                .notices
                .push(format!("`{name}` was written to after its marker; not read until the marker is written anew")),
            Marked::NotUsed if stood_for(&file.identity, now) >= rule.settle => {
                look.judged.settled.push(Lot::of_one(file.clone()));
            }
            Marked::NotUsed => look.young.push(file.clone()),
        }
    }
    Ok(look)
}

/// A manifest has to stand still. A file of it is complete as soon as it is as the manifest says, if that gives a checksum
/// or was written later; else it has to stand still too.
fn look_at_manifests(rule: Rule<'_>, contents: &Contents, now: Timestamp) -> Result<Look, SourceError> {
    let is_young = |file: &DroppedFile| stood_for(&file.identity, now) < rule.settle;
    let young: Vec<_> = contents.manifests.iter().filter(|manifest| is_young(manifest)).cloned().collect();
    let mut judged = Judged { notices: contents.notices.clone(), ..Judged::default() };
    let is_calm = |file: &DroppedFile| !is_young(file);
    let mut manifests = Manifests::new(rule, contents, &is_calm)?;
    // What a young one lists settles while it does.
    judged.settled = manifests.complete(&contents.manifests, &mut judged.notices)?;
    judged.settled.retain(|lot| young.iter().all(|manifest| manifest.name != lot.name.name));
    let mut all_young = std::mem::take(&mut manifests.young);
    all_young.extend(young);
    if all_young.is_empty() {
        manifests.tell_unlisted(&mut judged.notices);
    }
    Ok(Look { judged, young: all_young })
}

/// What a discovery would wait for now.
pub(crate) fn settling(rule: Rule<'_>, now: Timestamp) -> Result<Option<Settling>, SourceError> {
    let look = look(rule, now)?;
    let wait = look.wait(rule.settle, now);
    let Some((wait, newest)) = wait.zip(look.young.last()) else { return Ok(None) };
    let more = match look.young.len() - 1 {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Ok(Some(Settling { what: format!("`{}`{more}", newest.name), wait }))
}

/// How long the file has stood unchanged. A copy may keep a time that lies ahead; the change that gave the file this time
/// tells more then. If that lies ahead too it says nothing: nought.
fn stood_for(identity: &Identity, now: Timestamp) -> Duration {
    let is_ahead = |time_ns: i64| time_ns / 1_000_000 > now.0;
    let last_touched = match is_ahead(identity.modified_ns) {
        true => identity.touched_ns(),
        false => identity.modified_ns.max(identity.changed_ns),
    };
    now.since(Timestamp(last_touched / 1_000_000))
}

/// Sleeps between the two looks.
pub(crate) async fn wait_for(look: &Look, settle: Duration, clock: &dyn Clock) -> bool {
    let Some(wait) = look.wait(settle, clock.now()) else { return false };
    clock.sleep(wait).await;
    true
}
