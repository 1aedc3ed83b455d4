//! What the repository shows as an example works as it stands there.

use std::fs;
use std::path::{Path, PathBuf};

use convoke_core::spec::{ScheduleSpec, SourceSpec, SyncSpec};
use convoke_core::{ConnectionName, SyncName};

use crate::directory::Directory;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(path)
}

/// The text with its examples switched on: blocks that begin with `#`, and no space after it.
fn switched_on(text: &str) -> String {
    let mut is_example = false;
    let mut lines = String::new();
    for line in text.lines() {
        let comment = line.strip_prefix('#');
        is_example = comment.is_some_and(|rest| is_example || rest.starts_with(|first: char| first != ' '));
        let kept = if is_example { comment.unwrap_or(line) } else { line };
        lines.push_str(kept);
        lines.push('\n');
    }
    lines
}

fn with_examples() -> Directory {
    let read = |path: &str| switched_on(&fs::read_to_string(shipped(path)).expect("a shipped file"));
    let mut directory = Directory::default()
        .file("config/convoke.yaml", read("convoke.yaml"))
        .file("config/connections.yaml", read("connections.yaml"));
    for variable in [
        "ZOOMINFO_CLIENT_ID",
        "ZOOMINFO_CLIENT_SECRET",
        "MINIO_KEY_ID",
        "MINIO_SECRET",
        "APP_EVENTS_KEY",
        "ARCHIVE_KEY",
        "WAREHOUSE_PASSWORD",
        "STATE_PASSWORD",
    ] {
        directory = directory.variable(variable, "x");
    }
    for entry in fs::read_dir(shipped("examples")).expect("the examples") {
        let path = entry.expect("an example").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a file name");
        directory = directory.sync(name, &fs::read_to_string(&path).expect("an example"));
    }
    directory
}

#[test]
fn every_example_loads_without_a_warning_once_it_is_switched_on() {
    let config = with_examples().loaded();
    assert_eq!(config.warnings, []);
    assert!(config.syncs.values().all(|sync| sync.warnings.is_empty()));
    let names = |names: &[&str]| names.iter().copied().map(ConnectionName::new).collect::<Vec<_>>();
    assert_eq!(config.connections.into_keys().collect::<Vec<_>>(), names(&["local", "zoominfo"]));
    assert_eq!(
        config.object_stores.into_keys().collect::<Vec<_>>(),
        names(&["app-events", "archive", "lake", "minio"])
    );
    assert_eq!(config.databases.into_keys().collect::<Vec<_>>(), names(&["warehouse"]));
    assert!(config.settings.state.postgres.is_some() && config.settings.state.ledger.is_some());
    let spec = |name: &str| &config.syncs[&SyncName::new(name)].spec;
    assert!(matches!(spec("booth-scans").source, SourceSpec::Objects(_)));
    assert!(matches!(spec("signups").source, SourceSpec::Objects(_)));
    assert!(matches!(spec("partner-leads").source, SourceSpec::CsvDrop(_)));
    assert!(matches!(spec("customers").source, SourceSpec::Postgres(_)));
    assert!(matches!(spec("members").source, SourceSpec::Postgres(_)));
    let runs_by_itself = |spec: &SyncSpec| spec.schedule != ScheduleSpec::Manual || spec.arrival.is_some();
    assert!(config.syncs.values().all(|sync| runs_by_itself(&sync.spec)));
}
