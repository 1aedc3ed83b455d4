//! A full disk: told clearly, nothing half-applied, and over once there is space again.
//!
//! The disk is a small memory file system, mounted in a mount namespace of the test's own, so nothing is left behind.

use std::path::Path;
use std::process::Command;

use convoke_core::StateError;
use convoke_core::state::Budgets;
use convoke_state::{OpenMode, SqliteState};
use convoke_testkit::contract::state::SaveBudget;
use serde_json::json;

const INNER_TEST: &str = "sqlite::disk_full::on_a_small_disk";
const SMALL: u64 = 4 << 20;
const ON_SMALL_DISK: &str =
    "mount -t tmpfs -o size=4m tmpfs \"$2\" && cd \"$2\" && exec \"$0\" --exact \"$1\" --ignored";

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_applied() {
    let disk = tempfile::tempdir().unwrap();
    let is_root = rustix::process::getuid().is_root();
    let namespaces: &[&str] = if is_root { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] };
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", ON_SMALL_DISK])
        .arg(std::env::current_exe().unwrap())
        .arg(INNER_TEST)
        .arg(disk.path())
        .output()
        .expect("`unshare` is there: install util-linux");
    let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && told.contains("1 passed"),
        "if mounting was refused, run the tests as root or with `sysctl kernel.unprivileged_userns_clone=1` \
         (in a container: with CAP_SYS_ADMIN)\n{told}\n{failed}"
    );
}

#[tokio::test]
#[ignore = "run by `a_full_disk_is_told_and_leaves_nothing_half_applied` on a disk of four megabytes"]
async fn on_a_small_disk() {
    let disk = rustix::fs::statvfs(".").unwrap();
    assert!(disk.f_blocks * disk.f_frsize <= SMALL, "run by hand, this would fill a disk that is not its own");
    let state = SqliteState::open(Path::new("convoke.db"), OpenMode::ReadWrite).await.unwrap();
    state.save_budget("before", &json!("kept")).await.unwrap();
    fill(Path::new("filler"));

    let large = json!("x".repeat(500_000));
    let error = state.save_budget("large", &large).await.unwrap_err();
    let StateError::Storage { message, .. } = &error else { panic!("{error:?}") };
    for part in ["convoke.db", "is full", "nothing was half-applied", "free some space"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(state.budget("before").await.unwrap(), Some(json!("kept")));
    assert_eq!(state.budget("large").await.unwrap(), None);

    std::fs::remove_file("filler").unwrap();
    state.save_budget("large", &large).await.expect("there is space again");
    state.close().await;
    let reopened = SqliteState::open(Path::new("convoke.db"), OpenMode::Existing).await.unwrap();
    assert_eq!(reopened.budget("large").await.unwrap(), Some(large));
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut filler = std::fs::File::create(path).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
}
