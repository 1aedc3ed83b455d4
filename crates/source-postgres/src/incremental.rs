//! Which rows a later run reads, so that none is missed.
//!
//! # The question
//!
//! A read sees what was committed when its snapshot `S` was opened. The next one has to read every row that was committed
//! since, and may read more: what it reads again and is as it was counts as unchanged and costs nothing but the read. So
//! each read leaves a *bound* behind, and the next one reads every row at or above it. The bound has to lie at or below
//! the sign of every row that any transaction can commit after `S`. Such a transaction either ran when `S` was opened, or
//! began later. It is not enough to look at the rows that were read: a transaction that was under way commits rows whose
//! sign is older than the newest that was seen.
//!
//! Everything at or above the bound is one statement, in one snapshot, in no order and without a limit: neither does it
//! matter how many rows have the same value, nor is a second column needed to tell them apart.
//!
//! # By a column of times
//!
//! *Assumption.* A row that a transaction commits has a value not older than the transaction's start, by the server's
//! clock, less `overlap`. So it is with `now()`, which is the start; with `clock_timestamp()`; and with a writer's own
//! clock, if that is behind by no more than `overlap`.
//!
//! Just before `S` we look for the transactions that run (`running.rs`) and take the earliest start, or the time of the
//! look if there is none. Whoever was not seen began during the look or after it, and so not before that time. (A
//! server process knows its start a moment before it shows it to others. The default `overlap` of a minute is far beyond
//! that moment.) The bound is this time less `overlap`; or the greatest value that was read, if that is earlier, so that
//! where nothing is written for a long time a clock that is further behind does no harm either.
//! A `timestamp` and a `date` do not say in which zone they are meant; no zone is further behind UTC than twelve hours, so
//! they have twelve hours of overlap more.
//!
//! The look needs to see transactions of others, which takes the role `pg_read_all_stats`; without it a read is refused
//! and not made in the dark. A standby does not show what runs on its primary, and is refused too.
//!
//! When a *prepared* transaction began is not kept anywhere, and a session with `track_activities = off` does not tell it.
//! While there is such a transaction in the database the bound stays where it was: whatever is undated now ran already when
//! the bound was set, and the bound lies below it, or began later. Without an earlier bound there is none, and the next run
//! reads everything again.
//!
//! # By a column of numbers
//!
//! *Assumption.* Numbers are given out in rising order: whoever draws one gets a greater one than anybody has committed
//! before. So it is with a sequence that does not cache, and not with one that does, nor beside somebody who puts in greater
//! numbers by hand.
//!
//! Before the look we ask for the greatest number, and then for the time: a *moment*. Whoever draws after it gets a greater
//! one. So if all that runs when `S` is opened began at the moment or later, all that `S` does not see lies above its
//! number, which is a bound. Where something older runs, a moment of an earlier read serves: a few are remembered, and the
//! bound is the number of the last one that does not lie behind the earliest start. Where nothing runs, that is this read's
//! own. All of this looks forward from a moment, so it holds whatever was counted before it.
//!
//! An *earlier* moment, or an earlier bound, speaks of one count. It holds while numbers go on from there, and is forgotten
//! as soon as something says that they may not: another column, other columns, another table or another database; a part of
//! the table that has gone, or has another file, as after TRUNCATE (and VACUUM FULL, which we cannot tell from it); a
//! greatest number that is smaller than one before. The last means that the newest rows were deleted, or that counting began
//! anew and the read did not ask for what is low. If the read was not a whole one, the next one is, and it begins with
//! nothing but its own moment. A part with another file is a new one, and read whole by the next. What is not seen is a
//! count that begins anew and has passed its old end before the next read, without TRUNCATE or behind a view or a query: for
//! that there is `full_every`.
//!
//! # By the versions of rows
//!
//! PostgreSQL keeps with each row the number of the transaction that wrote it, and each snapshot says below which number all
//! transactions have ended. That is the bound. Nothing is assumed of clocks, columns or writers: a transaction that has
//! not ended has a number at or above it, so have its subtransactions, whose numbers are drawn after its own, and so has a
//! prepared one. The number that a row keeps has 32 bits. As long as the bound is less than 2³⁰ transactions old, a
//! written row is told by them without doubt; a very old row may look like a new one, and is read in vain. A bound that is
//! older, or lies in the future, makes the next read a whole one.
//!
//! # What else makes a read a whole one
//!
//! Rows can come into sight without being written: a partition is attached, a table is put in the place of another. So the
//! parts of a table are remembered, and one that was not there before is read whole; where none is left that was there
//! before, all is. Another cluster, or one that was restored or promoted, counts transactions in another way, and may have
//! lost some: it is told by its identifier and its timeline. Other columns mean other records, and a bound on one column
//! says nothing of another. Rows that a view, a policy or a join shows for another reason than a write have no sign of it,
//! nor have rows that are gone: for them there is `full_every`.
//!
//! # With a filter
//!
//! A read of changes says nothing of what is not in it. A row that was written so that the filter of its sync, or the
//! query, leaves it out from then on looks like one that was not written: what stands at the destination stays there until
//! a whole read in `mode: mirror`, and in `mode: upsert` for ever. That it is gone could be told of it only if no other
//! record has its key, which nobody says. For that there are `full_every` and, in every mode that deletes, `deleted`: it
//! can name what the filter leaves out, and such a record passes the filter.

