//! Setting an audience up, over lost answers and crashes: everything is there in the end, and nothing twice.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::sink::{AudienceTarget, KEY_COLUMN};
use convoke_core::spec::{AudienceKind, AudienceSpec};
use convoke_core::{Clock, ConnectionName, DataType, SinkError, StateError};
use convoke_delivery::provision::{ProvisionError, SetupPorts, SetupProblem, ensure};
use convoke_testkit::clock::TestClock;
use convoke_testkit::fake_sink::{FakeSink, Faults, WriteFault};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::memory_state::MemoryState;
use crate::world::{FOREVER, TestLease};

pub(crate) fn target() -> AudienceTarget {
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

pub(crate) fn account(faults: Faults) -> (Arc<TestClock>, Arc<FakeSink>, SetupPorts) {
    let clock = TestClock::stepping();
    let sink = FakeSink::new(Arc::clone(&clock) as Arc<dyn Clock>, FakeSink::small_capabilities(), faults);
    let ports = SetupPorts {
        sink: Arc::clone(&sink) as _,
        state: Arc::new(MemoryState::default()),
        clock: Arc::clone(&clock) as _,
        lease: Arc::new(TestLease { fence: 1, taken_over: false, clock: Arc::clone(&clock), ends_at: FOREVER }),
        cancel: CancellationToken::new(),
    };
    (clock, sink, ports)
}

/// One folder, one audience, and its columns: two mapped, the key, the match column.
pub(crate) const COMPLETE: (usize, usize, usize) = (1, 1, 4);

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

/// A target whose names the destination does not keep as they are.
fn untidy() -> AudienceTarget {
    let mut target = target();
    target.spec.name = " Booth Scans".to_owned();
    target.spec.folder = Some("Events ".to_owned());
    target
}

#[test]
fn what_was_made_is_known_by_its_id_where_the_destination_changes_names() {
    let (clock, sink, ports) = account(Faults::none());
    sink.trim_names();
    let made = clock.run(ensure(&ports, &untidy(), None)).unwrap();
    // The process may end before the audience is bound: its name does not lead to it, the open intent does.
    let again = clock.run(ensure(&ports, &untidy(), None)).unwrap();
    assert_eq!(again, made);
    let bound = clock.run(ensure(&ports, &untidy(), Some(&made.key.audience_id))).unwrap();
    assert_eq!(bound, made);
    assert_eq!(sink.made(), COMPLETE);
    let what = "audience ` Booth Scans`";
    let open = clock.run(ports.state.open_provision(&untidy().spec.connection, what)).unwrap();
    assert_eq!(open, None, "a bound audience leaves no intent behind");
}

#[test]
fn an_audience_that_was_deleted_before_it_was_bound_is_made_anew() {
    let (clock, sink, ports) = account(Faults::none());
    let (connection, what) = (target().spec.connection, "audience `Booth Scans`");
    clock.run(ports.state.intend_provision(&connection, what, clock.now())).unwrap();
    clock.run(ports.state.note_made(&connection, what, clock.now(), "deleted")).unwrap();
    let made = clock.run(ensure(&ports, &target(), None)).unwrap();
    assert_ne!(made.key.audience_id, "deleted");
    assert_eq!(sink.made(), COMPLETE);
}

#[test]
fn two_audiences_that_want_the_same_new_folder_get_one() {
    for later in (0..600).step_by(20) {
        let (clock, sink, ports) = account(Faults::none());
        let mut other = target();
        other.spec.name = "Webinar Guests".to_owned();
        let both = async {
            let second = async {
                clock.sleep(Duration::from_millis(later)).await;
                ensure(&ports, &other, None).await
            };
            let first = target();
            futures::future::try_join(ensure(&ports, &first, None), second).await
        };
        clock.run(both).unwrap();
        assert_eq!(sink.made(), (1, 2, 8), "the second begins {later} ms later");
    }
}

#[test]
fn what_another_run_made_between_the_look_and_the_intent_is_not_made_again() {
    let (clock, sink, ports) = account(Faults::none());
    let mut other = target();
    other.spec.name = "Webinar Guests".to_owned();
    clock.run(ensure(&ports, &other, None)).unwrap();
    sink.outdate_surveys(1);
    clock.run(ensure(&ports, &target(), None)).unwrap();
    assert_eq!(sink.made(), (1, 2, 8));
}

#[test]
fn nothing_is_made_once_the_lease_has_run_out() {
    let (clock, sink, mut ports) = account(Faults::none());
    let ends_at = Duration::from_millis(1_400);
    ports.lease = Arc::new(TestLease { fence: 1, taken_over: false, clock: Arc::clone(&clock), ends_at });
    let error = clock.run(ensure(&ports, &target(), None)).unwrap_err();
    assert!(matches!(error, ProvisionError::State { source: StateError::LeaseLost { .. }, .. }), "{error}");
    assert!(clock.elapsed() < ends_at);
    assert_ne!(sink.made(), COMPLETE);
}

#[test]
fn a_refused_step_is_tried_once_and_told_in_the_destinations_words() {
    let (clock, sink, ports) = account(Faults::none());
    sink.script([WriteFault::None, WriteFault::Refused]);
    let error = clock.run(ensure(&ports, &target(), None)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ProvisionError::Problem(SetupProblem::Refused { .. })), "{error:?}");
    assert!(text.contains("audience `Booth Scans`") && text.contains("the fake does not take it"), "{text}");
    assert!(clock.elapsed() < Duration::from_secs(60), "{:?}", clock.elapsed());
    clock.run(ensure(&ports, &target(), None)).unwrap();
    assert_eq!(sink.made(), COMPLETE);
}

#[test]
fn a_set_up_that_is_not_allowed_is_told_and_goes_on_once_it_is() {
    let (clock, sink, ports) = account(Faults::none());
    sink.script([WriteFault::Forbidden]);
    let error = clock.run(ensure(&ports, &target(), None)).unwrap_err();
    assert!(matches!(error, ProvisionError::Sink { source: SinkError::Forbidden { .. }, .. }), "{error:?}");
    clock.run(ensure(&ports, &target(), None)).unwrap();
    assert_eq!(sink.made(), COMPLETE);
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
