//! Sets up what the checks need, through the destination's own interface.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use arrow::record_batch::RecordBatch;
use convoke_core::hash::KeyHash;
use convoke_core::sink::{
    Answer, AppliedRow, AttemptTag, AudienceBinding, AudienceTarget, BoundColumn, Destination, JobId, JobState,
    KEY_COLUMN, KeyCell, NewColumn, Provision, ProvisionAnswer, Request, ScannedRow, Survey,
};
use convoke_core::spec::{AudienceKind, AudienceSpec};
use convoke_core::{AudienceKey, ConnectionName, DataType, RowId};

/// More polls than any job of a test takes; each waits for an answer, so none is a sleep.
pub(super) const POLL_LIMIT: usize = 100_000;

pub(super) const AUDIENCE: &str = "Booth Scans";
pub(super) const FOLDER: &str = "Events";

/// One column per shape that a cell can have.
pub(super) const COLUMNS: [(&str, DataType); 5] = [
    ("Email", DataType::Email),
    ("Name", DataType::Text),
    ("Score", DataType::Integer),
    ("Vip", DataType::Boolean),
    ("Tags", DataType::StringList),
];

pub(super) type Cells<'a> = [Option<&'a str>; COLUMNS.len()];

pub(super) fn target(name: &str) -> AudienceTarget {
    AudienceTarget {
        spec: AudienceSpec {
            connection: ConnectionName::new("contract"),
            name: name.to_owned(),
            id: None,
            kind: AudienceKind::Contact,
            folder: Some(FOLDER.to_owned()),
            description: None,
            match_criteria: Vec::new(),
            match_columns: Vec::new(),
        },
        columns: COLUMNS.iter().map(|(name, data_type)| ((*name).to_owned(), *data_type)).collect(),
    }
}

pub(super) fn new_columns() -> Vec<NewColumn> {
    let key_column = (KEY_COLUMN, DataType::Text);
    let columns = COLUMNS.iter().chain([&key_column]);
    columns.map(|(name, data_type)| new_column(name, *data_type)).collect()
}

pub(super) fn new_column(name: &str, data_type: DataType) -> NewColumn {
    NewColumn { name: name.to_owned(), data_type, is_match: false }
}

pub(super) async fn survey(destination: &dyn Destination) -> Survey {
    destination.survey(&target(AUDIENCE), None).await.expect("a survey by name")
}

pub(super) async fn make(destination: &dyn Destination, step: Provision) {
    let answer = destination.provision(&step).await.expect("a provision step");
    assert!(matches!(answer, ProvisionAnswer::Applied { .. }), "{}: {answer:?}", step.describe());
}

/// Makes folder and audience and gives what a survey then finds.
pub(super) async fn make_audience(destination: &dyn Destination) -> Survey {
    make(destination, Provision::Folder { name: FOLDER.to_owned() }).await;
    let folder_id = survey(destination).await.folders[0].id.clone();
    let audience = Provision::Audience {
        name: AUDIENCE.to_owned(),
        kind: AudienceKind::Contact.as_str().to_owned(),
        folder_id,
        description: None,
        columns: new_columns(),
    };
    make(destination, audience).await;
    survey(destination).await
}

/// An audience that is ready for rows.
pub(super) async fn ready_audience(destination: &dyn Destination) -> AudienceBinding {
    let survey = make_audience(destination).await;
    let id_of = |name: &str| {
        let column = survey.columns.iter().find(|column| column.name == name);
        column.unwrap_or_else(|| panic!("column `{name}` was made")).id.clone()
    };
    let bound = |(name, data_type): &(&str, DataType)| BoundColumn {
        id: id_of(name),
        name: (*name).to_owned(),
        data_type: *data_type,
    };
    AudienceBinding {
        key: AudienceKey { connection: ConnectionName::new("contract"), audience_id: survey.audiences[0].id.clone() },
        name: AUDIENCE.to_owned(),
        columns: COLUMNS.iter().map(bound).collect(),
        key_column_id: id_of(KEY_COLUMN),
        key_look_up: survey.key_look_up,
    }
}

pub(super) fn key_cell(number: usize, tag: u32) -> KeyCell {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&(number as u64).to_be_bytes());
    KeyCell { key: KeyHash(bytes), tag: AttemptTag(tag) }
}

/// Plain cells of the row with this number.
pub(super) fn batch_of(numbers: std::ops::Range<usize>) -> RecordBatch {
    let mails: Vec<String> = numbers.map(|number| format!("person{number}@example.org")).collect();
    batch(&mails.iter().map(|mail| [Some(mail.as_str()), Some("Plain"), None, None, None]).collect::<Vec<_>>())
}

pub(super) fn batch(rows: &[Cells<'_>]) -> RecordBatch {
    let fields: Vec<_> = COLUMNS.iter().map(|(name, _)| Field::new(*name, ArrowType::Utf8, true)).collect();
    let column =
        |index: usize| -> ArrayRef { Arc::new(rows.iter().map(|cells| cells[index]).collect::<StringArray>()) };
    let columns = (0..COLUMNS.len()).map(column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

/// Creates rows and gives their ids, in the order of the request.
pub(super) async fn create(
    destination: &dyn Destination,
    audience: &AudienceBinding,
    cells: RecordBatch,
    key_cells: Vec<KeyCell>,
) -> Vec<RowId> {
    let rows = key_cells.len();
    let answer = destination.send(audience, &Request::Create { cells, key_cells }).await.expect("a create");
    row_ids(applied(answer), rows)
}

pub(super) fn applied(answer: Answer) -> Vec<AppliedRow> {
    match answer {
        Answer::Applied(rows) => rows,
        other => panic!("expected applied rows, got {other:?}"),
    }
}

/// The ids of an answer that must hold every row of its request, without failed cells.
pub(super) fn row_ids(mut rows: Vec<AppliedRow>, expected: usize) -> Vec<RowId> {
    rows.sort_by_key(|row| row.index);
    let indices: Vec<_> = rows.iter().map(|row| row.index).collect();
    assert_eq!(indices, (0..expected).collect::<Vec<_>>(), "every row is acknowledged once");
    assert!(rows.iter().all(|row| row.failed_cells.is_empty()), "no cell failed");
    rows.into_iter().map(|row| row.row_id).collect()
}

pub(super) async fn finish(destination: &dyn Destination, audience: &AudienceBinding, job: &JobId) -> JobState {
    for _ in 0..POLL_LIMIT {
        let state = destination.poll(audience, job).await.expect("a poll");
        if state != JobState::Running {
            return state;
        }
        tokio::task::yield_now().await;
    }
    panic!("the job is still running after {POLL_LIMIT} polls");
}

pub(super) async fn scan(destination: &dyn Destination, audience: &AudienceBinding) -> Vec<ScannedRow> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let page = destination.scan(audience, cursor.as_deref()).await.expect("a page of a scan");
        rows.extend(page.rows);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return rows,
        }
    }
}
