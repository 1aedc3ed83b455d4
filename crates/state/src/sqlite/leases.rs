//! Leases: who may write what, until when, with a fence number that grows.
//!
//! A row stays when a lease ends, so that fences never start again and a successor learns whether the holder before
//! it let go in order.

use std::time::Duration;

use async_trait::async_trait;
use convoke_core::state::{Lease, Leases};
use convoke_core::{StateError, Timestamp};
use sqlx::SqliteConnection;

use crate::fault::Fault;
use crate::sqlite::liveness::UNASSIGNED;
use crate::sqlite::writer::Transaction;
use crate::sqlite::{SqliteState, clock};

#[async_trait]
impl Leases for SqliteState {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Lease, StateError> {
        let guarded = self.liveness().try_hold(resource);
        let wanted = Wanted { resource: resource.to_owned(), holder: holder.to_owned(), ttl, guarded };
        let acquired = self.write("acquiring a lease", |transaction| Box::pin(transaction.acquire(wanted))).await;
        match &acquired {
            Ok(lease) if guarded => self.liveness().belongs_to(resource, lease.fence),
            Err(_) if guarded => self.liveness().let_go(resource, UNASSIGNED),
            _ => {}
        }
        acquired
    }

    /// A lease that has expired can still be renewed as long as nobody else took it.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StateError> {
        // Whoever took an expired lease over from a process that still lives gets the lock when that process ends.
        let guarded = self.liveness().try_hold(&lease.resource);
        let (held, fence) = (lease.resource.clone(), lease.fence);
        let lease = lease.clone();
        let renewed =
            self.write("renewing a lease", move |transaction| Box::pin(transaction.renew(lease, ttl, guarded))).await;
        match &renewed {
            Ok(_) if guarded => self.liveness().belongs_to(&held, fence),
            Err(_) if guarded => self.liveness().let_go(&held, UNASSIGNED),
            _ => {}
        }
        renewed
    }

    async fn release(&self, lease: &Lease) -> Result<(), StateError> {
        let released = lease.clone();
        let outcome = self.write("releasing a lease", |transaction| Box::pin(transaction.release(released))).await;
        // Only the lock that goes with this lease: this process may have acquired the resource anew since.
        self.liveness().let_go(&lease.resource, lease.fence);
        outcome
    }

    async fn holder(&self, resource: &str) -> Result<Option<Lease>, StateError> {
        let (resource, clock) = (resource.to_owned(), self.clock().clone());
        self.read("looking up a lease", move |connection| {
            Box::pin(async move {
                let now = clock::now(&clock, &mut *connection).await?;
                let held = stored_lease(connection, &resource).await?;
                Ok(held.filter(|held| held.is_held_at(now)).map(|held| held.lease))
            })
        })
        .await
    }
}

impl Transaction {
    /// Refuses the operation unless the lease is the newest of its resource, held, and not expired.
    pub(super) async fn demand(&mut self, lease: &Lease) -> Result<(), Fault> {
        let is_same = |held: &Lease| held.fence == lease.fence && held.resource == lease.resource;
        if self.held.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        if !self.newest(lease).await?.is_held_at(self.now) {
            return Err(lost(lease));
        }
        self.held = Some(lease.clone());
        Ok(())
    }

    async fn acquire(&mut self, wanted: Wanted) -> Result<Lease, Fault> {
        self.held = None;
        let Wanted { resource, holder, ttl, guarded } = wanted;
        let before = stored_lease(&mut self.connection, &resource).await?;
        // A holder that had the lock would still have it if it lived. One that had not may live all the same.
        let is_dead = |before: &StoredLease| before.guarded && guarded;
        let is_held = |before: &&StoredLease| before.is_held_at(self.now) && !is_dead(before);
        if let Some(StoredLease { lease, .. }) = before.as_ref().filter(is_held) {
            let (holder, expires_at) = (lease.holder.clone(), lease.expires_at);
            return Err(StateError::Busy { resource, holder, expires_at }.into());
        }
        let fence = before.as_ref().map_or(0, |before| before.lease.fence) + 1;
        // A dead holder sends nothing any more; one that may live may have a request under way.
        let taken_over = before.is_some_and(|before| !before.released && !is_dead(&before));
        let lease = Lease { resource, fence, holder, expires_at: self.now.after(ttl), taken_over };
        sqlx::query(
            "INSERT INTO leases (resource, fence, holder, expires_at, taken_over, released, guarded)
             VALUES (?, ?, ?, ?, ?, 0, ?)
             ON CONFLICT (resource) DO UPDATE SET fence = excluded.fence, holder = excluded.holder,
                 expires_at = excluded.expires_at, taken_over = excluded.taken_over, released = 0,
                 guarded = excluded.guarded",
        )
        .bind(&lease.resource)
        .bind(lease.fence.cast_signed())
        .bind(&lease.holder)
        .bind(lease.expires_at.0)
        .bind(lease.taken_over)
        .bind(guarded)
        .execute(&mut self.connection)
        .await?;
        Ok(lease)
    }

