//! The audit trail.

use super::StateFixture;

pub async fn the_audit_trail_is_kept_newest_first(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    assert_eq!(store.audit_trail(10).await.unwrap(), []);
    store.audit("anna", "approve", "plan 1").await.unwrap();
    store.audit("ben", "fresh_start", "sync booth-scans").await.unwrap();
    let trail = fixture.open().await.audit_trail(10).await.unwrap();
    let told: Vec<_> =
        trail.iter().map(|deed| (deed.actor.as_str(), deed.action.as_str(), deed.detail.as_str())).collect();
    assert_eq!(told, [("ben", "fresh_start", "sync booth-scans"), ("anna", "approve", "plan 1")]);
    assert!(trail[0].at >= trail[1].at && trail[1].at.0 > 0);
    assert_eq!(store.audit_trail(1).await.unwrap(), trail[..1]);
}
