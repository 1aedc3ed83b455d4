//! Backfills: what was asked for, cut into windows that are settled one after the other.
//!
//! A backfill has a position of its own: how many of its windows are settled. It moves in the transaction that settles the
//! plan of a window, whoever applies that, so no settled window is read again, and it never touches the live checkpoint.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::ids::{BackfillId, SyncName};
use crate::source::{Selection, Split, TimeSpan};
use crate::time::Timestamp;

/// Windows of a backfill at most: each costs a plan and a listing of the source.
const MOST_WINDOWS: usize = 100;
/// Splits of a window, unless there were too many windows then.
const WINDOW_SPLITS: usize = 1_000;
/// Bytes of a window, unless there were too many windows then.
const WINDOW_BYTES: u64 = 1 << 30;

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
/// Lengths of a window of time that is not told: the shortest of which not too many are needed.
const STEPS: [u64; 6] = [HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY];
/// So many windows of time are not too many.
const FEW_STEPS: u64 = 31;

/// One backfill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillRecord {
    pub id: BackfillId,
    pub sync: SyncName,
    /// What was asked for.
    pub selection: Selection,
    /// Into how many windows it was cut.
    pub window_count: u32,
    /// Windows that are settled: the first so many.
    pub settled: u32,
    /// Whether one of them ended as partial.
    pub is_partial: bool,
    /// Hash of the configuration, without suppression lists: windows of two configurations do not fit together.
    pub config_hash: String,
    pub state: BackfillState,
    pub started_at: Timestamp,
}

/// A backfill that is under way, with what its windows read: of many files these are many names, so they are looked up
/// once, and kept no longer than they are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBackfill {
    pub record: BackfillRecord,
    /// What was asked for, cut into windows in the order in which they are read.
    pub windows: Vec<Selection>,
}

impl OpenBackfill {
    /// The window that comes next, with what it reads; none if all are settled.
    pub fn next_window(&self) -> Option<(PlannedWindow, &Selection)> {
        let BackfillRecord { id, settled, window_count, .. } = self.record;
        let selection = self.windows.get(usize::try_from(settled).ok()?)?;
        Some((PlannedWindow { backfill: id, number: settled + 1, of: window_count }, selection))
    }
}

/// How a backfill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// Begun; a sync has one of these at most.
    Open,
    Done,
    Cancelled,
}

impl BackfillState {
    /// The name under which it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Open, Self::Done, Self::Cancelled].into_iter().find(|state| state.as_str() == name)
    }
}

/// Which window of a backfill a plan is for, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWindow {
    pub backfill: BackfillId,
    pub number: u32,
    pub of: u32,
}

/// How large the windows of a backfill are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowSize {
    /// So many files or objects.
    Splits(usize),
    /// So much time, where a column tells it.
    Time(Duration),
}

/// How far backfills have come.
#[async_trait]
pub trait Backfills: Send + Sync {
    /// Begins a backfill; [`StateError::Conflict`] if one of the sync is open.
    async fn begin_backfill(&self, backfill: &OpenBackfill) -> Result<(), StateError>;
    /// A sync's backfill that is open, with its windows.
    async fn open_backfill(&self, sync: &SyncName) -> Result<Option<OpenBackfill>, StateError>;
    /// How far a backfill has come.
    async fn backfill(&self, id: BackfillId) -> Result<Option<BackfillRecord>, StateError>;
    /// A sync's backfills, newest first, at most `limit`.
    async fn backfills(&self, sync: &SyncName, limit: u32) -> Result<Vec<BackfillRecord>, StateError>;
    /// Ends an open backfill and forgets what its windows read; one that is not open stays as it is.
    async fn end_backfill(&self, id: BackfillId, state: BackfillState) -> Result<(), StateError>;
}

/// Groups splits into windows, in their order. A single window reads what was asked for, so that it needs no names.
pub fn cut_splits(whole: &Selection, splits: &[Split], size: Option<usize>) -> Vec<Selection> {
    let total: u64 = splits.iter().filter_map(|split| split.bytes).sum();
    let (most, most_bytes) = match size {
        Some(size) => (size.max(1), u64::MAX),
        None => (
            WINDOW_SPLITS.max(splits.len().div_ceil(MOST_WINDOWS)),
            WINDOW_BYTES.max(total.div_ceil(MOST_WINDOWS as u64 / 2)),
        ),
    };
    let mut windows: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0_u64;
    for split in splits {
        bytes = bytes.saturating_add(split.bytes.unwrap_or(0));
        match windows.last_mut() {
            Some(window) if window.len() < most && bytes <= most_bytes => window.push(split.name.clone()),
            _ => {
                bytes = split.bytes.unwrap_or(0);
                windows.push(vec![split.name.clone()]);
            }
        }
    }
    if windows.len() <= 1 { vec![whole.clone()] } else { windows.into_iter().map(Selection::Named).collect() }
}

/// Cuts a span of time into windows of one length, the last one shorter. Where no beginning is told there is one window;
/// where no end is, the last one is open, and begins at `now` at the latest.
pub fn cut_time(
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    step: Option<Duration>,
    now: Timestamp,
) -> Vec<Selection> {
    let whole = vec![Selection::Between { from, to }];
    let Some(start) = from else { return whole };
    let end = to.unwrap_or(now);
    let span = end.since(start);
    let seconds = span.as_secs();
    let chosen = STEPS.into_iter().find(|step| seconds.div_ceil(*step) <= FEW_STEPS).unwrap_or(STEPS[STEPS.len() - 1]);
    let step = step.unwrap_or(Duration::from_secs(chosen)).max(Duration::from_millis(1));
    let mut windows = Vec::new();
    let mut begins = start;
    while begins.after(step) < end {
        let ends = begins.after(step);
        windows.push(Selection::Between { from: Some(begins), to: Some(ends) });
        begins = ends;
    }
    windows.push(Selection::Between { from: Some(begins), to });
    windows
}

