//! Segments on disk: sealed once, staged apart, never out of their folder.

use std::os::unix::fs::PermissionsExt;

use convoke_core::ids::ConnectionName;
use tempfile::TempDir;

use super::*;

fn audience(connection: &str, id: &str) -> AudienceKey {
    AudienceKey { connection: ConnectionName::new(connection), audience_id: id.to_owned() }
}

fn segments() -> (TempDir, LocalSegments) {
    let folder = tempfile::tempdir().unwrap();
    let segments = LocalSegments::new(folder.path().join("ledger"));
    (folder, segments)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_segment_is_visible_once_it_is_sealed() {
    let (_folder, segments) = segments();
    let audience = audience("zoominfo", "one");
    assert_eq!(segments.list(&audience).await.unwrap(), Vec::<String>::new());
    let staged = segments.stage(&audience).await.unwrap();
    fs::write(&staged.path, b"entries").unwrap();
    assert_eq!(segments.list(&audience).await.unwrap(), Vec::<String>::new());
    assert!(matches!(segments.open(&staged.name).await, Err(StateError::Missing { .. })));

    segments.seal(staged.clone()).await.unwrap();
    assert_eq!(segments.list(&audience).await.unwrap(), std::slice::from_ref(&staged.name));
    let path = segments.open(&staged.name).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"entries");
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert!(!staged.path.exists());
}

#[tokio::test]
async fn a_missing_segment_is_told_with_three_choices() {
    let (_folder, segments) = segments();
    let staged = segments.stage(&audience("zoominfo", "one")).await.unwrap();
    segments.seal(staged.clone()).await.unwrap();
    segments.remove(&[staged.name.clone(), staged.name.clone()]).await.unwrap();
    let message = segments.open(&staged.name).await.unwrap_err().to_string();
    for choice in ["adopt", "restore a backup", "begin anew"] {
        assert!(message.contains(choice), "{message}");
    }
}

#[tokio::test]
async fn audiences_do_not_share_a_folder() {
    let (_folder, segments) = segments();
    let keys = [audience("a/b", "c"), audience("a", "b/c"), audience("../..", ""), audience("zoominfo", "../../etc")];
    for key in &keys {
        let staged = segments.stage(key).await.unwrap();
        assert!(staged.path.starts_with(&segments.root), "{:?}", staged.path);
        assert!(!staged.name.contains(".."), "{}", staged.name);
        segments.seal(staged).await.unwrap();
    }
    for key in &keys {
        assert_eq!(segments.list(key).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn staging_removes_what_a_crash_left_and_nothing_that_is_being_written() {
    let (_folder, segments) = segments();
    let audience = audience("zoominfo", "one");
    let crashed = LocalSegments::new(segments.root.clone()).stage(&audience).await.unwrap();
    let first = segments.stage(&audience).await.unwrap();
    assert!(!crashed.path.exists());
    let second = segments.stage(&audience).await.unwrap();
    assert_ne!(first.name, second.name);
    segments.seal(first).await.unwrap();
    segments.seal(second).await.unwrap();
    let late = segments.seal(crashed).await;
    assert!(matches!(late, Err(StateError::Storage { .. })), "{late:?}");
    assert_eq!(segments.list(&audience).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_sealed_segment_is_never_written_again() {
    let (_folder, segments) = segments();
    let staged = segments.stage(&audience("zoominfo", "one")).await.unwrap();
    fs::write(&staged.path, b"first").unwrap();
    segments.seal(staged.clone()).await.unwrap();
    fs::write(&staged.path, b"second").unwrap();
    let again = segments.seal(staged.clone()).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
    assert_eq!(fs::read(segments.open(&staged.name).await.unwrap()).unwrap(), b"first");
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_folder_is_refused() {
    let (_folder, segments) = segments();
    for name in ["", "one", "../one", "one/../two", "one/two/three", "/etc/passwd", "one/", "one/.."] {
        assert!(matches!(segments.open(name).await, Err(StateError::Unusable { .. })), "{name}");
        assert!(matches!(segments.remove(&[name.to_owned()]).await, Err(StateError::Unusable { .. })), "{name}");
    }
}
