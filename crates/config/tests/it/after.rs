//! What happens after a run.

use std::time::Duration;

use convoke_config::config_hash;
use convoke_core::SyncName;
use convoke_core::spec::{AfterRun, EnrichedRows, SyncSpec};

use crate::directory::{Directory, SYNC};

fn spec_with(line: &str) -> SyncSpec {
    let mut config = Directory::new().sync("people", &format!("{SYNC}{line}\n")).loaded();
    config.syncs.remove(&SyncName::new("people")).expect("the sync").spec
}

#[test]
fn rows_are_enriched_only_where_that_is_asked_for() {
    let ten_minutes = Duration::from_secs(600);
    let cases = [
        ("", None),
        ("after: { enrich: changed }", Some(AfterRun { enrich: EnrichedRows::Changed, wait: ten_minutes })),
        ("after: { enrich: all, wait: 0s }", Some(AfterRun { enrich: EnrichedRows::All, wait: Duration::ZERO })),
    ];
    for (line, expected) in cases {
        assert_eq!(spec_with(line).after, expected, "{line}");
    }
}

#[test]
fn what_happens_after_a_run_does_not_change_the_hash() {
    assert_eq!(config_hash(&spec_with("after: { enrich: all }"), &[]), config_hash(&spec_with(""), &[]));
}
