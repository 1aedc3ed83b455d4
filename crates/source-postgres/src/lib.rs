//! A table or query of a PostgreSQL database as a source.
//!
//! Each run reads everything, in one read-only REPEATABLE READ snapshot, by binary COPY into Arrow. Nothing tells
//! cheaply that a table is as it was, so no discovery is ever `unchanged`; the fingerprint of what was read, a digest
//! of the COPY stream, says afterwards. The one split names the relation and its columns, not its contents: a plan that
//! was interrupted goes on although rows have changed since, but deletes nothing for want of a record, and the next run
//! corrects what it sent; it is given up when the columns have changed.
//!
//! Promises: the session writes nothing, whatever the query says; what is read was all true at one moment, also if the
//! table is emptied or replaced while the read begins; a stream that is dropped ends its query; a network that
//! falls silent ends in an error; a message never shows a value.
//!
//! | PostgreSQL | Arrow | what to know |
//! | --- | --- | --- |
//! | boolean, smallint, integer, bigint, real, double precision | the same | NaN and infinities are kept |
//! | numeric(p, s) of a table or view, p ≤ 38 | Decimal128 | NaN is NULL |
//! | other numeric | text, every digit | also of an expression, whose precision the protocol's client does not tell |
//! | text, varchar, name, citext, enums, json, jsonb, uuid, time | text | |
//! | char(n) | text | without the blanks at its end, which mean nothing there |
//! | bytea | text | `\x` and hexadecimal digits |
//! | date | Date32 | |
//! | timestamp, timestamptz | Timestamp in µs, the latter with UTC | |
//! | arrays of these | a JSON array as text | |
//! | domains | as what they are over | |
//!
//! Dates and times that are infinite or outside the years 1 to 9999 are NULL: nothing further on could hold them. How
//! many cells that befell is logged for each column. Any other type is an error that says how to cast it.

mod batch;
mod cells;
mod columns;
mod copy_format;
mod failure;
mod json_array;
mod moment;
mod numeric;
mod reading;
mod relation;
mod scalar;
mod session;
mod source;
mod split;

pub use source::PostgresSource;
