//! Enriching rows, at a destination that can.

use convoke_core::RowId;
use convoke_core::enrichment::{CellState, EnrichmentAnswer, EnrichmentJob, EnrichmentScope};
use convoke_core::sink::{AudienceBinding, Destination, JobId, Provision};

use super::account::{POLL_LIMIT, batch_of, create, key_cell, make, ready_audience, survey};

/// An audience with a match column and these many rows; the ids of column and rows.
async fn with_a_match_column(destination: &dyn Destination, rows: usize) -> (AudienceBinding, [String; 1], Vec<RowId>) {
    let audience = ready_audience(destination).await;
    let criteria = vec![(audience.columns[0].id.clone(), "CONTACT_EMAIL".to_owned())];
    make(destination, Provision::MatchCriteria { audience_id: audience.key.audience_id.clone(), criteria }).await;
    let found = survey(destination).await.columns;
    let column = found.into_iter().find(|column| column.column_type == "ZOOMINFO_MATCH").expect("a match column");
    let keys = (0..rows).map(|number| key_cell(number, 1)).collect();
    let ids = create(destination, &audience, batch_of(0..rows), keys).await;
    (audience, [column.id], ids)
}

async fn ended(destination: &dyn Destination, audience: &AudienceBinding, job: &JobId) -> EnrichmentJob {
    for _ in 0..POLL_LIMIT {
        let state = destination.enrichment(audience, job).await.expect("a poll");
        if state != EnrichmentJob::Running {
            return state;
        }
        tokio::task::yield_now().await;
    }
    panic!("the job is still running after {POLL_LIMIT} polls");
}

pub(super) async fn enriched_rows_have_a_state_and_others_do_not(destination: &dyn Destination) {
    let Some(rows_per_job) = destination.capabilities().enrich_rows else { return };
    assert!(rows_per_job > 0);
    let (audience, column, ids) = with_a_match_column(destination, 3).await;
    let some = EnrichmentScope::Rows(ids[..2].to_vec());
    let started = destination.enrich(&audience, &some).await.expect("an answer");
    let EnrichmentAnswer::Started(job) = started else { panic!("{started:?}") };
    assert_eq!(ended(destination, &audience, &job).await, EnrichmentJob::Succeeded);
    let everything = EnrichmentScope::Audience;
    let states = destination.cell_states(&audience, &column, &everything, 10).await.expect("rows");
    assert_eq!(states.len(), 3);
    for row in &states {
        let is_done = matches!(row.cells[..], [CellState::Result | CellState::NoResult]);
        let is_blank = row.cells[..] == [CellState::Blank];
        assert!(if ids[..2].contains(&row.row_id) { is_done } else { is_blank }, "{row:?}");
    }
    let of_some = destination.cell_states(&audience, &column, &some, 10).await.expect("rows");
    assert_eq!(of_some.len(), 2);
    let sample = destination.cell_states(&audience, &column, &everything, 1).await.expect("rows");
    assert_eq!(sample.len(), 1, "of a whole audience no more than was asked for");
}

pub(super) async fn without_rows_there_is_nothing_to_enrich(destination: &dyn Destination) {
    if destination.capabilities().enrich_rows.is_none() {
        return;
    }
    let (audience, _, _) = with_a_match_column(destination, 0).await;
    let told = destination.enrich(&audience, &EnrichmentScope::Audience).await.expect("an answer");
    assert_eq!(told, EnrichmentAnswer::NothingToDo);
}
