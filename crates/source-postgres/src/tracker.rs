//! Watches the column that tells changes while it is read.

use crate::scalar::{BadForm, Scalar, chunk};

/// What was seen of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The greatest finite value, as PostgreSQL counts: microseconds, days, or the number itself.
    pub(crate) greatest: Option<i64>,
    /// Rows without a value.
    pub(crate) nulls: u64,
}

impl Seen {
    pub(crate) fn and(self, other: Self) -> Self {
        Self { greatest: self.greatest.max(other.greatest), nulls: self.nulls + other.nulls }
    }
}

/// Watches one column of a read.
pub(crate) struct Tracker {
    pub(crate) column: usize,
    scalar: Scalar,
    pub(crate) refuses_nulls: bool,
    pub(crate) seen: Seen,
}

impl Tracker {
    pub(crate) fn new((column, scalar): (usize, Scalar), refuses_nulls: bool) -> Self {
        Self { column, scalar, refuses_nulls, seen: Seen::default() }
    }

    pub(crate) fn see(&mut self, field: Option<&[u8]>) -> Result<(), BadForm> {
        let Some(field) = field else {
            self.seen.nulls += 1;
            return Ok(());
        };
        let value = match self.scalar {
            Scalar::Date => match i32::from_be_bytes(chunk(field)?) {
                i32::MIN | i32::MAX => return Ok(()),
                day => i64::from(day),
            },
            Scalar::Timestamp | Scalar::TimestampTz => match i64::from_be_bytes(chunk(field)?) {
                i64::MIN | i64::MAX => return Ok(()),
                micros => micros,
            },
            _ => return Ok(()),
        };
        self.seen.greatest = self.seen.greatest.max(Some(value));
        Ok(())
    }
}
