//! Opening a store: what is made, what is refused, and who may have it open at once.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use convoke_core::backfill::Backfills;
use convoke_core::hash::KeyHash;
use convoke_core::ids::ConnectionName;
use convoke_core::source::Selection;
use convoke_core::state::{Budgets, Checkpoints, Journal, Leases, Ledgers, OpenProvision, Provisions};
use convoke_core::{AudienceKey, StateError, SyncName, Timestamp};
use convoke_state::{OpenMode, SqliteState};
use convoke_testkit::contract::state::SaveBudget;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

async fn change_directly(path: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn unusable(path: &Path, mode: OpenMode) -> String {
    match SqliteState::open(path, mode).await {
        Err(StateError::Unusable { message }) => {
            assert!(message.contains(path.to_str().unwrap()), "{message}");
            message
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn folder_and_files_are_made_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/convoke.db");
    let state = SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap();
    state.hash_key().await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log, and the log's index");
}

#[tokio::test]
async fn a_missing_store_is_told_with_three_choices_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("convoke.db");
    for mode in [OpenMode::Existing, OpenMode::ReadOnly] {
        let error = SqliteState::open(&path, mode).await.unwrap_err();
        let StateError::Missing { message } = &error else { panic!("{error:?}") };
        for part in ["convoke.db", "adopt", "restore a backup", "begin anew"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!path.exists());
    }
    // What a process leaves that is stopped before its first write.
    fs::write(&path, b"").unwrap();
    for mode in [OpenMode::Existing, OpenMode::ReadOnly] {
        assert!(matches!(SqliteState::open(&path, mode).await, Err(StateError::Missing { .. })));
    }
    SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("convoke.db");
    let text = "not a database ".repeat(1_000);
    fs::write(&path, &text).unwrap();
    for mode in [OpenMode::ReadWrite, OpenMode::Existing, OpenMode::ReadOnly] {
        assert!(unusable(&path, mode).await.contains("restore a backup"));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert!(unusable(folder.path(), OpenMode::ReadWrite).await.contains("is a folder"));
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("convoke.db");
    SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap().close().await;
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Past the header, over the schema.
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(&[0xAA; 8_000]).unwrap();
    drop(file);
    for mode in [OpenMode::ReadWrite, OpenMode::Existing, OpenMode::ReadOnly] {
        assert!(unusable(&path, mode).await.contains("damaged"));
    }
}

#[tokio::test]
async fn another_program_s_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    change_directly(&path, "CREATE TABLE notes (note TEXT)").await;
    let before = fs::read(&path).unwrap();
    for mode in [OpenMode::ReadWrite, OpenMode::Existing, OpenMode::ReadOnly] {
        assert!(unusable(&path, mode).await.contains("another program"));
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_layout_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("convoke.db");
    SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap().close().await;
    change_directly(&path, "INSERT INTO schema_version (version, applied_at) VALUES (99, 0)").await;
    for mode in [OpenMode::ReadWrite, OpenMode::Existing, OpenMode::ReadOnly] {
        let message = unusable(&path, mode).await;
        assert!(message.contains("version 99") && message.contains("use the newer Convoke"), "{message}");
    }
}

#[tokio::test]
async fn backfills_and_checkpoints_of_an_older_layout_know_what_they_knew() {
    const LAYOUTS: [&str; 7] = [
        include_str!("../../../migrations/sqlite/0001_initial.sql"),
        include_str!("../../../migrations/sqlite/0002_never_twice.sql"),
        include_str!("../../../migrations/sqlite/0003_short_row_ids.sql"),
        include_str!("../../../migrations/sqlite/0004_schedules.sql"),
        include_str!("../../../migrations/sqlite/0005_rejects_live_on.sql"),
        include_str!("../../../migrations/sqlite/0006_enrichments.sql"),
        include_str!("../../../migrations/sqlite/0007_backfills.sql"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("convoke.db");
    for layout in LAYOUTS {
        change_directly(&path, layout).await;
    }
    change_directly(
        &path,
        r#"PRAGMA application_id = 0x436e766b;
         INSERT INTO schema_version (version, applied_at)
         VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0);
         INSERT INTO checkpoints (sync, version, ledger_version, counts, clean)
         VALUES ('others', 1, 2, NULL, 1), ('people', 4, 2, '{"read": 7, "carried_over": 2, "filtered": 0,
             "invalid": 0, "superseded": 0, "unchanged": 9, "suppressed": 0, "skipped_by_mode": 0,
             "removed_respected": 0, "held_back": 0, "listed": 0, "creates": 0, "updates": 0, "deletes": 0}', 1);
         INSERT INTO backfills (id, sync, selection, windows, settled, config_hash, state, started_at)
         VALUES ('01970000-0000-7000-8000-000000000001', 'people', '"all"', '[{"named":["a"]}]', 1, 'cafe', 'done', 7),
             ('01970000-0000-7000-8000-000000000002', 'people', '"all"', '[{"named":["a"]},{"named":["b"]}]', 1,
              'cafe', 'open', 8);"#,
    )
    .await;
    let state = SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap();
    let snapshot_of = async |sync: &str| state.checkpoint(&SyncName::new(sync)).await.unwrap().snapshot_records;
    assert_eq!((snapshot_of("people").await, snapshot_of("others").await), (Some(9), None));
    let people = SyncName::new("people");
    let open = state.open_backfill(&people).await.unwrap().unwrap();
    let next = open.next_window().map(|(window, selection)| (window.number, window.of, selection.clone()));
    assert_eq!(next, Some((2, 2, Selection::Named(vec!["b".to_owned()]))));
    let told = state.backfills(&people, 10).await.unwrap();
    let told: Vec<_> = told.iter().map(|told| (told.settled, told.window_count, told.is_partial)).collect();
    assert_eq!(told, [(1, 2, false), (1, 1, false)]);
}

#[tokio::test]
async fn an_older_layout_is_brought_up_to_date_with_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("convoke.db");
    change_directly(&path, include_str!("../../../migrations/sqlite/0001_initial.sql")).await;
    change_directly(
        &path,
        "PRAGMA application_id = 0x436e766b;
         INSERT INTO schema_version (version, applied_at) VALUES (1, 0);
         INSERT INTO provisions (connection, what, intended_at) VALUES ('zoominfo', 'folder `Events`', 5);
         INSERT INTO recreated_keys (connection, audience_id, key, sweeps) VALUES ('zoominfo', 'a', zeroblob(16), 1);
         INSERT INTO recreated_tags (connection, audience_id, key, tag) VALUES ('zoominfo', 'a', zeroblob(16), 7);",
    )
    .await;
    assert!(unusable(&path, OpenMode::ReadOnly).await.contains("older Convoke"));
    let state = SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap();
    let connection = ConnectionName::new("zoominfo");
    let open = OpenProvision { intended_at: Timestamp(5), made_id: None };
    assert_eq!(state.open_provision(&connection, "folder `Events`").await.unwrap(), Some(open));
    let audience = AudienceKey { connection, audience_id: "a".to_owned() };
    assert_eq!(state.recreated(&audience).await.unwrap().len(), 1);
    let lease = state.acquire("audience/a", "worker", Duration::from_secs(60)).await.unwrap();
    state.count_sweep(&audience, &[KeyHash([0; 16])], &lease).await.unwrap();
    assert_eq!(state.recreated(&audience).await.unwrap(), [], "an earlier run noted it");
}

#[tokio::test]
async fn a_reader_sees_what_a_writer_beside_it_commits_and_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("convoke.db");
    let writer = SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap();
    let reader = SqliteState::open(&path, OpenMode::ReadOnly).await.unwrap();
    writer.save_budget("one", &json!(1)).await.unwrap();
    assert_eq!(reader.budget("one").await.unwrap(), Some(json!(1)));
    writer.save_budget("one", &json!(2)).await.unwrap();
    assert_eq!(reader.budget("one").await.unwrap(), Some(json!(2)));
    let refused = reader.save_budget("one", &json!(3)).await;
    assert!(matches!(refused, Err(StateError::Unusable { .. })), "{refused:?}");
    writer.close().await;
    assert_eq!(reader.budget("one").await.unwrap(), Some(json!(2)));
}

#[tokio::test]
async fn several_processes_may_make_the_store_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/convoke.db");
    let openings = (0..8).map(|_| SqliteState::open(&path, OpenMode::ReadWrite));
    let states = futures::future::join_all(openings).await;
    let first = states[0].as_ref().unwrap().hash_key().await.unwrap().id();
    for state in &states {
        assert_eq!(state.as_ref().unwrap().hash_key().await.unwrap().id(), first);
    }
}

#[tokio::test]
async fn what_was_reported_as_done_is_in_the_files_at_that_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (live, copy) = (folder.path().join("live.db"), folder.path().join("copy.db"));
    let state = SqliteState::open(&live, OpenMode::ReadWrite).await.unwrap();
    for number in 0..20 {
        state.save_budget("one", &json!(number)).await.unwrap();
        // The files as a crash would leave them: nothing was closed.
        fs::copy(&live, &copy).unwrap();
        fs::copy(live.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
        let after_crash = SqliteState::open(&copy, OpenMode::Existing).await.unwrap();
        assert_eq!(after_crash.budget("one").await.unwrap(), Some(json!(number)));
        after_crash.close().await;
    }
}

#[tokio::test]
async fn a_backup_holds_everything_and_is_made_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("convoke.db"), folder.path().join("copy.db"));
    let state = SqliteState::open(&path, OpenMode::ReadWrite).await.unwrap();
    state.save_budget("one", &json!(1)).await.unwrap();
    let key = state.hash_key().await.unwrap().id();
    state.backup_to(&copy).await.unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let restored = SqliteState::open(&copy, OpenMode::Existing).await.unwrap();
    assert_eq!(restored.budget("one").await.unwrap(), Some(json!(1)));
    assert_eq!(restored.hash_key().await.unwrap().id(), key);
    let again = state.backup_to(&copy).await.unwrap_err();
    assert!(again.to_string().contains("exists already"), "{again}");
    assert_eq!(restored.budget("one").await.unwrap(), Some(json!(1)), "the earlier copy is untouched");
}
