//! Whether something has come.

use std::time::Duration;

use convoke_core::source::{Arrivals, SourcePosition};
use convoke_core::spec::{DropMode, ProcessedFiles};
use convoke_core::{Clock, Timestamp};
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::TestFolder;

async fn arrivals(folder: &TestFolder, stored: Option<&SourcePosition>) -> Arrivals {
    folder.source().arrivals(stored).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_has_come_goes_by_a_mark_until_it_is_read() {
    for processed in [ProcessedFiles::Move, ProcessedFiles::Keep] {
        let folder = TestFolder::with(DropMode::Append, |spec| {
            (spec.processed, spec.settle) = (processed, Duration::ZERO);
        });
        assert_eq!(arrivals(&folder, None).await, Arrivals::default());
        folder.write("a.csv", "a\n1\n");
        let one = arrivals(&folder, None).await;
        assert_eq!((one.count, one.settling), (1, None));
        assert_eq!(arrivals(&folder, None).await, one, "the same look sees the same");
        folder.write("b.csv", "a\n2\n");
        let both = arrivals(&folder, None).await;
        assert_eq!(both.count, 2);
        assert_ne!(both.mark, one.mark);
        let stored = folder.run(None).await;
        assert_eq!(arrivals(&folder, Some(&stored)).await, Arrivals::default());
    }
}

#[tokio::test]
async fn of_snapshots_only_one_that_is_newer_than_the_last_has_come() {
    let folder = TestFolder::with(DropMode::Snapshot, |spec| spec.settle = Duration::ZERO);
    folder.write_at("a.csv", "a\n1\n", 5);
    folder.write_at("b.csv", "a\n2\n", 6);
    assert_eq!(arrivals(&folder, None).await.count, 1);
    let stored = folder.run(None).await;
    assert_eq!(arrivals(&folder, Some(&stored)).await, Arrivals::default(), "the older one is no truth again");
    folder.write_at("c.csv", "a\n3\n", 7);
    assert_eq!(arrivals(&folder, Some(&stored)).await.count, 1);
}

/// A clock that stands at one time.
#[derive(Debug)]
struct At(Timestamp);

#[async_trait::async_trait]
impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _duration: Duration) {
        panic!("a look does not wait");
    }
}

#[tokio::test]
async fn a_file_whose_time_lies_ahead_has_come_once_it_has_lain_there_long_enough() {
    let probe = tempfile::NamedTempFile::new().unwrap();
    let now = std::os::unix::fs::MetadataExt::ctime(&probe.as_file().metadata().unwrap()) * 1_000;
    for (later, count) in [(0, 0), (7_200_000, 1)] {
        for mode in [DropMode::Append, DropMode::Snapshot] {
            let folder = TestFolder::with_clock(mode, std::sync::Arc::new(At(Timestamp(now + later))), |spec| {
                spec.settle = Duration::from_secs(3_600);
            });
            /// A minute of the year 2170 or so.
            const FAR_AHEAD: u64 = 60 * 24 * 365 * 200;
            folder.write_at("ahead.csv", "a\n1\n", FAR_AHEAD);
            let look = arrivals(&folder, None).await;
            assert_eq!((look.count, look.settling.is_none()), (count, count == 1), "{later}");
        }
    }
}

#[tokio::test]
async fn a_look_holds_no_file_against_its_checksum() {
    let folder = TestFolder::with(DropMode::Append, |spec| {
        (spec.settle, spec.manifest) = (Duration::ZERO, Some("*.manifest".to_owned()));
    });
    folder.write("a.csv", "a\n1\n");
    folder.write("1.manifest", format!("blake3:{} a.csv\n", blake3::hash(b"a\n2\n").to_hex()));
    assert_eq!(arrivals(&folder, None).await.count, 1);
    let error = folder.try_discover(None, false).await.unwrap_err().to_string();
    assert!(error.contains("`a.csv` has another checksum"), "{error}");
}

/// A clock that stands at the time at which a file was written.
#[derive(Debug)]
struct JustNow;

#[async_trait::async_trait]
impl Clock for JustNow {
    fn now(&self) -> Timestamp {
        Timestamp(i64::MAX / 2)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _duration: Duration) {
        panic!("a look does not wait");
    }
}

#[tokio::test]
async fn a_look_does_not_wait_for_what_is_being_written() {
    let folder = TestFolder::with_clock(DropMode::Append, std::sync::Arc::new(JustNow), |_| {});
    folder.write("a.csv", "a\n1\n");
    assert_eq!(arrivals(&folder, None).await.count, 1, "long ago, by this clock");
    let young = TestFolder::with(DropMode::Append, |spec| spec.settle = Duration::from_secs(10_000 * 24 * 3_600));
    young.write("a.csv", "a\n1\n");
    let look = arrivals(&young, None).await;
    assert!(look.mark.is_none() && look.settling.is_some(), "{look:?}");
}