use std::time::Duration;

use convoke_core::spec::{ChangeSign, Incremental, NullCursors};
use serde::{Deserialize, Serialize};

use crate::moment::{self, Reach, postgres_micros};
use crate::relation::quoted;
use crate::running::Running;
use crate::scalar::Scalar;
use crate::snapshot::{Numbered, Snapshot};
use crate::tracker::Seen;

/// A bound of transactions that is older than this is not compared any more.
const MAX_TRANSACTIONS: i64 = 1 << 30;

/// No zone is further behind UTC.
const ZONES: Duration = Duration::from_secs(12 * 3600);

/// Moments that are remembered for numbers. Without one that is forgotten the bound is an earlier one.
const MAX_NUMBERS: usize = 32;

/// What the sign of a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    TimestampTz,
    Timestamp,
    Date,
    Number,
    Version,
}

impl Kind {
    /// What a column of this type tells; none if it has no order that grows with time.
    pub(crate) fn of(scalar: Scalar) -> Option<Self> {
        match scalar {
            Scalar::TimestampTz => Some(Self::TimestampTz),
            Scalar::Timestamp => Some(Self::Timestamp),
            Scalar::Date => Some(Self::Date),
            Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => Some(Self::Number),
            _ => None,
        }
    }
}

/// A part of a table: its number in the catalogue and that of its file, which TRUNCATE replaces. The file is zero where
/// nothing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartId(pub(crate) u32, pub(crate) u32);

/// From where a read of changes begins; stands in its split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Since {
    kind: Kind,
    bound: i64,
    /// Parts of the table that were not there before.
    new_parts: Vec<u32>,
}

/// What a position remembers of the last read. Times are microseconds since 1970, by the server's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    kind: Kind,
    /// The column that tells changes, if one does.
    #[serde(default)]
    column: Option<String>,
    /// Digest of the relation and the columns that were read.
    shape: String,
    /// The cluster, its timeline and the database.
    database: Option<String>,
    /// The parts of the table.
    parts: Vec<PartId>,
    /// When everything was read last.
    whole_at: i64,
    /// In the unit of the kind; none if none is known to be low enough.
    bound: Option<i64>,
    /// When which was the greatest number; both rise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    numbers: Vec<(i64, i64)>,
    /// There is no bound because the greatest number was smaller than before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_fallen: bool,
}

/// What a relation is like when a read is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) kind: Kind,
    pub(crate) column: Option<String>,
    pub(crate) shape: String,
    pub(crate) database: Option<String>,
    pub(crate) parts: Vec<PartId>,
    /// Microseconds since 1970.
    pub(crate) now: i64,
    /// The number that the next transaction gets.
    pub(crate) next_transaction: i64,
}

/// Why everything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    First,
    Due,
    Unbounded,
    Fallen,
    OtherColumns,
    OtherTable,
    OtherDatabase,
    TooOld,
}

