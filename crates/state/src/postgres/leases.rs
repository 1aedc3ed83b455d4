//! Leases by the server's clock.
//!
//! A row stays when a lease ends, so that fences never start again and a successor learns whether the holder before it
//! let go in order. Each method is one statement. All of them change the row, so they wait for every transaction that
//! holds it, and what they find is what those left.

use std::time::Duration;

use async_trait::async_trait;
use convoke_core::state::{Lease, Leases};
use convoke_core::{StateError, Timestamp};

use super::PostgresState;
use super::sql::now;
use super::transaction::lost;
use crate::fault::Fault;

/// Takes the lease unless it is held. `$2`: resource, `$3`: holder, `$4`: milliseconds to hold it.
const ACQUIRE: &str = concat!(
    "INSERT INTO leases AS before (resource, fence, holder, expires_at, taken_over, released)
     VALUES ($2, 1, $3, $4 + ",
    now!(),
    ", false, false)
     ON CONFLICT (resource) DO UPDATE SET fence = before.fence + 1, holder = excluded.holder,
         taken_over = NOT before.released, released = false, expires_at = $4 + ",
    now!(),
    " WHERE before.released OR before.expires_at <= ",
    now!(),
    " RETURNING fence, expires_at, taken_over"
);

/// `$2`: resource, `$3`: fence, `$4`: milliseconds to hold it from now on.
const RENEW: &str = concat!(
    "UPDATE leases SET expires_at = $4 + ",
    now!(),
    " WHERE resource = $2 AND fence = $3 AND NOT released RETURNING holder, expires_at, taken_over"
);

const HOLDER: &str = concat!(
    "SELECT fence, holder, expires_at, taken_over FROM leases
     WHERE resource = $2 AND NOT released AND expires_at > ",
    now!()
);

#[async_trait]
impl Leases for PostgresState {
    /// The holder of a lease is never known to be dead: a lease ends by being released, or by running out.
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Lease, StateError> {
        let query = sqlx::query_as(ACQUIRE).bind(self.clock.ahead()).bind(resource).bind(holder).bind(millis(ttl));
        let acquired: Option<(i64, i64, bool)> = self.change("acquiring a lease", query).await?;
        let Some((fence, expires_at, taken_over)) = acquired else { return Err(self.busy(resource).await?) };
        // What was sent under an earlier fence was made before this, or is refused from now on.
        self.doubts.end(resource);
        Ok(Lease {
            resource: resource.to_owned(),
            fence: fence.cast_unsigned(),
            holder: holder.to_owned(),
            expires_at: Timestamp(expires_at),
            taken_over,
        })
    }

    /// A lease that has expired can still be renewed as long as nobody else took it.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StateError> {
        let query = sqlx::query_as(RENEW).bind(self.clock.ahead()).bind(&lease.resource);
        let query = query.bind(lease.fence.cast_signed()).bind(millis(ttl));
        let renewed: Option<(String, i64, bool)> = self.change("renewing a lease", query).await?;
        let (holder, expires_at, taken_over) = renewed.ok_or_else(|| lost(lease))?;
        let (resource, fence) = (lease.resource.clone(), lease.fence);
        Ok(Lease { resource, fence, holder, expires_at: Timestamp(expires_at), taken_over })
    }

    async fn release(&self, lease: &Lease) -> Result<(), StateError> {
        let query = sqlx::query_as(
            "UPDATE leases SET released = true WHERE resource = $1 AND fence = $2 AND NOT released RETURNING fence",
        );
        let query = query.bind(&lease.resource).bind(lease.fence.cast_signed());
        let released: Option<(i64,)> = self.change("releasing a lease", query).await?;
        released.map(drop).ok_or_else(|| lost(lease))
    }

    async fn holder(&self, resource: &str) -> Result<Option<Lease>, StateError> {
        let query = sqlx::query_as(HOLDER).bind(self.clock.ahead()).bind(resource);
        let held: Option<(i64, String, i64, bool)> = self.find("looking up a lease", query).await?;
        Ok(held.map(|(fence, holder, expires_at, taken_over)| Lease {
            resource: resource.to_owned(),
            fence: fence.cast_unsigned(),
            holder,
            expires_at: Timestamp(expires_at),
            taken_over,
        }))
    }
}

impl PostgresState {
    /// Tells who has the lease that could not be had. It may have been released since; that changes nothing about it.
    async fn busy(&self, resource: &str) -> Result<StateError, StateError> {
        let action = "looking up the holder of a lease";
        let query = sqlx::query_as("SELECT holder, expires_at FROM leases WHERE resource = $1").bind(resource);
        let held: Option<(String, i64)> = self.find(action, query).await?;
        Ok(match held {
            Some((holder, expires_at)) => {
                StateError::Busy { resource: resource.to_owned(), holder, expires_at: Timestamp(expires_at) }
            }
            None => self.explain(action, Fault::conflict(format!("the lease on `{resource}`"))),
        })
    }
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 2)
}
