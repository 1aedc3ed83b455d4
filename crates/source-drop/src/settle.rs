//! The rule that a file counts only once nobody writes to it any more.

use std::time::Duration;

use convoke_core::source::Settling;
use convoke_core::{Clock, SourceError, Timestamp};

use crate::file::{DroppedFile, Identity};
use crate::folder::Folder;
use crate::marker::Marked;

/// The files of the folder, judged.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Oldest first.
    pub(crate) settled: Vec<DroppedFile>,
    /// Why each other file does not count yet.
    pub(crate) notices: Vec<String>,
}

/// Lists the folder and waits, at most for `settle`, for files that were written to lately.
pub(crate) async fn judge(folder: &Folder, settle: Duration, clock: &dyn Clock) -> Result<Judged, SourceError> {
    let now = clock.now();
    let (mut judged, young) = by_age(folder, settle, now)?;
    let Some(wait) = longest_wait(&young, settle, now) else { return Ok(judged) };
    clock.sleep(wait).await;
    for file in folder.list()? {
        let before = young.iter().find(|young| young.name == file.name);
        match before {
            Some(before) if before.identity == file.identity => judged.settled.push(file),
            Some(_) => judged.notices.push(format!("`{}` is still being written; not read", file.name)),
            None => {}
        }
    }
    judged.settled.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
    Ok(judged)
}

/// What [`judge`] would wait for now.
pub(crate) fn settling(folder: &Folder, settle: Duration, now: Timestamp) -> Result<Option<Settling>, SourceError> {
    let (_, young) = by_age(folder, settle, now)?;
    let wait = longest_wait(&young, settle, now);
    let Some((wait, newest)) = wait.zip(young.last()) else { return Ok(None) };
    let more = match young.len() - 1 {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Ok(Some(Settling { what: format!("`{}`{more}", newest.name), wait }))
}

fn longest_wait(young: &[DroppedFile], settle: Duration, now: Timestamp) -> Option<Duration> {
    young.iter().map(|file| settle.saturating_sub(stood_for(&file.identity, now))).max()
}

/// Judges the files by what can be seen at once; those that were written to lately stand aside.
fn by_age(folder: &Folder, settle: Duration, now: Timestamp) -> Result<(Judged, Vec<DroppedFile>), SourceError> {
    let mut judged = Judged::default();
    let mut young = Vec::new();
    for file in folder.list()? {
        match folder.marked(&file) {
            Marked::Complete => judged.settled.push(file),
            Marked::Missing => judged.notices.push(format!("`{}` has no marker beside it yet; not read", file.name)),
            Marked::Stale => judged.notices.push(format!(
                "`{}` was written to after its marker; not read until the marker is written anew",
                file.name
            )),
            Marked::NotUsed if stood_for(&file.identity, now) >= settle => judged.settled.push(file),
            Marked::NotUsed => young.push(file),
        }
    }
    Ok((judged, young))
}

/// How long the file has stood unchanged. A time in the future says nothing: nought.
fn stood_for(identity: &Identity, now: Timestamp) -> Duration {
    let last_touched = identity.modified_ns.max(identity.changed_ns) / 1_000_000;
    now.since(Timestamp(last_touched))
}
