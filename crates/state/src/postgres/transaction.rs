//! Several statements that take effect together.

use convoke_core::StateError;
use convoke_core::state::Lease;
use sqlx::PgConnection;

use super::PostgresState;
use super::borrowed::{Borrowed, in_time, is_settled};
use super::sql::held;
use crate::fault::Fault;

/// A transaction that was begun. Dropping it undoes it.
#[derive(Debug)]
pub(super) struct Transaction<'s> {
    state: &'s PostgresState,
    action: &'static str,
    lease: Option<&'s Lease>,
    borrowed: Borrowed,
}

impl PostgresState {
    /// Begins a transaction that needs no lease.
    pub(super) async fn begin(&self, action: &'static str) -> Result<Transaction<'_>, StateError> {
        self.demand_writing(action)?;
        let mut borrowed = self.borrow(action).await?;
        let begun = in_time(self.patience, sqlx::raw_sql("BEGIN").execute(borrowed.connection())).await;
        match begun {
            Ok(_) => Ok(Transaction { state: self, action, lease: None, borrowed }),
            Err(error) => Err(self.explain(action, error)),
        }
    }

    /// Begins a transaction under a lease, which nobody takes over until it ends; refuses it unless the lease is the
    /// newest of its resource, held, and not expired.
    pub(super) async fn begin_under<'s>(
        &'s self,
        action: &'static str,
        lease: &'s Lease,
    ) -> Result<Transaction<'s>, StateError> {
        self.doubts.refuse(lease)?;
        let mut transaction = self.begin(action).await?;
        transaction.lease = Some(lease);
        let query = sqlx::query_as(held!()).bind(self.clock.ahead()).bind(&lease.resource);
        let query = query.bind(lease.fence.cast_signed());
        let found: Result<Option<(i64,)>, _> =
            in_time(self.patience, query.fetch_optional(transaction.connection())).await;
        match found {
            Ok(Some(_)) => Ok(transaction),
            Ok(None) => transaction.end(Err(lost(lease).into())).await,
            Err(error) => transaction.end(Err(error.into())).await,
        }
    }

    /// Runs the statements of a transaction; see [`Transaction::end`].
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        in_time(self.patience, work).await
    }
}

impl Transaction<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.borrowed.connection()
    }

    /// Commits if the work was done, else undoes it; tells how it went.
    ///
    /// Whatever fails before the commit is sent is certainly not done, also if the connection breaks.
    pub(super) async fn end<T>(mut self, worked: Result<T, Fault>) -> Result<T, StateError> {
        let value = match worked {
            Ok(value) => value,
            Err(fault) => return Err(self.undo(fault).await),
        };
        let (state, action) = (self.state, self.action);
        let pending = self.lease.map(|lease| state.doubts.watch(lease));
        let committed = in_time(state.patience, sqlx::raw_sql("COMMIT").execute(self.connection())).await;
        match committed {
            Err(error) if !is_settled(&error) => Err(state.server.unconfirmed(action, error)),
            committed => {
                if let Some(pending) = pending {
                    pending.settle();
                }
                state.told(action, self.borrowed, committed.map(drop))?;
                Ok(value)
            }
        }
    }

    async fn undo(mut self, fault: Fault) -> StateError {
        let undone = in_time(self.state.patience, sqlx::raw_sql("ROLLBACK").execute(self.connection())).await;
        let told = self.state.explain(self.action, fault);
        // A connection that cannot even do that is closed, which undoes it as well.
        if undone.is_ok() {
            self.borrowed.give_back();
        }
        told
    }
}

pub(super) fn lost(lease: &Lease) -> StateError {
    StateError::LeaseLost { resource: lease.resource.clone() }
}
