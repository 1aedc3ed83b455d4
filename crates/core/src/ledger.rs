//! What an audience holds as far as we know: key hash → content hash, row id.
//!
//! The big part stands in immutable Parquet segments, sorted by key hash; the list of live segments is a row of the
//! checkpoint store, so that folding a run in is one SQL transaction.

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::error::StateError;
use crate::hash::{ContentHash, KeyHash};
use crate::ids::{AudienceKey, PlanId, RowId, SyncName};

/// Memory-comparable encoding of an order value; empty: none. The 48 bytes that need no
/// allocation hold any time or number.
pub type OrderValue = SmallVec<[u8; 48]>;

/// One row of an audience, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    pub key: KeyHash,
    pub content: ContentHash,
    pub order: OrderValue,
    pub row_id: RowId,
    /// The sync that may change the row; [`SyncName::nobody`] once that one was retired and left it.
    pub owner: SyncName,
    pub origin: RowOrigin,
    pub state: RowState,
}

/// How a row came into the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowOrigin {
    Created,
    Adopted,
}

/// Whether the row is in the audience, and if not, who took it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowState {
    Live,
    /// Somebody deleted it at the destination; it is not made again.
    RemovedAtDestination,
    /// We deleted it. Where a record said so, the entry is kept as long as that record's order value can be compared, so
    /// that no older one makes the row again; elsewhere it overlays older segments, and ends at compaction. It is no row.
    Deleted,
}

/// Everything about a ledger but its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerManifest {
    pub audience: AudienceKey,
    /// Moves by one with each fold.
    pub version: u64,
    /// Live segments, oldest first; a later one overlays those before it.
    pub segments: Vec<SegmentRef>,
    /// Rows in state `Live`.
    pub live: u64,
    /// Live rows per owning sync.
    pub live_by_owner: Vec<(SyncName, u64)>,
    pub identity: LedgerIdentity,
}

impl LedgerManifest {
    /// Number of live rows that this sync owns.
    pub fn live_of(&self, owner: &SyncName) -> u64 {
        self.live_by_owner.iter().find(|(name, _)| name == owner).map_or(0, |(_, live)| *live)
    }
}

/// What must agree before hashes in a ledger can be compared with new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerIdentity {
    /// [`HashKey::id`](crate::hash::HashKey::id).
    pub hash_key_id: String,
    /// The key columns' names and types, in order: `Email:EMAIL`.
    pub key_spec: String,
    /// Version of cell canonicalisation.
    pub normalizer_version: u32,
    /// Version of the hashed encoding.
    pub encoding_version: u32,
}

/// One immutable segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Name within the segment store.
    pub name: String,
    pub entries: u64,
    pub bytes: u64,
    /// BLAKE3 of the file, hexadecimal.
    pub digest: String,
}

/// Where segments live.
///
/// The contract: once `seal` has returned, the segment survives a power cut; a segment that was sealed is never
/// written again.
#[async_trait]
pub trait SegmentStore: Send + Sync {
    /// A local path at which a new segment may be written.
    async fn stage(&self, audience: &AudienceKey) -> Result<StagedSegment, StateError>;
    /// Makes a staged segment durable and visible under its name.
    async fn seal(&self, staged: StagedSegment) -> Result<(), StateError>;
    /// A local path from which a sealed segment can be read; [`StateError::Missing`] if it is gone.
    async fn open(&self, name: &str) -> Result<std::path::PathBuf, StateError>;
    /// Removes segments that are no longer live; absent ones are no error.
    async fn remove(&self, names: &[String]) -> Result<(), StateError>;
    /// Names of all sealed segments of an audience, to find what a crash left behind.
    async fn list(&self, audience: &AudienceKey) -> Result<Vec<String>, StateError>;
}

/// Where plan files are kept beside the folder they were written to, so that another machine can go on with a plan.
///
/// The contract: once `publish` has returned, the files survive the machine; they are never written again.
#[async_trait]
pub trait PlanArchive: Send + Sync {
    /// Makes every file of the plan's folder durable under the plan's id.
    async fn publish(&self, plan: PlanId, folder: &Path) -> Result<(), StateError>;
    /// Brings the plan's files into `folder`, which is made with mode 0700; false if none were published.
    async fn fetch(&self, plan: PlanId, folder: &Path) -> Result<bool, StateError>;
    /// Removes the plan's files; absent ones are no error.
    async fn remove(&self, plan: PlanId) -> Result<(), StateError>;
}

/// A segment being written.
#[derive(Clone, Debug)]
pub struct StagedSegment {
    pub name: String,
    pub path: std::path::PathBuf,
}
