//! What stands in a split and in a position.

use chrono::{DateTime, Datelike};
use convoke_core::source::{SourcePosition, Split, SplitOutcome, SplitResult};
use convoke_core::{Origin, SourceError, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::columns::Columns;
use crate::incremental::{Mark, Since};
use crate::relation::quoted;
use crate::scalar::Scalar;

/// The detail of a split. It says nothing of the rows: a table has no version that could be asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SplitDetail {
    /// Digest of the relation and its columns, see [`Columns::shape`].
    pub(crate) shape: String,
    /// The rows of a backfill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) between: Option<Bounds>,
    /// What has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Since>,
    /// A range of a table, all of whose ranges are read in one snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<Blocks>,
}

/// The rows of some blocks: from the first on, before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blocks {
    from: u64,
    /// None: to the end, wherever that is by then.
    to: Option<u64>,
}

impl Blocks {
    /// Cuts a table into so many ranges, or as many as are worth it.
    pub(crate) fn divide(blocks: u64, ranges: u64) -> Vec<Self> {
        let ranges = ranges.min(blocks / MIN_BLOCKS).max(1);
        let start = |range: u64| u64::try_from(u128::from(blocks) * u128::from(range) / u128::from(ranges));
        let range = |number: u64| {
            let to = (number + 1 < ranges).then(|| start(number + 1).unwrap_or(blocks));
            Self { from: start(number).unwrap_or(blocks), to }
        };
        (0..ranges).map(range).collect()
    }

    pub(crate) fn condition(self) -> String {
        let from = format!("ctid >= '({},0)'::pg_catalog.tid", self.from);
        match self.to {
            Some(to) => format!("{from} AND ctid < '({to},0)'::pg_catalog.tid"),
            None => from,
        }
    }
}

/// Below this a range is read before a session for it is open: 4 MB in blocks of 8 kB.
const MIN_BLOCKS: u64 = 512;

/// Which rows a backfill reads, by their times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bounds {
    /// A span of time: from the first on, before the second.
    Between { from: Option<Timestamp>, to: Option<Timestamp> },
    /// Without a time.
    Untimed,
}

impl SplitDetail {
    pub(crate) fn of(split: &Split) -> Result<Self, SourceError> {
        Self::deserialize(&split.detail).map_err(|error| {
            let message = format!("the split `{}` is not one of a PostgreSQL source; plan again", split.name);
            SourceError::new(Origin::Internal, message).caused_by(error)
        })
    }

    pub(crate) fn split(&self, name: String) -> Split {
        let detail = serde_json::to_value(self).expect("texts and numbers are JSON");
        Split { name, detail, bytes: None }
    }
}

impl Bounds {
    /// The condition of SQL that says the same of this column. A column without a time zone is in UTC.
    pub(crate) fn condition(&self, time_column: &str, columns: &Columns) -> Result<String, SourceError> {
        let wrong = |problem: String| Err(SourceError::selection(problem));
        let (word, zone) = match columns.find(time_column).map(|(_, scalar)| scalar) {
            Some(Scalar::TimestampTz) => ("TIMESTAMPTZ", "+00"),
            // PostgreSQL compares a day by its midnight.
            Some(Scalar::Timestamp | Scalar::Date) => ("TIMESTAMP", ""),
            _ if columns.names().any(|name| name == time_column) => {
                return wrong(format!(
                    "`time_column: {time_column}` is neither a timestamp nor a date; name a column that is one, or \
                     cast it in a query"
                ));
            }
            _ => {
                let known = columns.names().collect::<Vec<_>>().join("`, `");
                return wrong(format!(
                    "there is no column `{time_column}`, which `time_column` names; there are `{known}`"
                ));
            }
        };
        let Self::Between { from, to } = *self else { return Ok(format!("{} IS NULL", quoted(time_column))) };
        let mut parts = Vec::new();
        for (operator, time) in [(">=", from), ("<", to)] {
            let Some(time) = time else { continue };
            let Some(text) = written(time) else {
                return wrong("a time of a backfill lies outside the years 1 to 9999".to_owned());
            };
            parts.push(format!("{} {operator} {word} '{text}{zone}'", quoted(time_column)));
        }
        if parts.is_empty() {
            return wrong("a backfill between two times needs one of them; give --from, --to or --all".to_owned());
        }
        Ok(parts.join(" AND "))
    }
}

fn written(time: Timestamp) -> Option<String> {
    let time = DateTime::from_timestamp_millis(time.0).filter(|time| (1..=9999).contains(&time.year()))?;
    Some(time.format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// What was read last, by its fingerprint, which is there to be compared by people; and where the next read begins.
pub(crate) fn position_after(outcomes: &[SplitOutcome], mark: Option<&Mark>) -> SourcePosition {
    let read = outcomes.iter().filter_map(|outcome| match &outcome.result {
        SplitResult::Read { fingerprint, records } => {
            Some(json!({ "relation": outcome.split.name, "fingerprint": fingerprint, "records": records }))
        }
        SplitResult::Broken { .. } => None,
    });
    let mut position = json!({ "read": read.collect::<Vec<_>>() });
    if let Some(mark) = mark {
        position["next"] = json!(mark);
    }
    SourcePosition(position)
}

/// Where a position says that the next read begins, if it does.
pub(crate) fn mark_of(position: Option<&SourcePosition>) -> Option<Mark> {
    // What another version wrote is as if nothing had been read.
    position.and_then(|position| Mark::deserialize(position.0.get("next")?).ok())
}