impl Whole {
    /// What there is to tell of it.
    pub(crate) fn notice(self) -> Option<&'static str> {
        match self {
            Self::First => None,
            Self::Due => Some("everything is read, as `full_every` says"),
            Self::Unbounded => Some(
                "everything is read again: the last read does not tell from where on, because a transaction was \
                     prepared, went on for a long time, or was of a session with `track_activities = off`, when it was made",
            ),
            Self::Fallen => Some(
                "everything is read again: the greatest number in the column that tells changes had fallen at the last \
                     read, because its row was deleted or counting began anew",
            ),
            Self::OtherColumns => {
                Some("everything is read again: the table, its columns or the column that tells changes are others now")
            }
            Self::OtherTable => Some("everything is read again: the table was emptied, or another is in its place"),
            Self::OtherDatabase => {
                Some("everything is read again: the database is another one, was restored, or its server was promoted")
            }
            Self::TooOld => Some("everything is read again: the last read is too many transactions ago"),
        }
    }
}

/// Decides from where on a run reads.
pub(crate) fn since(stored: Option<&Mark>, standing: &Standing, full_every: Option<Duration>) -> Result<Since, Whole> {
    let mark = stored.ok_or(Whole::First)?;
    if !mark.has_columns_of(standing) {
        return Err(Whole::OtherColumns);
    }
    if mark.database != standing.database {
        return Err(Whole::OtherDatabase);
    }
    if full_every.is_some_and(|period| standing.now.saturating_sub(mark.whole_at) >= micros(period)) {
        return Err(Whole::Due);
    }
    let is_new = |part: &&PartId| !mark.parts.contains(part);
    let new_parts: Vec<u32> = standing.parts.iter().filter(is_new).map(|part| part.0).collect();
    let has_parts = |parts: &[PartId]| !parts.is_empty();
    let is_replaced = has_parts(&standing.parts) && new_parts.len() == standing.parts.len();
    if is_replaced || has_parts(&mark.parts) != has_parts(&standing.parts) {
        return Err(Whole::OtherTable);
    }
    let bound = mark.bound.ok_or(if mark.has_fallen { Whole::Fallen } else { Whole::Unbounded })?;
    let age = standing.next_transaction.saturating_sub(bound);
    if mark.kind == Kind::Version && !(0..MAX_TRANSACTIONS).contains(&age) {
        return Err(Whole::TooOld);
    }
    Ok(Since { kind: mark.kind, bound, new_parts })
}

impl Since {
    /// The condition of SQL that says the same.
    pub(crate) fn condition(&self, by: &ChangeSign) -> String {
        let mut condition = match by {
            ChangeSign::Column { name, nulls, .. } => {
                let column = quoted(name);
                // A row without a value is refused by whoever sees it.
                let (NullCursors::Read | NullCursors::Refuse) = nulls;
                format!("{column} >= {} OR {column} IS NULL", self.literal())
            }
            // The numbers of a snapshot count on over the 32 bits that a row keeps.
            ChangeSign::RowVersions => format!(
                "pg_catalog.age(xmin) <= pg_catalog.age('{}'::pg_catalog.xid)",
                self.bound & i64::from(u32::MAX)
            ),
        };
        if !self.new_parts.is_empty() {
            let parts = self.new_parts.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            condition.push_str(&format!(" OR tableoid = ANY ('{{{parts}}}'::pg_catalog.oid[])"));
        }
        condition
    }

    fn literal(&self) -> String {
        let written = |word: &str, zone: &str| {
            let mut text = Vec::new();
            // A time of day within a day is well formed.
            let _ = moment::write_timestamp(self.bound, (zone, Reach::Far), &mut text);
            format!("{word} '{}'", String::from_utf8_lossy(&text))
        };
        match self.kind {
            Kind::TimestampTz => written("TIMESTAMPTZ", "+00:00"),
            Kind::Timestamp => written("TIMESTAMP", ""),
            Kind::Date => {
                let mut text = Vec::new();
                moment::write_date(i32::try_from(self.bound).unwrap_or(i32::MIN), Reach::Far, &mut text);
                format!("DATE '{}'", String::from_utf8_lossy(&text))
            }
            Kind::Number | Kind::Version => format!("({})", self.bound),
        }
    }
}

