//! Setting an audience up, over lost answers and crashes: everything is there in the end, and nothing twice.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::sink::{AudienceTarget, KEY_COLUMN};
use convoke_core::spec::{AudienceKind, AudienceSpec};
use convoke_core::{Clock, ConnectionName, DataType};
use convoke_delivery::provision::{ProvisionError, SetupPorts, SetupProblem, ensure};
use convoke_testkit::clock::TestClock;
use convoke_testkit::fake_sink::{FakeSink, Faults, WriteFault};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::memory_state::MemoryState;

fn target() -> AudienceTarget {
    AudienceTarget {
        spec: AudienceSpec {
            connection: ConnectionName::new("fake"),
            name: "Booth Scans".to_owned(),
            id: None,
            kind: AudienceKind::Contact,
            folder: Some("Events".to_owned()),
            description: None,
            match_criteria: vec![("Email".to_owned(), "CONTACT_EMAIL".to_owned())],
            match_columns: vec![("ZoomInfo Contact".to_owned(), DataType::ZiContactId)],
        },
        columns: vec![("Email".to_owned(), DataType::Email), ("Company".to_owned(), DataType::Text)],
    }
}

fn account(faults: Faults) -> (Arc<TestClock>, Arc<FakeSink>, SetupPorts) {
    let clock = TestClock::stepping();
    let sink = FakeSink::new(Arc::clone(&clock) as Arc<dyn Clock>, FakeSink::small_capabilities(), faults);
    let ports = SetupPorts {
        sink: Arc::clone(&sink) as _,
        state: Arc::new(MemoryState::default()),
        clock: Arc::clone(&clock) as _,
        cancel: CancellationToken::new(),
    };
    (clock, sink, ports)
}

/// One folder, one audience, and its columns: two mapped, the key, the match column.
const COMPLETE: (usize, usize, usize) = (1, 1, 4);

#[test]
fn an_audience_is_made_once_and_found_the_second_time() {
    let (clock, sink, ports) = account(Faults::none());
    let made = clock.run(ensure(&ports, &target(), None)).unwrap();
    assert_eq!(sink.made(), COMPLETE);
    let names: Vec<&str> = made.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["Email", "Company"]);
    assert!(made.key_look_up.is_some());
    let found = clock.run(ensure(&ports, &target(), Some(&made.key.audience_id))).unwrap();
    assert_eq!(found, made);
    assert_eq!(sink.made(), COMPLETE);
}

#[test]
fn a_mapping_that_grows_adds_its_column() {
    let (clock, sink, ports) = account(Faults::none());
    clock.run(ensure(&ports, &target(), None)).unwrap();
    let mut grown = target();
    grown.columns.push(("Country".to_owned(), DataType::Text));
    let bound = clock.run(ensure(&ports, &grown, None)).unwrap();
    assert_eq!(bound.columns.len(), 3);
    assert_eq!(sink.made(), (1, 1, 5));
    assert_ne!(bound.key_column_id, KEY_COLUMN);
}

#[test]
fn two_audiences_of_one_name_are_not_guessed_between() {
    let (clock, sink, ports) = account(Faults::none());
    sink.add_audience("one", "Booth Scans", "CONTACT");
    sink.add_audience("two", "Booth Scans", "CONTACT");
    let error = clock.run(ensure(&ports, &target(), None)).unwrap_err();
    assert!(matches!(error, ProvisionError::Problem(SetupProblem::ManyAudiences { count: 2, .. })), "{error}");
    assert!(error.to_string().contains("one, two"));
    let by_id = clock.run(ensure(&ports, &target(), Some("two"))).unwrap();
    assert_eq!(by_id.key.audience_id, "two");
}

#[test]
fn a_lost_answer_is_waited_out_before_anything_is_made_again() {
    let (clock, sink, ports) = account(Faults::none());
    let late = FakeSink::small_capabilities().max_commit_delay - Duration::from_secs(1);
    sink.script([WriteFault::LateCommit { by: late }, WriteFault::LostRequest, WriteFault::LostAnswer]);
    clock.run(ensure(&ports, &target(), None)).unwrap();
    assert_eq!(sink.made(), COMPLETE);
}

#[test]
fn a_destination_that_never_answers_is_given_up() {
    let (clock, sink, ports) = account(Faults::none());
    sink.script(vec![WriteFault::LostRequest; 100]);
    let error = clock.run(ensure(&ports, &target(), None)).unwrap_err();
    assert!(matches!(error, ProvisionError::GaveUp { .. }), "{error}");
    assert_eq!(sink.made(), (0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_littered_whatever_fails_and_whenever_the_process_ends(
        seed in any::<u64>(),
        deaths in proptest::collection::vec(0u64..20_000, 0..6),
    ) {
        let (clock, sink, ports) = account(Faults::seeded(seed, 0.4));
        let wanted = target();
        for death in deaths {
            clock.run(async {
                tokio::select! {
                    biased;
                    () = clock.sleep(Duration::from_millis(death)) => {}
                    _ = ensure(&ports, &wanted, None) => {}
                }
            });
        }
        sink.calm_down();
        clock.run(ensure(&ports, &target(), None)).unwrap();
        prop_assert_eq!(sink.made(), COMPLETE);
    }
}