/// Cuts what has no beginning by the times that it has. The first window begins wherever that is, and the last ends where
/// the whole does, so nothing is left out that is older, later or comes meanwhile; what has no time is a window of its own.
pub fn cut_span(whole: &Selection, span: TimeSpan, step: Option<Duration>) -> Vec<Selection> {
    let (end, has_untimed) = match whole {
        Selection::All => (None, true),
        Selection::Between { from: None, to } => (*to, false),
        _ => return vec![whole.clone()],
    };
    let mut windows = cut_time(Some(span.first), None, step, span.last);
    if windows.len() < 2 {
        return vec![whole.clone()];
    }
    if let Some(Selection::Between { from, .. }) = windows.first_mut() {
        *from = None;
    }
    if let Some(Selection::Between { to, .. }) = windows.last_mut() {
        *to = end;
    }
    windows.extend(has_untimed.then_some(Selection::Untimed));
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(sizes: &[u64]) -> Vec<Split> {
        let split = |(number, bytes): (usize, &u64)| Split {
            name: number.to_string(),
            detail: serde_json::Value::Null,
            bytes: Some(*bytes),
        };
        sizes.iter().enumerate().map(split).collect()
    }

    fn names(windows: &[Selection]) -> Vec<Vec<String>> {
        let named = windows.iter().map(|window| match window {
            Selection::Named(names) => names.clone(),
            other => panic!("{other:?}"),
        });
        named.collect()
    }

    #[test]
    fn every_split_is_in_one_window_and_windows_keep_their_order() {
        let windows = names(&cut_splits(&Selection::All, &splits(&[1; 7]), Some(3)));
        assert_eq!(windows, [vec!["0", "1", "2"], vec!["3", "4", "5"], vec!["6"]]);
        let large = names(&cut_splits(&Selection::All, &splits(&[WINDOW_BYTES, 1, 1, WINDOW_BYTES]), None));
        assert_eq!(large, [vec!["0"], vec!["1", "2"], vec!["3"]]);
        let many = names(&cut_splits(&Selection::All, &splits(&vec![1; 1_000_000]), None));
        assert_eq!((many.len(), many.concat().len()), (MOST_WINDOWS, 1_000_000));
        let huge = names(&cut_splits(&Selection::All, &splits(&[WINDOW_BYTES; 900]), None));
        assert!(huge.len() <= MOST_WINDOWS, "{}", huge.len());
    }

    #[test]
    fn what_fits_one_window_is_read_as_it_was_asked_for() {
        assert_eq!(cut_splits(&Selection::All, &splits(&[1, 2]), None), [Selection::All]);
        assert_eq!(cut_splits(&Selection::All, &[], None), [Selection::All]);
    }

    #[test]
    fn windows_of_time_meet_without_gap_or_overlap() {
        let day = i64::try_from(DAY * 1_000).unwrap();
        let (from, to) = (Timestamp(0), Timestamp(10 * day));
        let windows = cut_time(Some(from), Some(to), Some(Duration::from_secs(3 * DAY)), to);
        assert_eq!(windows.len(), 4);
        let mut begins = from;
        for window in &windows {
            let Selection::Between { from: Some(start), to: Some(end) } = window else { panic!("{window:?}") };
            assert_eq!(*start, begins);
            begins = *end;
        }
        assert_eq!(begins, to);
        assert_eq!(cut_time(Some(from), Some(to), None, to).len(), 10, "a day each");
        assert_eq!(cut_time(None, Some(to), None, to), [Selection::Between { from: None, to: Some(to) }]);
    }

    #[test]
    fn what_has_no_beginning_is_cut_by_the_times_that_it_has() {
        let day = i64::try_from(DAY * 1_000).unwrap();
        let at = |days: i64| Some(Timestamp(days * day));
        let between = |from, to| Selection::Between { from, to };
        let span = TimeSpan { first: Timestamp(10 * day), last: Timestamp(12 * day) };
        let step = Some(Duration::from_secs(DAY));
        let all = [between(None, at(11)), between(at(11), None), Selection::Untimed];
        assert_eq!(cut_span(&Selection::All, span, step), all, "no end is left out");
        let until = between(None, at(20));
        assert_eq!(cut_span(&until, span, step), [between(None, at(11)), between(at(11), at(20))]);
        assert_eq!(cut_span(&until, span, None).len(), 8, "six hours each");
        let moment = TimeSpan { first: span.first, last: span.first };
        for whole in [Selection::All, until, between(at(1), at(20))] {
            let cut = cut_span(&whole, moment, step);
            assert_eq!(cut, [whole], "one window is what was asked for");
        }
    }

    #[test]
    fn a_span_without_an_end_ends_with_an_open_window() {
        let now = Timestamp(90_000_000);
        let windows = cut_time(Some(Timestamp(0)), None, Some(Duration::from_secs(DAY)), now);
        let last = Selection::Between { from: Some(Timestamp(86_400_000)), to: None };
        assert_eq!((windows.len(), &windows[1]), (2, &last));
        let later = Timestamp(180_000_000);
        let ahead = Selection::Between { from: Some(later), to: None };
        assert_eq!(cut_time(Some(later), None, None, now), [ahead], "what is to come is one window");
    }
}
