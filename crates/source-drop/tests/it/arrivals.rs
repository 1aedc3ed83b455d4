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
