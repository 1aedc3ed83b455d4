//! Leases and marks in memory, which can fail and be taken away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::state::{Lease, Leases, ScheduleMark, Schedules};
use convoke_core::{Clock, StateError, SyncName, Timestamp};
use convoke_testkit::clock::TestClock;

pub(crate) struct MemoryStore {
    clock: Arc<TestClock>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    leases: BTreeMap<String, Lease>,
    marks: BTreeMap<SyncName, ScheduleMark>,
    last_fence: u64,
    is_down: bool,
    hangs: bool,
}

type Result<T> = std::result::Result<T, StateError>;

impl MemoryStore {
    pub(crate) fn new(clock: Arc<TestClock>) -> Arc<Self> {
        Arc::new(Self { clock, kept: Mutex::default() })
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.kept().is_down = is_down;
    }

    /// From now on nobody learns who holds a lease: the question is never answered.
    pub(crate) fn hang(&self) {
        self.kept().hangs = true;
    }

    /// Gives a lease to somebody else, as if it had run out.
    pub(crate) async fn take_away(&self, resource: &str, ttl: Duration) {
        self.kept().leases.remove(resource).expect("somebody holds it");
        self.acquire(resource, "a stranger", ttl).await.unwrap();
    }

    pub(crate) fn served_to(&self, sync: &str) -> Option<Timestamp> {
        self.kept().marks.get(&SyncName::new(sync)).map(|mark| mark.served_to)
    }

    pub(crate) fn leases_held(&self) -> usize {
        self.kept().leases.len()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn up(&self) -> Result<MutexGuard<'_, Kept>> {
        let kept = self.kept();
        if kept.is_down {
            return Err(StateError::storage("the test's store is down", "as the test wants"));
        }
        Ok(kept)
    }
}

impl Kept {
    fn demand(&self, lease: &Lease) -> Result<()> {
        let held = self.leases.get(&lease.resource).filter(|held| held.fence == lease.fence);
        held.map(|_| ()).ok_or_else(|| StateError::LeaseLost { resource: lease.resource.clone() })
    }
}

#[async_trait]
impl Leases for MemoryStore {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        let mut kept = self.up()?;
        let (resource, now) = (resource.to_owned(), self.clock.now());
        let before = kept.leases.get(&resource);
        if let Some(Lease { holder, expires_at, .. }) = before.filter(|before| before.expires_at > now) {
            return Err(StateError::Busy { resource, holder: holder.clone(), expires_at: *expires_at });
        }
        let taken_over = before.is_some();
        kept.last_fence += 1;
        let (fence, holder, expires_at) = (kept.last_fence, holder.to_owned(), now.after(ttl));
        let lease = Lease { resource: resource.clone(), fence, holder, expires_at, taken_over };
        kept.leases.insert(resource, lease.clone());
        Ok(lease)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let mut kept = self.up()?;
        kept.demand(lease)?;
        let renewed = Lease { expires_at: self.clock.now().after(ttl), ..lease.clone() };
        kept.leases.insert(lease.resource.clone(), renewed.clone());
        Ok(renewed)
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let mut kept = self.up()?;
        kept.demand(lease)?;
        kept.leases.remove(&lease.resource);
        Ok(())
    }

    async fn holder(&self, resource: &str) -> Result<Option<Lease>> {
        if self.kept().hangs {
            return std::future::pending().await;
        }
        let held = self.up()?.leases.get(resource).cloned();
        Ok(held.filter(|held| held.expires_at > self.clock.now()))
    }
}

#[async_trait]
impl Schedules for MemoryStore {
    async fn schedule_mark(&self, sync: &SyncName) -> Result<Option<ScheduleMark>> {
        Ok(self.up()?.marks.get(sync).cloned())
    }

    async fn set_schedule_mark(&self, sync: &SyncName, mark: &ScheduleMark, lease: &Lease) -> Result<()> {
        let mut kept = self.up()?;
        kept.demand(lease)?;
        kept.marks.insert(sync.clone(), mark.clone());
        Ok(())
    }
}
