//! How rejects stand in a database, whichever it is: their columns, and what becomes of those of earlier plans.

use convoke_core::hash::{ContentHash, KeyHash};
use convoke_core::reject::{NotedReject, OpenReject, RejectId, RejectState};
use convoke_core::state::{RejectRecord, RejectStage};
use convoke_core::{SyncName, Timestamp};

use crate::fault::Fault;
use crate::stored;

pub(crate) const CELLS: &str = "the cells of a reject";
const KEY: &str = "a key hash";
const ATTEMPTS: &str = "the attempts of a reject";

/// Run after rejects were inserted in state `new`, in the same transaction and this order: the new ones go on counting
/// what earlier plans left open of the same content, take their place, and are open from then on.
pub(crate) const TAKE_PLACES: [&str; 3] = [
    "UPDATE rejects AS n SET
         attempts = 1 + coalesce((SELECT max(o.attempts) FROM rejects o
             WHERE o.state = 'open' AND o.sync = n.sync AND o.subject = n.subject AND o.code = n.code
               AND o.plan <> n.plan AND o.content IS NOT DISTINCT FROM n.content), 0),
         first_at = coalesce((SELECT min(o.first_at) FROM rejects o
             WHERE o.state = 'open' AND o.sync = n.sync AND o.subject = n.subject
               AND o.plan <> n.plan AND o.content IS NOT DISTINCT FROM n.content), n.at)
     WHERE n.state = 'new'",
    "UPDATE rejects SET state = 'repeated' WHERE id IN (
         SELECT o.id FROM rejects n JOIN rejects o ON o.sync = n.sync AND o.subject = n.subject
         WHERE n.state = 'new' AND o.state = 'open' AND o.code = n.code AND o.plan <> n.plan)",
    "UPDATE rejects SET state = 'open' WHERE state = 'new'",
];

/// What tells a record from others over plans: its key, or else where it came from.
pub(crate) fn subject_of(reject: &RejectRecord) -> [u8; 16] {
    if let Some(key) = reject.key {
        return key.0;
    }
    let digest = blake3::hash(reject.origin.as_deref().unwrap_or_default().as_bytes());
    *digest.as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// Id, sync, run, plan, time, stage, key, content, origin, code, column, reason, cells, attempts, first time, state.
pub(crate) type RejectColumns = (
    i64,
    String,
    String,
    String,
    i64,
    String,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<String>,
    String,
    Option<String>,
    String,
    String,
    i64,
    i64,
    String,
);

pub(crate) fn reject_from(columns: RejectColumns) -> Result<NotedReject, Fault> {
    let (id, sync, run, plan, at, stage, key, content, origin, code, column, reason, cells, attempts, first_at, state) =
        columns;
    let record = RejectRecord {
        sync: SyncName::new(sync),
        run: stored::run_id(&run)?,
        plan: stored::plan_id(&plan)?,
        at: Timestamp(at),
        stage: stored::known(stage_from(&stage), "the stage of a reject")?,
        key: key.map(|key| stored::hash(&key, KEY)).transpose()?.map(KeyHash),
        content: content_from(content)?,
        origin,
        code,
        column,
        reason,
        cells: stored::from_json(&cells, CELLS)?,
    };
    Ok(NotedReject {
        id: RejectId(id.cast_unsigned()),
        record,
        attempts: stored::small(attempts, ATTEMPTS)?,
        first_at: Timestamp(first_at),
        state: stored::known(RejectState::parse(&state), "the state of a reject")?,
    })
}

/// Id, key, content, run, first time.
pub(crate) type OpenColumns = (i64, Vec<u8>, Option<Vec<u8>>, String, i64);

pub(crate) fn open_from((id, key, content, run, first_at): OpenColumns) -> Result<OpenReject, Fault> {
    Ok(OpenReject {
        id: RejectId(id.cast_unsigned()),
        key: KeyHash(stored::hash(&key, KEY)?),
        content: content_from(content)?,
        run: stored::run_id(&run)?,
        first_at: Timestamp(first_at),
    })
}

fn content_from(content: Option<Vec<u8>>) -> Result<Option<ContentHash>, Fault> {
    Ok(content.map(|content| stored::hash(&content, "a content hash")).transpose()?.map(ContentHash))
}

/// The number after which a page begins.
pub(crate) fn after(id: Option<RejectId>) -> i64 {
    id.map_or(-1, |id| id.0.cast_signed())
}

pub(crate) fn stage_name(stage: RejectStage) -> &'static str {
    match stage {
        RejectStage::Invalid => "invalid",
        RejectStage::Refused => "refused",
    }
}

fn stage_from(name: &str) -> Option<RejectStage> {
    [RejectStage::Invalid, RejectStage::Refused].into_iter().find(|stage| stage_name(*stage) == name)
}
