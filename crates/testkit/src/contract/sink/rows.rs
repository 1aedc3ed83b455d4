//! Creating, finding, changing, deleting and scanning rows.

use std::collections::BTreeSet;

use convoke_core::sink::{Answer, AudienceBinding, Destination, FoundRow, JobState, LookUp, Request};
use convoke_core::{RowId, SinkError};

use super::account::{
    Cells, applied, batch, batch_of, create, finish, key_cell, ready_audience, row_ids, scan, survey,
};

/// Looks up and gives what was found in the order of the row ids.
async fn found(destination: &dyn Destination, audience: &AudienceBinding, query: LookUp) -> Vec<FoundRow> {
    let mut rows = destination.look_up(audience, &query).await.expect("a look-up");
    rows.sort_by(|one, other| one.row_id.cmp(&other.row_id));
    rows
}

fn by_prefix(audience: &AudienceBinding) -> bool {
    audience.key_look_up.is_some_and(|look_up| look_up.by_prefix)
}

pub(super) async fn created_rows_are_acknowledged_and_found(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    let keys = vec![key_cell(1, 7), key_cell(2, 7), key_cell(3, 7)];
    let ids = create(destination, &audience, batch_of(1..4), keys.clone()).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "every row has an id of its own");
    assert_eq!(survey(destination).await.audiences[0].record_count, Some(3));
    let second = [FoundRow { row_id: ids[1].clone(), key_cell: Some(keys[1]) }];
    assert_eq!(found(destination, &audience, LookUp::KeyCells(vec![keys[1], key_cell(9, 7)])).await, second);
    assert_eq!(found(destination, &audience, LookUp::RowIds(vec![ids[1].clone()])).await, second);
    assert!(found(destination, &audience, LookUp::KeyCells(vec![key_cell(1, 8)])).await.is_empty(), "another attempt");
    if by_prefix(&audience) {
        assert_eq!(found(destination, &audience, LookUp::Keys(vec![keys[1].key])).await, second);
    }
    assert_eq!(found(destination, &audience, LookUp::RowIds(ids)).await.len(), 3);
}

pub(super) async fn the_same_key_sent_twice_makes_two_rows_that_are_both_found(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    let mut made = BTreeSet::new();
    for tag in [1, 1, 2] {
        made.extend(create(destination, &audience, batch_of(5..6), vec![key_cell(5, tag)]).await);
    }
    assert_eq!(made.len(), 3, "the destination assigns a new id each time");
    assert_eq!(found(destination, &audience, LookUp::KeyCells(vec![key_cell(5, 1)])).await.len(), 2);
    if by_prefix(&audience) {
        let rows = found(destination, &audience, LookUp::Keys(vec![key_cell(5, 0).key])).await;
        assert_eq!(rows.into_iter().map(|row| row.row_id).collect::<BTreeSet<_>>(), made);
    }
}

pub(super) async fn cells_come_back_as_they_were_sent(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    let rows: [Cells<'_>; 3] = [
        [Some("zoe@example.org"), Some("Zoë \"Z\" O'Neil\\\n二"), Some("-42"), Some("true"), Some(r#"["a","ü\"b"]"#)],
        [Some("al@example.org"), Some("{\"not\": \"json\"}"), Some("0"), Some("false"), None],
        [None, None, None, None, None],
    ];
    let keys = (0..3).map(|number| key_cell(number, 1)).collect();
    let ids = create(destination, &audience, batch(&rows), keys).await;
    let scanned = scan(destination, &audience).await;
    for (number, (id, cells)) in ids.iter().zip(&rows).enumerate() {
        let row = scanned.iter().find(|row| row.row_id == *id).expect("a created row is scanned");
        let expected: Vec<_> = cells.iter().map(|cell| cell.map(str::to_owned)).collect();
        assert_eq!((&row.cells, row.key_cell), (&expected, Some(key_cell(number, 1))));
    }
}

pub(super) async fn updated_rows_keep_their_id_and_key_cell(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    let ids = create(destination, &audience, batch_of(0..2), vec![key_cell(0, 1), key_cell(1, 1)]).await;
    let cells: Cells<'_> = [Some("new@example.org"), None, Some("5"), None, None];
    let update = Request::Update { cells: batch(&[cells]), row_ids: vec![ids[1].clone()] };
    for _ in 0..2 {
        let answer = destination.send(&audience, &update).await.expect("an update, which may be repeated");
        assert_eq!(row_ids(applied(answer), 1), [ids[1].clone()]);
    }
    let scanned = scan(destination, &audience).await;
    assert_eq!(scanned.len(), 2);
    let changed = scanned.iter().find(|row| row.row_id == ids[1]).expect("the row is still there");
    assert_eq!(changed.cells, cells.map(|cell| cell.map(str::to_owned)), "NULL clears a cell");
    assert_eq!(changed.key_cell, Some(key_cell(1, 1)));
    let other = scanned.iter().find(|row| row.row_id == ids[0]).expect("the other row is untouched");
    assert_eq!(other.cells[0].as_deref(), Some("person0@example.org"));
}

pub(super) async fn an_update_of_an_unknown_row_makes_none(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    let unknown = RowId::new("00000000-0000-4000-8000-000000000000");
    let update = Request::Update { cells: batch_of(0..1), row_ids: vec![unknown.clone()] };
    match destination.send(&audience, &update).await {
        Ok(Answer::Applied(rows)) => assert!(rows.is_empty(), "an unknown row is not acknowledged"),
        Ok(Answer::Refused(_)) | Err(SinkError::NotFound { .. }) => {}
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(found(destination, &audience, LookUp::RowIds(vec![unknown])).await.is_empty());
    assert!(scan(destination, &audience).await.is_empty());
}

pub(super) async fn deleted_rows_are_gone_and_others_stay(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    let keys = (0..3).map(|number| key_cell(number, 1)).collect();
    let ids = create(destination, &audience, batch_of(0..3), keys).await;
    let delete = Request::Delete { row_ids: vec![ids[0].clone(), ids[2].clone()] };
    match destination.send(&audience, &delete).await.expect("a delete") {
        Answer::Accepted(job) => assert_eq!(finish(destination, &audience, &job).await, JobState::Succeeded),
        Answer::Applied(rows) => assert_eq!(rows.len(), 2),
        other => panic!("expected a job or applied rows, got {other:?}"),
    }
    let left = found(destination, &audience, LookUp::RowIds(ids.clone())).await;
    assert_eq!(left, [FoundRow { row_id: ids[1].clone(), key_cell: Some(key_cell(1, 1)) }]);
    assert!(found(destination, &audience, LookUp::KeyCells(vec![key_cell(0, 1)])).await.is_empty());
    assert_eq!(survey(destination).await.audiences[0].record_count, Some(1));
}

pub(super) async fn a_scan_gives_every_row_once(destination: &dyn Destination) {
    let audience = ready_audience(destination).await;
    assert!(scan(destination, &audience).await.is_empty());
    let full = destination.capabilities().upsert_rows;
    let mut made = BTreeSet::new();
    for numbers in [0..full, full..2 * full, 2 * full..2 * full + 1] {
        let keys = numbers.clone().map(|number| key_cell(number, 1)).collect();
        made.extend(create(destination, &audience, batch_of(numbers), keys).await);
    }
    let scanned = scan(destination, &audience).await;
    assert_eq!(scanned.len(), 2 * full + 1);
    assert_eq!(scanned.into_iter().map(|row| row.row_id).collect::<BTreeSet<_>>(), made);
}
