//! Pieces of SQL that many statements share.

/// The server's time in milliseconds. `$1` is what tests add to it. Told anew at each use, also within a transaction.
macro_rules! now {
    () => {
        "(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + $1)"
    };
}

/// Finds the lease's row if it is held and not expired, and locks it until the end of the transaction. A statement that
/// had to wait for the lock looks at the row as it is then. `$2` is the resource, `$3` the fence.
macro_rules! held {
    () => {
        concat!(
            "SELECT fence FROM leases WHERE resource = $2 AND fence = $3 AND NOT released AND expires_at > ",
            $crate::postgres::sql::now!(),
            " FOR UPDATE"
        )
    };
}

pub(super) use {held, now};

/// Text as PostgreSQL can hold it: without the one character that it cannot.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
