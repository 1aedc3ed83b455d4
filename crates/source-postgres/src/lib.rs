//! A table or query of a PostgreSQL database as a source.
//!
//! A run reads everything, or what has changed since the last one (how: `incremental.rs`), in one read-only REPEATABLE READ
//! snapshot, by binary COPY into Arrow, and of that only the columns which the sync reads. Nothing tells
//! cheaply that a table is as it was, so no discovery is ever `unchanged`; the fingerprint of what was read, a digest
//! of the COPY stream, says afterwards. A split names the relation and its columns, not its contents: a plan that
//! was interrupted goes on although rows have changed since, but deletes nothing for want of a record, and the next run
//! corrects what it sent; it is given up when the columns have changed.
//!
//! Promises: the session writes nothing, whatever the query says; what is read was all true at one moment, also if the
//! table is emptied or replaced while the read begins; a stream that is dropped ends its query; a network that
//! falls silent ends in an error; no snapshot is held longer than `max_snapshot`; a message never shows a value.
//!
//! # Several sessions
//!
//! With `parallel` a table, with all its partitions, is cut into ranges of blocks, each a split. One session exports its
//! snapshot and holds it; each range is read by a session that joins it (`coordinator.rs`). What has no blocks (a view, a
//! query, a foreign table), a server before version 14, which would scan the whole table for each range, and changes,
//! which are few, are read by one session. Each session has a thread of its own, so that decoding may take as many cores
//! as there are sessions, whatever runtime takes the records.
//!
//! A connection that is lost is an [interruption](convoke_core::error::SourceErrorKind::Interrupted). A range is then read
//! again in the snapshot of the others, as long as the session that exported it lives; else the whole table is to be read
//! again. What is one split is read again in a new snapshot: nothing else was read in the old one, and where the next read
//! begins is told by the snapshot that was read to its end.
//!
//! # Types
//!
//! | PostgreSQL | Arrow | what to know |
//! | --- | --- | --- |
//! | boolean, smallint, integer, bigint, real, double precision | the same | NaN and infinities are kept |
//! | oid, xid, cid | Int64 | |
//! | numeric(p, s) of a table or view, p ≤ 38 | Decimal128 | NaN is out of range |
//! | other numeric | text, every digit | also of an expression, whose precision the protocol's client does not tell |
//! | text, varchar, name, "char", citext, enums, json, jsonb, xml, uuid, time, timetz | text | |
//! | char(n) | text | without the blanks at its end, which mean nothing there |
//! | bytea | text | `\x` and hexadecimal digits |
//! | date | Date32 | |
//! | timestamp, timestamptz | Timestamp in µs, the latter with UTC | |
//! | interval | text | ISO 8601: `P1Y2M3DT4H5M6.7S` |
//! | inet, cidr, macaddr, macaddr8 | text | a host without its mask |
//! | bit(n), varbit | text | zeros and ones |
//! | arrays of these | a JSON array as text | |
//! | domains, also over domains and arrays | as what they are over | |
//! | money, ranges, geometric types, tsvector, hstore, composites, arrays of these, and any other type | as `unsupported` says | |
//!
//! `unsupported: error` refuses such a column if the sync reads it, and says how to cast it; `skip` leaves it out and
//! tells so; with `text` the server casts it (money as the number that it is).
//!
//! Dates and times that are infinite or outside the years 1 to 9999 are out of range, and so is what is not finite in a
//! Decimal128: nothing further on could hold them. `out_of_range: error` ends the read at the first and names its
//! column; with `empty` they are NULL, and how many cells that befell is logged for each column; with `text` all values of
//! such columns are text, `infinity` and `0044-03-15 BC` among them. That holds for the elements of arrays, too.

mod batch;
mod cells;
mod columns;
mod coordinator;
mod copy_format;
mod failure;
mod incremental;
mod interval;
mod json_array;
mod moment;
mod network;
mod numeric;
mod opening;
mod ranges;
mod reading;
mod relation;
mod running;
mod scalar;
mod session;
mod snapshot;
mod source;
mod span;
mod split;
mod standing;
mod tracker;
mod work;

pub use columns::ColumnsRead;
pub use source::PostgresSource;
