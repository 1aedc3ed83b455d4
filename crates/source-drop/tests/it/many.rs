//! Thousands of small files.

use std::time::Instant;

use convoke_core::spec::DropMode;

use crate::test_folder::TestFolder;

/// Enough for what grows with the square of the number to take minutes.
const FILES: usize = 5_000;

fn fill(folder: &TestFolder, from: usize) {
    for number in from..from + FILES {
        // All of one size, so that none can be told from the others by it.
        folder.write(&format!("{number:06}.csv"), format!("id,name\n{number:06},a\n"));
    }
}

#[tokio::test]
async fn thousands_of_small_files_are_read_and_put_away_in_time_that_grows_with_their_number() {
    let folder = TestFolder::new(DropMode::Append);
    fill(&folder, 0);
    #[expect(clippy::disallowed_methods, reason = "real work is measured")]
    let begun = Instant::now();
    let stored = folder.run(None).await;
    assert_eq!(folder.names("processed").len(), FILES);
    assert!(folder.names("").is_empty());
    let bytes = stored.0.to_string().len();
    assert!(bytes < FILES * 100, "a position of {bytes} bytes");
    // The same files once more are recognised, whichever way they are remembered.
    fill(&folder, 0);
    let again = folder.discover(Some(&stored)).await;
    assert!(again.unchanged, "{} to be read", again.splits.len());
    assert_eq!(again.settled.len(), FILES);
    let long_ago = "has the same contents as a file that was read long before";
    assert!(again.notices.iter().any(|notice| notice.contains(long_ago)), "{:?}", again.notices.first());
    let whole = folder.try_discover(Some(&stored), true).await.unwrap();
    assert_eq!(whole.splits.len(), FILES);
    // Seconds; what grows with the square takes minutes.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn thousands_of_files_that_are_kept_are_known_without_reading_them() {
    let folder = TestFolder::keeping(DropMode::Append);
    fill(&folder, 0);
    let stored = folder.run(None).await;
    for number in 0..FILES {
        // Whoever would read them could not.
        let path = folder.path(&format!("{number:06}.csv"));
        assert!(path.exists());
    }
    let again = folder.discover(Some(&stored)).await;
    assert!(again.unchanged && again.notices.is_empty(), "{:?}", again.notices.first());
    folder.write("new.csv", "id,name\n1,a\n");
    assert_eq!(folder.discover(Some(&stored)).await.splits.len(), 1);
}
