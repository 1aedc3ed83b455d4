//! Who may hold how much of the memory limit.
//!
//! The stock pool gives each operator that can spill an equal share, whether the others use theirs or not; a query of ten
//! operators then spills when a tenth of the limit is used. Here an operator may hold more than its share while there is
//! room: others keep a part of theirs, and a part of the limit stays free for what cannot spill.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// The part of its share that nobody else may borrow: one in so many.
const KEPT_OF_SHARE: usize = 4;

/// What may be borrowed: three quarters of the limit.
const LENDABLE: (usize, usize) = (3, 4);

/// A memory limit whose operators lend each other what they do not use.
#[derive(Debug)]
pub(crate) struct LendingPool {
    limit: usize,
    held: Mutex<Held>,
}

/// Bytes.
#[derive(Debug, Default)]
struct Held {
    /// By each consumer that can spill.
    spillable: HashMap<usize, usize>,
    unspillable: usize,
}

impl LendingPool {
    /// `limit` in bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionError {
        DataFusionError::ResourcesExhausted(format!(
            "{} cannot have {additional} bytes more than its {} of a limit of {}",
            reservation.consumer().name(),
            reservation.size(),
            self.limit
        ))
    }
}

impl Held {
    /// What a consumer that can spill holds, or all others together.
    fn of(&mut self, consumer: &MemoryConsumer) -> &mut usize {
        match self.spillable.get_mut(&consumer.id()) {
            Some(held) => held,
            None => &mut self.unspillable,
        }
    }

    fn all(&self) -> usize {
        self.unspillable + self.spillable.values().sum::<usize>()
    }

    /// Whether a consumer that can spill may hold `wanted` in all.
    fn may_hold(&self, limit: usize, consumer: usize, wanted: usize) -> bool {
        let for_spilling = limit.saturating_sub(self.unspillable);
        let share = for_spilling / self.spillable.len().max(1);
        if wanted <= share {
            return true;
        }
        let kept = share / KEPT_OF_SHARE;
        let others = self.spillable.iter().filter(|(other, _)| **other != consumer);
        let others: usize = others.map(|(_, held)| (*held).max(kept)).sum();
        others + wanted <= for_spilling / LENDABLE.1 * LENDABLE.0
    }
}

impl MemoryPool for LendingPool {
    fn name(&self) -> &'static str {
        "lending"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.held().spillable.insert(consumer.id(), 0);
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.held().spillable.remove(&consumer.id());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.held().of(reservation.consumer()) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *self.held().of(reservation.consumer()) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let mut held = self.held();
        let of_consumer = held.spillable.get(&consumer.id()).copied();
        let is_granted = match of_consumer {
            Some(of_consumer) => held.may_hold(self.limit, consumer.id(), of_consumer + additional),
            None => held.all() + additional <= self.limit,
        };
        if !is_granted {
            return Err(self.refused(reservation, additional));
        }
        *held.of(consumer) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.held().all()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for LendingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, lent where they are not used", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LIMIT: usize = 1_200;

    fn pool() -> Arc<dyn MemoryPool> {
        Arc::new(LendingPool::new(LIMIT))
    }

    fn spilling(pool: &Arc<dyn MemoryPool>, name: &str) -> MemoryReservation {
        MemoryConsumer::new(name).with_can_spill(true).register(pool)
    }

    #[test]
    fn one_holds_what_the_others_leave_but_for_a_part_of_their_shares() {
        let pool = pool();
        let (busy, idle) = (spilling(&pool, "busy"), spilling(&pool, "idle"));
        // Three quarters of the limit, less a quarter of the other's half.
        busy.try_grow(750).expect("nobody else needs it");
        busy.try_grow(1).expect_err("the other keeps a part of its share");
        idle.try_grow(600).expect("a share is always granted");
        idle.try_grow(1).expect_err("nothing is left to be lent");
        drop(idle);
        assert_eq!(pool.reserved(), 750);
        busy.try_grow(150).expect("the other has gone");
    }

    #[test]
    fn what_cannot_spill_gets_what_is_there_and_is_taken_from_all_shares() {
        let pool = pool();
        let one = spilling(&pool, "one");
        let fixed = MemoryConsumer::new("fixed").register(&pool);
        one.try_grow(900).expect("it is alone");
        fixed.try_grow(301).expect_err("the limit holds");
        fixed.try_grow(300).expect("there is room");
        one.try_grow(1).expect_err("its share is smaller now");
        one.shrink(900);
        assert_eq!(pool.reserved(), 300);
        one.try_grow(900).expect("all of what is left is its share");
    }
}