    async fn renew(&mut self, lease: Lease, ttl: Duration, newly_guarded: bool) -> Result<Lease, Fault> {
        self.held = None;
        let newest = self.newest(&lease).await?;
        let renewed = Lease { expires_at: self.now.after(ttl), ..newest.lease };
        sqlx::query("UPDATE leases SET expires_at = ?, guarded = max(guarded, ?) WHERE resource = ?")
            .bind(renewed.expires_at.0)
            .bind(newly_guarded)
            .bind(&renewed.resource)
            .execute(&mut self.connection)
            .await?;
        Ok(renewed)
    }

    async fn release(&mut self, lease: Lease) -> Result<(), Fault> {
        self.held = None;
        self.newest(&lease).await?;
        sqlx::query("UPDATE leases SET released = 1 WHERE resource = ?")
            .bind(&lease.resource)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Finds the lease as it is stored, if nobody acquired the resource since and it was not released.
    async fn newest(&mut self, lease: &Lease) -> Result<StoredLease, Fault> {
        let stored = stored_lease(&mut self.connection, &lease.resource).await?;
        let same = stored.filter(|stored| stored.lease.fence == lease.fence && !stored.released);
        same.ok_or_else(|| lost(lease))
    }
}

/// What is asked of [`Transaction::acquire`].
struct Wanted {
    resource: String,
    holder: String,
    ttl: Duration,
    /// Whether the acquirer has the lock that goes with the lease.
    guarded: bool,
}

struct StoredLease {
    lease: Lease,
    released: bool,
    guarded: bool,
}

impl StoredLease {
    fn is_held_at(&self, now: Timestamp) -> bool {
        !self.released && self.lease.expires_at > now
    }
}

async fn stored_lease(connection: &mut SqliteConnection, resource: &str) -> Result<Option<StoredLease>, sqlx::Error> {
    let row: Option<(i64, String, i64, bool, bool, bool)> = sqlx::query_as(
        "SELECT fence, holder, expires_at, taken_over, released, guarded FROM leases WHERE resource = ?",
    )
    .bind(resource)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(fence, holder, expires_at, taken_over, released, guarded)| {
        let (resource, expires_at) = (resource.to_owned(), Timestamp(expires_at));
        StoredLease {
            lease: Lease { resource, fence: fence.cast_unsigned(), holder, expires_at, taken_over },
            released,
            guarded,
        }
    }))
}

fn lost(lease: &Lease) -> Fault {
    StateError::LeaseLost { resource: lease.resource.clone() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpenMode;

    #[tokio::test]
    async fn a_lease_found_held_is_asked_for_again_once_its_transaction_changed_leases() {
        let folder = tempfile::tempdir().unwrap();
        let state = SqliteState::open(&folder.path().join("convoke.db"), OpenMode::ReadWrite).await.unwrap();
        let lease = state.acquire("audience", "this", Duration::from_secs(60)).await.unwrap();
        let demanded = state.write("demanding a lease", move |transaction| {
            Box::pin(async move {
                transaction.demand(&lease).await?;
                transaction.demand(&lease).await?;
                transaction.release(lease.clone()).await?;
                Ok(transaction.demand(&lease).await.is_ok())
            })
        });
        assert!(!demanded.await.unwrap());
    }
}
