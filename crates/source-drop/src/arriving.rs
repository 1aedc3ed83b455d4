//! Whether something has come that was not read: a look that reads manifests, and of other files names, sizes and times.

use convoke_core::source::Arrivals;
use convoke_core::spec::DropMode;
use convoke_core::{SourceError, Timestamp};

use crate::claims::{Taker, leave_claimed};
use crate::file::DroppedFile;
use crate::position::Position;
use crate::search::superseded_by;
use crate::settle::{Rule, look};

/// What has come since `position`, for this taker.
pub(crate) fn arrivals(
    rule: Rule<'_>,
    position: &Position,
    taker: Option<&Taker>,
    now: Timestamp,
) -> Result<Arrivals, SourceError> {
    let look = look(rule, now)?;
    let settling = look.wait(rule.settle, now);
    let mut lots = leave_claimed(rule.folder, look.judged, taker, now)?.settled;
    if rule.folder.mode == DropMode::Snapshot {
        let quarantined = rule.folder.newest_quarantined()?;
        lots.drain(..lots.len().saturating_sub(1));
        lots.retain(|lot| superseded_by(&lot.name, position, quarantined.as_ref()).is_none());
    }
    let new: Vec<DroppedFile> = lots.into_iter().flat_map(|lot| lot.files).collect();
    let is_known = |file: &DroppedFile| rule.known.untouched(file).is_some() || rule.known.why_broken(file).is_some();
    let new = new.into_iter().filter(|file| !is_known(file));
    let (mut count, mut hasher) = (0, blake3::Hasher::new());
    for file in new {
        count += 1;
        hasher.update(file.name.as_bytes()).update(&[0]).update(&file.identity.digest());
    }
    let mark = (count > 0).then(|| hasher.finalize().to_hex()[..16].to_owned());
    Ok(Arrivals { mark, count, settling })
}
