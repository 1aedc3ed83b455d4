//! Files that several takers might take.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::error::SourceErrorKind;
use convoke_core::source::{Discover, Source, Split};
use convoke_core::spec::{CsvDropSpec, DropMode, ProcessedFiles};
use convoke_source_drop::{CsvDrop, Taker};
use convoke_testkit::clock::TestClock;
use convoke_testkit::contract::source::SourceSetUp;

use crate::test_folder::{TestFolder, names, outcomes_of};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn taker(installation: &str) -> Taker {
    let (sync, holder) = ("people".to_owned(), format!("host-{installation} (process 1)"));
    Taker { installation: installation.to_owned(), sync, holder }
}

/// Another source over a folder, for this installation.
fn of(folder: &TestFolder, installation: &str, clock: &Arc<TestClock>, change: impl Fn(&mut CsvDropSpec)) -> CsvDrop {
    let mut spec = folder.spec();
    change(&mut spec);
    CsvDrop::open(spec, None, Arc::clone(clock) as _).unwrap().for_taker(taker(installation))
}

async fn splits(source: &CsvDrop) -> Vec<Split> {
    source.discover(Discover { stored: None, reread: false }).await.unwrap().splits
}

#[tokio::test]
async fn of_two_that_have_read_one_file_one_takes_it() {
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    folder.write("a.csv", "a\n1\n");
    let [one, other] = ["one", "other"].map(|name| of(&folder, name, &clock, |_| {}));
    let (of_one, of_other) = (splits(&one).await, splits(&other).await);
    one.claim(&of_one).await.unwrap();
    let error = other.claim(&of_other).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed);
    let told = error.to_string();
    assert!(told.contains("`a.csv` is left to sync `people` of installation one"), "{told}");
    assert!(told.contains("host-one (process 1)"), "{told}");
    one.claim(&of_one).await.unwrap();
    let outcomes = outcomes_of(&one, &of_one).await;
    one.acknowledge(&outcomes).await.unwrap();
    let error = other.claim(&of_other).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Changed);
    assert!(error.to_string().contains("`a.csv` was taken by somebody else"), "{error}");
}

#[tokio::test]
async fn what_another_has_claimed_is_left_and_told_with_its_owner() {
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    folder.write("a.csv", "a\n1\n");
    let [one, other] = ["one", "other"].map(|name| of(&folder, name, &clock, |_| {}));
    one.claim(&splits(&one).await).await.unwrap();
    folder.write("b.csv", "a\n2\n");
    let found = other.discover(Discover { stored: None, reread: false }).await.unwrap();
    assert_eq!(names(&found), ["b.csv"]);
    assert!(found.notices[0].contains("`a.csv` is left to sync `people` of installation one"), "{:?}", found.notices);
    assert!(found.notices[0].contains(".convoke/claims.json"), "{:?}", found.notices);
    other.claim(&found.splits).await.unwrap();
    // What is dropped over a claimed file is another one.
    folder.write("a.csv", "a\n3\n");
    assert_eq!(splits(&other).await.len(), 2);
}

#[tokio::test]
async fn a_snapshot_that_another_has_claimed_does_not_make_an_older_one_the_truth() {
    let (folder, clock) = (TestFolder::new(DropMode::Snapshot), TestClock::leaping());
    folder.write("old.csv", "a\n1\n");
    folder.write("new.csv", "a\n2\n");
    let [one, other] = ["one", "other"].map(|name| of(&folder, name, &clock, |_| {}));
    one.claim(&splits(&one).await).await.unwrap();
    let error = other.discover(Discover { stored: None, reread: false }).await.unwrap_err().to_string();
    assert!(error.contains("`new.csv` is left to sync `people`"), "{error}");
}

#[tokio::test]
async fn a_plan_claims_nothing_and_a_crash_gives_nothing_away() {
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    folder.write("a.csv", "a\n1\n");
    let [one, again, other] = ["one", "one", "other"].map(|name| of(&folder, name, &clock, |_| {}));
    let of_one = splits(&one).await;
    outcomes_of(&one, &of_one).await;
    drop(one);
    assert!(!folder.path(".convoke").exists());
    again.claim(&of_one).await.unwrap();
    drop(again);
    let again = of(&folder, "one", &clock, |_| {});
    assert!(other.claim(&of_one).await.is_err());
    again.claim(&of_one).await.unwrap();
}

