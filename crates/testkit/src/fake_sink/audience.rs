//! Rows over time: what was sent commits at some moment, and search shows it some time later.

use std::time::Duration;

use convoke_core::RowId;
use convoke_core::sink::KeyCell;

/// One row as the audience holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRow {
    pub row_id: RowId,
    pub key_cell: Option<KeyCell>,
    pub cells: Vec<Option<String>>,
}

pub(super) struct NewRow {
    pub(super) key_cell: Option<KeyCell>,
    pub(super) cells: Vec<Option<String>>,
}

#[derive(Default)]
pub(super) struct Audience {
    rows: Vec<Row>,
}

struct Row {
    row_id: RowId,
    key_cell: Option<KeyCell>,
    /// Contents with the moment from which they hold; the first is the row's creation.
    versions: Vec<(Duration, Vec<Option<String>>)>,
    visible_at: Duration,
    deleted_at: Option<Duration>,
}

impl Row {
    fn lives(&self, now: Duration) -> bool {
        self.versions[0].0 <= now && self.deleted_at.is_none_or(|deleted_at| deleted_at > now)
    }

    fn as_of(&self, now: Duration) -> LiveRow {
        let held = self.versions.iter().filter(|(at, _)| *at <= now);
        let newest = held.max_by_key(|(at, _)| *at).unwrap_or(&self.versions[0]);
        LiveRow { row_id: self.row_id.clone(), key_cell: self.key_cell, cells: newest.1.clone() }
    }
}

impl Audience {
    pub(super) fn create(&mut self, row: NewRow, commit_at: Duration, lag: Duration) -> RowId {
        let row_id = RowId::new(format!("row-{}", self.rows.len() + 1));
        self.rows.push(Row {
            row_id: row_id.clone(),
            key_cell: row.key_cell,
            versions: vec![(commit_at, row.cells)],
            visible_at: commit_at + lag,
            deleted_at: None,
        });
        row_id
    }

    pub(super) fn update(&mut self, row_id: &RowId, cells: Vec<Option<String>>, commit_at: Duration) {
        if let Some(row) = self.row(row_id) {
            row.versions.push((commit_at, cells));
        }
    }

    pub(super) fn delete(&mut self, row_id: &RowId, commit_at: Duration) {
        if let Some(row) = self.row(row_id) {
            row.deleted_at = Some(row.deleted_at.map_or(commit_at, |earlier| earlier.min(commit_at)));
        }
    }

    pub(super) fn exists(&self, row_id: &RowId, now: Duration) -> bool {
        self.rows.iter().any(|row| row.row_id == *row_id && row.lives(now))
    }

    pub(super) fn live(&self, now: Duration) -> Vec<LiveRow> {
        self.rows.iter().filter(|row| row.lives(now)).map(|row| row.as_of(now)).collect()
    }

    /// What search shows.
    pub(super) fn visible(&self, now: Duration) -> Vec<LiveRow> {
        let shown = self.rows.iter().filter(|row| row.lives(now) && row.visible_at <= now);
        shown.map(|row| row.as_of(now)).collect()
    }

    fn row(&mut self, row_id: &RowId) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.row_id == *row_id)
    }
}
