//! Enrichments from before they are asked for until their end is told.

use std::sync::Arc;

use convoke_core::StateError;
use convoke_core::enrichment::{EnrichmentScope, EnrichmentStage, NewEnrichment, OpenEnrichment};
use convoke_core::ids::RowId;
use convoke_core::sink::JobId;
use convoke_core::state::{Lease, StateStore};

use super::StateFixture;
use super::samples::{PAST_TTL, audience, leased, plan, run, sync};

fn rows() -> EnrichmentScope {
    EnrichmentScope::Rows(vec![RowId::new("row-1"), RowId::new("row-2")])
}

fn started() -> EnrichmentStage {
    EnrichmentStage::Started(JobId("job-1".to_owned()))
}

/// A store with two noted enrichments of one plan: some rows, and the whole audience.
async fn noted(fixture: &dyn StateFixture) -> (Arc<dyn StateStore>, Lease, Vec<NewEnrichment>) {
    let store = fixture.open().await;
    let lease = leased(&store, &audience("one")).await;
    let (plan, run) = (plan(1).id, run(1).id);
    let wanted = [rows(), EnrichmentScope::Audience].into_iter().enumerate().map(|(number, scope)| NewEnrichment {
        plan,
        number: u32::try_from(number).unwrap(),
        sync: sync(),
        run,
        audience: audience("one"),
        scope,
    });
    let wanted: Vec<_> = wanted.collect();
    for enrichment in &wanted {
        store.note_enrichment(enrichment, &lease).await.unwrap();
    }
    (store, lease, wanted)
}

async fn open(store: &Arc<dyn StateStore>) -> Vec<OpenEnrichment> {
    store.open_enrichments(&sync()).await.unwrap()
}

pub async fn what_is_to_be_enriched_is_noted_once(fixture: &dyn StateFixture) {
    let (store, lease, wanted) = noted(fixture).await;
    let other = NewEnrichment { scope: EnrichmentScope::Audience, ..wanted[0].clone() };
    store.note_enrichment(&other, &lease).await.unwrap();
    let found = open(&store).await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|one| one.run == wanted[0].run && one.audience == audience("one")));
    assert!(found.iter().all(|one| one.stage == EnrichmentStage::Noted) && found[0].id < found[1].id);
    for (one, wanted) in found.iter().zip(&wanted) {
        assert_eq!(store.enrichment_scope(one.id).await.unwrap().as_ref(), Some(&wanted.scope));
    }
    assert_eq!(store.open_enrichments(&convoke_core::SyncName::new("another")).await.unwrap(), []);
}

pub async fn an_enrichment_begins_only_from_the_stage_it_is_in(fixture: &dyn StateFixture) {
    let (store, lease, _) = noted(fixture).await;
    let id = open(&store).await[0].id;
    store.move_enrichment(id, &EnrichmentStage::Noted, &EnrichmentStage::Starting, &lease).await.unwrap();
    let again = store.move_enrichment(id, &EnrichmentStage::Noted, &EnrichmentStage::Starting, &lease).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
    assert_eq!(open(&store).await[0].stage, EnrichmentStage::Starting);
    store.move_enrichment(id, &EnrichmentStage::Starting, &started(), &lease).await.unwrap();
    assert_eq!(open(&fixture.open().await).await[0].stage, started());
}

pub async fn a_closed_enrichment_is_gone(fixture: &dyn StateFixture) {
    let (store, lease, _) = noted(fixture).await;
    let id = open(&store).await[0].id;
    store.close_enrichment(id, &lease).await.unwrap();
    assert_eq!(store.enrichment_scope(id).await.unwrap(), None);
    assert_eq!(open(&store).await.len(), 1);
}

pub async fn no_enrichment_is_touched_under_a_lost_lease(fixture: &dyn StateFixture) {
    let (store, lease, wanted) = noted(fixture).await;
    let id = open(&store).await[0].id;
    fixture.advance(PAST_TTL);
    let _successor = leased(&store, &audience("one")).await;
    let third = NewEnrichment { number: 2, ..wanted[0].clone() };
    let refused = [
        store.note_enrichment(&third, &lease).await,
        store.move_enrichment(id, &EnrichmentStage::Noted, &EnrichmentStage::Starting, &lease).await,
        store.close_enrichment(id, &lease).await,
    ];
    assert!(refused.iter().all(|told| matches!(told, Err(StateError::LeaseLost { .. }))), "{refused:?}");
    let found = open(&store).await;
    assert!(found.len() == 2 && found[0].stage == EnrichmentStage::Noted, "{found:?}");
}