#[tokio::test]
async fn others_take_over_what_was_not_renewed_for_two_days() {
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    folder.write("a.csv", "a\n1\n");
    let [one, other] = ["one", "other"].map(|name| of(&folder, name, &clock, |_| {}));
    let of_one = splits(&one).await;
    one.claim(&of_one).await.unwrap();
    clock.advance(DAY);
    assert!(other.claim(&of_one).await.is_err());
    clock.advance(DAY);
    other.claim(&of_one).await.unwrap();
    assert!(one.claim(&of_one).await.is_err(), "what another has taken over is gone");
}

#[tokio::test]
async fn two_syncs_of_one_installation_are_two_takers_where_their_patterns_overlap() {
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    folder.write("people-1.csv", "a\n1\n");
    folder.write("others-1.csv", "a\n2\n");
    let all = of(&folder, "one", &clock, |_| {});
    let mut spec = folder.spec();
    spec.pattern = "people-*.csv".to_owned();
    let some = CsvDrop::open(spec, None, Arc::clone(&clock) as _).unwrap();
    let some = some.for_taker(Taker { sync: "some".to_owned(), ..taker("one") });
    some.claim(&splits(&some).await).await.unwrap();
    let found = all.discover(Discover { stored: None, reread: false }).await.unwrap();
    assert_eq!(names(&found), ["others-1.csv"]);
}

#[tokio::test]
async fn files_that_are_kept_are_for_everybody() {
    let (folder, clock) = (TestFolder::keeping(DropMode::Append), TestClock::leaping());
    folder.write("a.csv", "a\n1\n");
    for name in ["one", "other"] {
        let source = of(&folder, name, &clock, |spec| assert_eq!(spec.processed, ProcessedFiles::Keep));
        source.claim(&splits(&source).await).await.unwrap();
    }
    assert!(!folder.path(".convoke").exists());
}

#[tokio::test]
async fn a_file_that_somebody_cleared_away_is_no_rival() {
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    folder.write("a.csv", "a\n1\n");
    let one = of(&folder, "one", &clock, |_| {});
    let of_one = splits(&one).await;
    std::fs::remove_file(folder.path("a.csv")).unwrap();
    one.claim(&of_one).await.unwrap();
}

#[tokio::test]
async fn a_list_of_claims_that_cannot_be_read_stops_whoever_would_take() {
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    folder.write("a.csv", "a\n1\n");
    std::fs::create_dir(folder.path(".convoke")).unwrap();
    std::fs::write(folder.path(".convoke/claims.json"), "{").unwrap();
    let one = of(&folder, "one", &clock, |_| {});
    let error = one.discover(Discover { stored: None, reread: false }).await.unwrap_err().to_string();
    assert!(error.contains("claims.json` cannot be read as a list of claims"), "{error}");
}

/// Every racer takes what it finds until nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn racers_take_each_file_once_and_lose_none() {
    const FILES: usize = 300;
    let (folder, clock) = (TestFolder::new(DropMode::Append), TestClock::leaping());
    for number in 0..FILES {
        folder.write(&format!("{number}.csv"), format!("a\n{number}\n"));
    }
    let racers = ["one", "two", "three", "four"].map(|name| {
        let source = of(&folder, name, &clock, |_| {});
        tokio::spawn(async move {
            let (mut taken, mut stored) = (Vec::new(), None);
            loop {
                let found = source.discover(Discover { stored: stored.as_ref(), reread: false }).await;
                // Without anything read before, an empty folder is an error.
                let Ok(mut found) = found else { break };
                if found.splits.is_empty() && found.notices.is_empty() {
                    break;
                }
                // As if files came one after the other: so that all have something to take.
                found.splits.truncate(7);
                if source.claim(&found.splits).await.is_err() {
                    tokio::task::yield_now().await;
                    continue;
                }
                let outcomes = outcomes_of(&source, &found.splits).await;
                taken.extend(found.splits.iter().map(|split| split.name.clone()));
                stored = Some(source.propose(stored.as_ref(), &outcomes));
                source.acknowledge(&outcomes).await.unwrap();
            }
            taken
        })
    });
    let mut taken = Vec::new();
    for racer in racers {
        taken.extend(racer.await.unwrap());
    }
    taken.sort();
    let mut all: Vec<_> = (0..FILES).map(|number| format!("{number}.csv")).collect();
    all.sort();
    assert_eq!(taken, all);
    assert!(folder.source().discover(Discover { stored: None, reread: false }).await.is_err(), "nothing is left");
}