/// What a read that has ended says of where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) standing: Standing,
    pub(crate) is_whole: bool,
    pub(crate) snapshot: Snapshot,
    pub(crate) seen: Seen,
}

impl Mark {
    fn has_columns_of(&self, standing: &Standing) -> bool {
        self.kind == standing.kind && self.column == standing.column && self.shape == standing.shape
    }

    /// What to remember after a read.
    pub(crate) fn after(stored: Option<&Self>, arrival: &Arrival, incremental: &Incremental) -> Self {
        let Arrival { standing, is_whole, snapshot, seen } = arrival;
        // Of another column, other columns or another table, or of another database, nothing is known.
        let stored = stored.filter(|mark| mark.has_columns_of(standing) && mark.database == standing.database);
        let overlap = match &incremental.by {
            ChangeSign::Column { overlap, .. } => *overlap,
            ChangeSign::RowVersions => Duration::ZERO,
        };
        let before = stored.and_then(|mark| mark.bound);
        let count = match (standing.kind, &snapshot.running) {
            (Kind::Version, _) => Count::bounded(Some(snapshot.first_running)),
            (Kind::Number, Some(running)) => next_number(stored, arrival, (snapshot.number, running)),
            (kind, Some(running)) => Count::bounded(next_time(kind, *seen, (running, overlap), before)),
            (_, None) => Count::bounded(before),
        };
        Self {
            kind: standing.kind,
            column: standing.column.clone(),
            shape: standing.shape.clone(),
            database: standing.database.clone(),
            parts: standing.parts.clone(),
            whole_at: stored.filter(|_| !is_whole).map_or(snapshot.opened_at, |mark| mark.whole_at),
            bound: count.bound,
            numbers: count.numbers,
            has_fallen: count.has_fallen,
        }
    }

    /// Whether all parts are still there as they were.
    fn has_all_parts(&self, standing: &Standing) -> bool {
        self.parts.iter().all(|part| standing.parts.contains(part))
    }
}

/// From where the next read begins, and by what that was told.
#[derive(Default)]
struct Count {
    bound: Option<i64>,
    numbers: Vec<(i64, i64)>,
    has_fallen: bool,
}

impl Count {
    fn bounded(bound: Option<i64>) -> Self {
        Self { bound, ..Self::default() }
    }
}

fn next_time(kind: Kind, seen: Seen, (running, overlap): (&Running, Duration), before: Option<i64>) -> Option<i64> {
    if running.undated > 0 {
        return before;
    }
    let overlap = if kind == Kind::TimestampTz { overlap } else { overlap.saturating_add(ZONES) };
    let earliest = postgres_micros(running.since.saturating_sub(micros(overlap)));
    let earliest = if kind == Kind::Date { moment::day_of(earliest) } else { earliest };
    let known = seen.greatest.max(before);
    Some(known.map_or(earliest, |known| known.min(earliest)))
}

fn next_number(stored: Option<&Mark>, arrival: &Arrival, (number, running): (Option<Numbered>, &Running)) -> Count {
    let moment = number.map(|number| (number.at, number.greatest.unwrap_or(i64::MIN)));
    let last = stored.and_then(|mark| mark.numbers.last());
    let has_fallen = moment.zip(last).is_some_and(|((_, greatest), (_, last))| greatest < *last);
    // What was known before speaks of one count.
    let known = stored.filter(|mark| !has_fallen && mark.has_all_parts(&arrival.standing));
    let mut numbers = known.map_or_else(Vec::new, |mark| mark.numbers.clone());
    numbers.extend(moment);
    if has_fallen && !arrival.is_whole {
        return Count { bound: None, numbers, has_fallen };
    }
    let settled = numbers.iter().rposition(|(at, _)| *at <= running.since).filter(|_| running.undated == 0);
    numbers.drain(..settled.unwrap_or(0));
    // The first is what the bound may come from as long as something goes on.
    if let surplus @ 1.. = numbers.len().saturating_sub(MAX_NUMBERS) {
        numbers.drain(1..=surplus);
    }
    let bound = settled.map(|_| numbers[0].1).or(known.and_then(|mark| mark.bound));
    Count { bound, numbers, has_fallen: false }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
