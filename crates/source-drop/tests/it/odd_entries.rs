//! Entries of a folder that cannot be read, or that look as if they were meant.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use convoke_core::spec::DropMode;
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{TestFolder, names};

#[tokio::test]
async fn an_entry_that_cannot_be_looked_at_is_told_and_stands_in_no_other_ones_way() {
    let folder = TestFolder::new(DropMode::Append);
    folder.write("a.csv", "a\n1\n");
    symlink("loop.csv", folder.path("loop.csv")).unwrap();
    let found = folder.discover(None).await;
    assert_eq!(names(&found), ["a.csv"]);
    assert!(found.notices[0].contains("`loop.csv` is not read: it cannot be looked at"), "{:?}", found.notices);
}

#[tokio::test]
async fn names_that_look_like_the_pattern_and_do_not_match_are_told() {
    let folder = TestFolder::new(DropMode::Append);
    for name in ["a.csv", "PEOPLE.CSV", "b.Csv", "other.txt"] {
        folder.write(name, format!("a\n{name}\n"));
    }
    fs::write(folder.path("").join(OsStr::from_bytes(b"caf\xe9\x07.csv")), "a\n9\n").unwrap();
    fs::write(folder.path("").join(OsStr::from_bytes(b"caf\xe9.txt")), "a\n9\n").unwrap();
    let found = folder.discover(None).await;
    assert_eq!(names(&found), ["a.csv"]);
    let told = found.notices.join("\n");
    assert!(told.contains("`caf\u{fffd}\\u{7}.csv` is not read: its name is not Unicode; rename it"), "{told}");
    assert!(told.contains("not read: `PEOPLE.CSV` and 1 more; `pattern: *.csv` tells upper from lower case"), "{told}");
    assert_eq!(found.notices.len(), 2, "{told}");
}

#[tokio::test]
async fn subfolders_are_for_those_whom_the_folder_is_for() {
    let folder = TestFolder::new(DropMode::Append);
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    folder.write("a.csv", "a\n1\n");
    folder.write("bad.csv", "a,a\n1,2\n");
    folder.run(None).await;
    for name in ["processed", "quarantine"] {
        let mode = fs::metadata(folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o777, "{name}: {mode:o}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn that_files_would_have_to_leave_their_file_system_is_told_before_they_are_read() {
    let folder = TestFolder::new(DropMode::Append);
    folder.write("a.csv", "a\n1\n");
    symlink("/proc", folder.path("processed")).unwrap();
    let splits = folder.discover(None).await.splits;
    let error = folder.source().can_acknowledge(&splits).await.unwrap_err().to_string();
    assert!(error.contains("processed`, which is on another file system than"), "{error}");
}
