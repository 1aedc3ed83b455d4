//! The machine's decisions, case by case: facts in, actions out.

use std::collections::BTreeSet;
use std::time::Duration;

use convoke_core::RowId;
use convoke_core::journal::{IntentRow, Operation, RowOutcome};
use convoke_core::sink::{Answer, AppliedRow, AttemptTag, FailedCell, JobId, JobState, KEY_COLUMN, Problem, Refusal};
use convoke_core::{ContentHash, KeyHash};

use super::*;

const COMMIT: Duration = Duration::from_secs(300);
const SETTLE: Duration = Duration::from_secs(10);
const SEED: u32 = 1_000;

fn assumptions() -> Assumptions {
    Assumptions { atomic_refusals: true, max_commit_delay: COMMIT, settle: SETTLE, key_look_up: true }
}

fn task(operation: Operation, rows: u32) -> BatchTask {
    let (attempts_before, attempts_swept, recreated) = Default::default();
    BatchTask { operation, rows: (0..rows).collect(), attempts_before, attempts_swept, tag_seed: SEED, recreated }
}

fn tag(attempt: u32) -> AttemptTag {
    AttemptTag(SEED + attempt)
}

fn id(row: u32) -> RowId {
    RowId::new(format!("id-{row}"))
}

fn acknowledged(row: u32) -> Fate {
    Fate::Acknowledged(id(row))
}

fn applied(rows: impl IntoIterator<Item = (usize, u32)>) -> Fact {
    let row = |(index, row)| AppliedRow { index, row_id: id(row), failed_cells: vec![] };
    Fact::Answered(Answer::Applied(rows.into_iter().map(row).collect()))
}

fn lost() -> Fact {
    Fact::Answered(Answer::Unknown { reason: "reset".to_owned() })
}

fn busy(retry_after: Option<Duration>) -> Fact {
    Fact::Answered(Answer::NotApplied { reason: "busy".to_owned(), retry_after })
}

fn refused(indices: &[usize]) -> Fact {
    let problem = |index: &usize| Problem {
        index: Some(*index),
        column: Some("Email".to_owned()),
        code: "PFAPI0005".to_owned(),
        detail: "no e-mail".to_owned(),
    };
    Fact::Answered(Answer::Refused(Refusal { too_large: false, problems: indices.iter().map(problem).collect() }))
}

fn found(rows: impl IntoIterator<Item = (u32, u32)>) -> Fact {
    let hit = |(row, attempt)| Found { row, row_id: id(row), tag: Some(tag(attempt)) };
    Fact::LookedUp(rows.into_iter().map(hit).collect())
}

/// A machine that is about to send its first request.
fn about_to_send(assumptions: Assumptions, task: BatchTask) -> Machine {
    let mut machine = Machine::new(assumptions, task);
    while !matches!(machine.next(), Action::Send { .. }) {
        machine.on(Fact::Done);
    }
    machine
}

/// Hands facts in one after the other, each once the machine is past what needs none; returns what it did meanwhile.
fn play(machine: &mut Machine, facts: impl IntoIterator<Item = Fact>) -> Vec<Action> {
    let mut actions = Vec::new();
    for fact in facts {
        pass(machine, &mut actions);
        actions.push(machine.next().clone());
        machine.on(fact);
    }
    pass(machine, &mut actions);
    actions.push(machine.next().clone());
    actions
}

fn pass(machine: &mut Machine, actions: &mut Vec<Action>) {
    loop {
        match machine.next() {
            Action::Send { .. }
            | Action::LookUpKeys { .. }
            | Action::LookUpIds { .. }
            | Action::Poll { .. }
            | Action::Done
            | Action::Stop(_) => return,
            other => {
                actions.push(other.clone());
                machine.on(Fact::Done);
            }
        }
    }
}

fn wait(at_least: Duration, why: &'static str) -> Action {
    Action::Wait { at_least, jitter: Duration::ZERO, why }
}

fn send(rows: &[u32], attempt: u32) -> Action {
    Action::Send { rows: rows.to_vec(), tag: tag(attempt) }
}

fn journal(rows: &[u32], attempt: u32) -> Action {
    Action::Journal { rows: rows.to_vec(), attempt, tag: tag(attempt) }
}

fn cells(rows: &[u32], attempts: &[u32]) -> Action {
    let of = |row: &u32| attempts.iter().map(move |attempt| (*row, tag(*attempt))).collect::<Vec<_>>();
    Action::LookUpKeys { cells: rows.iter().flat_map(of).collect() }
}

#[test]
fn an_intent_is_durable_before_its_request_and_closed_after_its_answer() {
    let mut machine = Machine::new(assumptions(), task(Operation::Create, 2));
    let actions = play(&mut machine, [applied([(1, 1), (0, 0)])]);
    let closed = Action::Close { fates: vec![acknowledged(0), acknowledged(1)] };
    assert_eq!(actions, [journal(&[0, 1], 1), send(&[0, 1], 1), closed, Action::Done]);
}

#[test]
fn that_cells_of_a_row_failed_is_in_the_journal_before_it_is_told() {
    let failed = |operation: Operation, columns: &[&str]| {
        let cell = |column: &&str| FailedCell { column: (*column).to_owned(), summary: "does not fit".to_owned() };
        let failed_cells = columns.iter().map(cell).collect();
        let answer = Answer::Applied(vec![AppliedRow { index: 0, row_id: id(0), failed_cells }]);
        let mut machine = about_to_send(assumptions(), task(operation, 1));
        play(&mut machine, [Fact::Answered(answer)])
    };
    let told = |detail: &str| {
        let (code, column) = (CELL_FAILED.to_owned(), Some("Email".to_owned()));
        let reject = Action::Reject { row: 0, reason: Reason { code, column, detail: detail.to_owned() } };
        vec![send(&[0], 1), Action::Close { fates: vec![Fate::Failed(id(0))] }, reject, Action::Done]
    };
    let closed = |fate: Fate| vec![send(&[0], 1), Action::Close { fates: vec![fate] }, Action::Done];
    for operation in [Operation::Create, Operation::Update] {
        assert_eq!(failed(operation, &["Email"]), told("does not fit"));
        assert_eq!(failed(operation, &["Email", "Name", "Score"]), told("does not fit (and 2 more columns)"));
    }
    // Without its key cell a new row may be another one that was sent. An update goes by the id.
    assert_eq!(failed(Operation::Create, &["Email", KEY_COLUMN]), closed(Fate::Incomplete(id(0))));
    assert_eq!(failed(Operation::Update, &["Email", KEY_COLUMN]), told("does not fit"));
    assert_eq!(failed(Operation::Update, &[KEY_COLUMN]), closed(acknowledged(0)));
}

#[test]
fn what_was_not_applied_is_sent_again_under_its_intent_no_sooner_than_asked() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 1));
    let asked = Duration::from_secs(7);
    let actions = play(&mut machine, [busy(Some(asked)), applied([(0, 0)])]);
    let [first, Action::Wait { at_least, jitter, .. }, second, ..] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((first, second), (&send(&[0], 1), &send(&[0], 1)));
    assert_eq!((*at_least, *jitter), (asked, backoff(1)));
}

#[test]
fn a_destination_that_stays_busy_is_given_up_with_the_entry_closed() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 1));
    let actions = play(&mut machine, (0..MAX_SENDS).map(|_| busy(None)));
    let end = &actions[actions.len() - 2..];
    assert_eq!(end[0], Action::Close { fates: vec![Fate::NotApplied] });
    assert!(matches!(end[1], Action::Stop(Stop::GaveUp { attempts: MAX_SENDS, .. })), "{end:?}");
}

#[test]
fn a_retry_after_longer_than_a_run_waits_is_a_used_up_quota() {
    let retry_after = LONGEST_RETRY_AFTER + Duration::from_secs(1);
    let mut machine = about_to_send(assumptions(), task(Operation::Update, 1));
    let actions = play(&mut machine, [busy(Some(retry_after))]);
    assert_eq!(
        actions[1..],
        [Action::Close { fates: vec![Fate::NotApplied] }, Action::Stop(Stop::Quota { retry_after })]
    );
}

#[test]
fn a_lost_create_is_looked_up_twice_before_it_is_made_again_under_another_tag() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 2));
    let actions = play(&mut machine, [lost(), found([(0, 1)]), found([])]);
    assert_eq!(
        actions,
        [
            send(&[0, 1], 1),
            wait(COMMIT + SETTLE, "an answer was lost"),
            cells(&[0, 1], &[1]),
            wait(SETTLE, "rows are looked up a second time"),
            cells(&[1], &[1]),
            Action::NoteRecreated { rows: vec![1], tag: tag(1) },
            Action::Close { fates: vec![acknowledged(0), Fate::NotApplied] },
            Action::NoteRecreated { rows: vec![1], tag: tag(2) },
            journal(&[1], 2),
            send(&[1], 2),
        ]
    );
}

#[test]
fn every_tag_of_a_row_is_looked_up_and_the_newest_row_adopted() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 1));
    play(&mut machine, [lost(), found([]), found([])]);
    let both = Fact::LookedUp(vec![
        Found { row: 0, row_id: RowId::new("newer"), tag: Some(tag(2)) },
        Found { row: 0, row_id: RowId::new("older"), tag: Some(tag(1)) },
    ]);
    let actions = play(&mut machine, [lost(), both]);
    assert!(actions.contains(&cells(&[0], &[1, 2])), "{actions:?}");
    assert!(actions.contains(&Action::Close { fates: vec![Fate::Acknowledged(RowId::new("newer"))] }), "{actions:?}");
}

#[test]
fn rows_missing_from_a_short_answer_are_read_back_and_the_others_kept() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 3));
    let actions = play(&mut machine, [applied([(0, 0)]), found([(1, 1), (2, 1)])]);
    assert!(actions.contains(&cells(&[1, 2], &[1])), "{actions:?}");
    // That they are there does not say that all their cells are.
    let closed = Action::Close { fates: vec![acknowledged(0), Fate::Incomplete(id(1)), Fate::Incomplete(id(2))] };
    assert_eq!(actions[3..], [closed, Action::Done]);
}

#[test]
fn an_id_that_stands_for_two_rows_or_for_none_proves_nothing() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 2));
    let actions = play(&mut machine, [applied([(0, 0), (1, 0), (9, 9)])]);
    assert_eq!(actions.last(), Some(&cells(&[0, 1], &[1])));
}

#[test]
fn creates_whose_answers_are_lost_again_and_again_are_given_up_closed() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 1));
    let facts = (0..MAX_CREATE_ROUNDS).flat_map(|_| [lost(), found([]), found([])]);
    let actions = play(&mut machine, facts);
    assert!(matches!(actions.last(), Some(Action::Stop(Stop::GaveUp { attempts: MAX_CREATE_ROUNDS, .. }))));
    assert!(actions.contains(&Action::Close { fates: vec![Fate::NotApplied] }));
}

#[test]
fn a_refusal_that_may_have_done_a_part_is_read_back_before_it_is_split() {
    let partial = Assumptions { atomic_refusals: false, ..assumptions() };
    let mut machine = about_to_send(partial, task(Operation::Create, 3));
    let actions = play(&mut machine, [refused(&[1]), found([(0, 1)]), found([])]);
    assert_eq!(actions[1..3], [wait(SETTLE, "a refused batch is looked up"), cells(&[0, 1, 2], &[1])]);
    let closed = Action::Close { fates: vec![Fate::Incomplete(id(0)), Fate::NotApplied, Fate::NotApplied] };
    assert!(actions.contains(&closed), "{actions:?}");
    assert_eq!(actions.last(), Some(&send(&[2], 2)));
}

#[test]
fn a_row_is_looked_up_under_the_attempts_it_was_in_and_no_others() {
    let partial = Assumptions { atomic_refusals: false, ..assumptions() };
    let resumed = BatchTask { attempts_before: 2, ..task(Operation::Create, 4) };
    let mut machine = about_to_send(partial, resumed);
    let nothing = || [refused(&[]), found([]), found([])];
    // All four, then the first two, then each of them; the fourth attempt's are never those of rows 2 and 3.
    let facts = nothing().into_iter().chain(nothing()).chain(nothing()).chain(nothing()).chain([refused(&[])]);
    let actions = play(&mut machine, facts);
    assert_eq!(actions.last(), Some(&cells(&[2, 3], &[1, 2, 3, 7])), "{actions:?}");
}

#[test]
fn a_refused_update_that_may_be_half_done_is_unsure_before_it_is_rejected() {
    let partial = Assumptions { atomic_refusals: false, ..assumptions() };
    let mut machine = about_to_send(partial, task(Operation::Update, 1));
    let actions = play(&mut machine, [refused(&[0]), found([(0, 0)])]);
    let end = &actions[actions.len() - 5..];
    assert_eq!(end[..2], [Action::Close { fates: vec![Fate::Unsure] }, journal(&[0], 2)]);
    assert!(matches!(end[2], Action::Reject { row: 0, .. }), "{end:?}");
    assert_eq!(end[3..], [Action::Close { fates: vec![Fate::Rejected] }, Action::Done]);
}

#[test]
fn an_update_that_is_given_up_after_such_a_refusal_is_closed_as_unsure() {
    let partial = Assumptions { atomic_refusals: false, ..assumptions() };
    let mut machine = about_to_send(partial, task(Operation::Update, 2));
    let facts = [refused(&[1]), found([(0, 0)]), found([]), Fact::SendFailed];
    let actions = play(&mut machine, facts);
    assert!(actions.contains(&Action::Close { fates: vec![Fate::Unsure, Fate::Removed] }), "{actions:?}");
}

#[test]
fn updates_missing_from_a_short_answer_are_looked_up_before_they_are_sent_again() {
    let mut machine = about_to_send(assumptions(), task(Operation::Update, 3));
    let actions = play(&mut machine, [applied([(0, 0)]), found([(1, 0)]), found([]), applied([(0, 1)])]);
    assert!(actions.contains(&Action::LookUpIds { rows: vec![1, 2] }), "{actions:?}");
    assert!(actions.contains(&send(&[1], 1)), "{actions:?}");
    assert!(actions.contains(&Action::Close { fates: vec![acknowledged(0), acknowledged(1), Fate::Removed] }));
}

#[test]
fn suspects_are_sent_apart_and_rejected_only_when_refused_alone() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 4));
    let actions = play(&mut machine, [refused(&[2]), applied([(0, 0), (1, 1), (2, 3)]), refused(&[0])]);
    let sent: Vec<&Action> = actions.iter().filter(|action| matches!(action, Action::Send { .. })).collect();
    assert_eq!(sent, [&send(&[0, 1, 2, 3], 1), &send(&[0, 1, 3], 2), &send(&[2], 3)]);
    let reason =
        Reason { code: "PFAPI0005".to_owned(), column: Some("Email".to_owned()), detail: "no e-mail".to_owned() };
    let end = &actions[actions.len() - 3..];
    assert_eq!(end, [Action::Reject { row: 2, reason }, Action::Close { fates: vec![Fate::Rejected] }, Action::Done]);
}

#[test]
fn a_row_whose_company_was_done_is_sent_alone_before_it_is_rejected() {
    let partial = Assumptions { atomic_refusals: false, ..assumptions() };
    let mut machine = about_to_send(partial, task(Operation::Create, 2));
    let actions = play(&mut machine, [refused(&[]), found([(0, 1)]), found([]), applied([(0, 1)])]);
    assert!(actions.contains(&send(&[1], 2)), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Reject { .. })), "{actions:?}");
    assert_eq!(actions.last(), Some(&Action::Done));
}

#[test]
fn one_refused_row_among_many_that_nothing_points_at_costs_a_logarithm_of_requests() {
    let mut machine = Machine::new(assumptions(), task(Operation::Create, 512));
    let bad = 333;
    let mut requests = 0;
    let mut rejected = Vec::new();
    while *machine.next() != Action::Done {
        let fact = match machine.next().clone() {
            Action::Send { rows, .. } => {
                requests += 1;
                match rows.contains(&bad) {
                    true => Fact::Answered(Answer::Refused(Refusal::default())),
                    false => applied(rows.iter().copied().enumerate()),
                }
            }
            Action::Reject { row, .. } => {
                rejected.push(row);
                Fact::Done
            }
            _ => Fact::Done,
        };
        machine.on(fact);
    }
    assert_eq!(rejected, [bad]);
    assert_eq!(requests, 1 + 2 * 9);
}

#[test]
fn a_request_that_is_too_large_is_halved_whatever_it_points_at() {
    let too_large = Fact::Answered(Answer::Refused(Refusal { too_large: true, problems: vec![] }));
    for operation in [Operation::Create, Operation::Update, Operation::Delete] {
        let mut machine = about_to_send(assumptions(), task(operation, 4));
        let actions = play(&mut machine, [too_large.clone()]);
        assert_eq!(actions.last(), Some(&send(&[0, 1], 2)), "{operation:?}");
    }
}

#[test]
fn an_unknown_update_is_repeated_a_bounded_number_of_times_and_its_entry_left_open() {
    let mut machine = about_to_send(assumptions(), task(Operation::Update, 1));
    let actions = play(&mut machine, (0..MAX_UNKNOWN).map(|_| lost()));
    let count = |wanted: &Action| actions.iter().filter(|action| *action == wanted).count();
    assert_eq!(count(&send(&[0], 1)), MAX_UNKNOWN as usize);
    assert_eq!(count(&Action::ExtendQuiet { by: COMMIT + SETTLE }), MAX_UNKNOWN as usize);
    assert!(!actions.iter().any(|action| matches!(action, Action::Close { .. })));
    assert!(matches!(actions.last(), Some(Action::Stop(Stop::GaveUp { .. }))));
}

#[test]
fn an_update_that_is_given_up_after_a_lost_answer_is_not_closed_as_unapplied() {
    let mut machine = about_to_send(assumptions(), task(Operation::Update, 1));
    let actions = play(&mut machine, [lost()].into_iter().chain((0..MAX_SENDS).map(|_| busy(None))));
    assert!(!actions.iter().any(|action| matches!(action, Action::Close { .. })), "{actions:?}");
}

#[test]
fn an_update_refused_after_a_lost_answer_is_split_as_unsure() {
    let mut machine = about_to_send(assumptions(), task(Operation::Update, 2));
    let actions = play(&mut machine, [lost(), refused(&[0]), found([(0, 0), (1, 0)])]);
    assert!(actions.contains(&Action::Close { fates: vec![Fate::Unsure, Fate::Unsure] }), "{actions:?}");
}

#[test]
fn a_refused_update_tells_removed_rows_from_refused_ones() {
    let mut machine = about_to_send(assumptions(), task(Operation::Update, 3));
    let facts = [refused(&[1]), found([(0, 0), (2, 0)]), found([]), applied([(0, 0), (1, 2)])];
    let actions = play(&mut machine, facts);
    assert!(actions.contains(&Action::LookUpIds { rows: vec![1] }), "missing rows are looked up twice");
    assert!(actions.contains(&send(&[0, 2], 1)), "{actions:?}");
    assert!(actions.contains(&Action::Close { fates: vec![acknowledged(0), Fate::Removed, acknowledged(2)] }));
}

#[test]
fn a_delete_job_is_polled_until_it_ends() {
    let job = JobId("7".to_owned());
    let mut machine = about_to_send(assumptions(), task(Operation::Delete, 2));
    let facts = [
        Fact::Answered(Answer::Accepted(job.clone())),
        Fact::Polled(JobState::Running),
        Fact::Polled(JobState::Succeeded),
    ];
    let actions = play(&mut machine, facts);
    assert_eq!(actions.iter().filter(|action| **action == Action::Poll { job: job.clone() }).count(), 2);
    assert!(actions.contains(&Action::Close { fates: vec![Fate::Deleted, Fate::Deleted] }));
}

#[test]
fn beside_a_job_that_does_not_end_nothing_is_sent_and_its_entry_stays_open() {
    let mut machine = about_to_send(assumptions(), task(Operation::Delete, 2));
    let accepted = Fact::Answered(Answer::Accepted(JobId("7".to_owned())));
    let polled = (0..MAX_POLLS).map(|_| Fact::Polled(JobState::Running));
    let actions = play(&mut machine, [accepted].into_iter().chain(polled));
    assert!(matches!(actions.last(), Some(Action::Stop(Stop::GaveUp { .. }))), "{actions:?}");
    let goes_on = |action: &Action| matches!(action, Action::Close { .. } | Action::LookUpIds { .. });
    assert!(!actions.iter().any(goes_on), "{actions:?}");
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Send { .. })).count(), 1);
}

#[test]
fn of_a_delete_in_doubt_what_is_still_there_is_deleted_again() {
    let partly = [Fact::Answered(Answer::Accepted(JobId("7".to_owned()))), Fact::Polled(JobState::Incomplete)];
    for facts in [&partly[..], &[lost()]] {
        let mut machine = about_to_send(assumptions(), task(Operation::Delete, 2));
        let rest = [found([(1, 0)]), found([]), applied([(0, 1)])];
        let actions = play(&mut machine, facts.iter().cloned().chain(rest));
        assert!(actions.contains(&Action::ExtendQuiet { by: COMMIT + SETTLE }), "{actions:?}");
        assert!(actions.contains(&send(&[1], 1)), "{actions:?}");
        assert!(actions.contains(&Action::Close { fates: vec![Fate::Deleted, Fate::Deleted] }), "{actions:?}");
    }
}

#[test]
fn a_delete_of_rows_that_are_gone_is_done() {
    let mut machine = about_to_send(assumptions(), task(Operation::Delete, 2));
    let actions = play(&mut machine, [refused(&[0, 1]), found([]), found([])]);
    assert!(actions.contains(&Action::Close { fates: vec![Fate::Deleted, Fate::Deleted] }), "{actions:?}");
}

#[test]
fn where_rows_cannot_be_looked_up_a_lost_create_is_left_in_doubt() {
    let blind = Assumptions { key_look_up: false, ..assumptions() };
    let mut machine = about_to_send(blind, task(Operation::Create, 2));
    let actions = play(&mut machine, [applied([(0, 0)])]);
    let fates = vec![acknowledged(0), Fate::NotApplied];
    assert_eq!(actions[1..], [Action::LeaveInDoubt { rows: vec![1], attempt: 2, tag: tag(1), fates }, Action::Done]);
}

#[test]
fn a_resumed_batch_goes_on_counting_and_notes_its_new_tag_for_keys_in_danger() {
    let resumed = BatchTask {
        rows: vec![3, 5],
        attempts_before: 4,
        recreated: BTreeSet::from([5]),
        ..task(Operation::Create, 8)
    };
    let mut machine = Machine::new(assumptions(), resumed.clone());
    let actions = play(&mut machine, [lost()]);
    assert_eq!(actions[..2], [Action::NoteRecreated { rows: vec![5], tag: tag(5) }, journal(&[3, 5], 5)]);
    let tags_of_five = (1..=5).map(|attempt| (5, tag(attempt)));
    let cells = [(3, tag(5))].into_iter().chain(tags_of_five).collect();
    assert_eq!(actions.last(), Some(&Action::LookUpKeys { cells }));

    let mut machine = Machine::new(assumptions(), BatchTask { attempts_swept: 3, ..resumed });
    let cells = vec![(3, tag(5)), (5, tag(4)), (5, tag(5))];
    assert_eq!(play(&mut machine, [lost()]).last(), Some(&Action::LookUpKeys { cells }), "others are done with");
}

#[test]
fn attempts_before_the_first_that_is_noted_are_done_with() {
    let swept = |tags: &[u32]| BatchTask::swept(tags.iter().map(|attempt| tag(*attempt)), SEED, 4);
    assert_eq!(swept(&[4, 2]), 1);
    assert_eq!(swept(&[1]), 0);
    assert_eq!(swept(&[]), 4);
    // Of an earlier plan: its keys are found by the sweep.
    assert_eq!(swept(&[700]), 4);
}

#[test]
fn a_cancelled_machine_closes_what_is_certain_and_leaves_open_what_is_not() {
    let stopped = Action::Stop(Stop::Cancelled);
    let mut unsent = Machine::new(assumptions(), task(Operation::Create, 1));
    unsent.cancel();
    assert_eq!(*unsent.next(), stopped);

    let mut backing_off = about_to_send(assumptions(), task(Operation::Create, 1));
    backing_off.on(busy(None));
    backing_off.cancel();
    assert_eq!(play(&mut backing_off, []), [Action::Close { fates: vec![Fate::NotApplied] }, stopped.clone()]);

    let mut in_doubt = about_to_send(assumptions(), task(Operation::Create, 1));
    in_doubt.on(lost());
    in_doubt.cancel();
    assert_eq!(*in_doubt.next(), stopped);

    let mut answered = about_to_send(assumptions(), task(Operation::Create, 1));
    answered.on(applied([(0, 0)]));
    answered.cancel();
    assert_eq!(*answered.next(), Action::Close { fates: vec![acknowledged(0)] });
}

#[test]
fn a_send_that_the_sink_failed_unapplied_closes_its_entry_and_stops() {
    let mut machine = about_to_send(assumptions(), task(Operation::Create, 1));
    let actions = play(&mut machine, [Fact::SendFailed]);
    assert_eq!(actions[1..], [Action::Close { fates: vec![Fate::NotApplied] }, Action::Stop(Stop::Failed)]);
}

#[test]
fn an_entry_left_open_is_settled_by_what_was_found() {
    let row = IntentRow {
        key: KeyHash([1; 16]),
        content: ContentHash([1; 16]),
        order: Default::default(),
        row_id: Some(id(1)),
    };
    let row_id = id(1);
    let cases = [
        (Operation::Create, true, RowOutcome::Acknowledged { row_id: row_id.clone() }),
        (Operation::Create, false, RowOutcome::NotApplied),
        (Operation::Update, true, RowOutcome::Incomplete { row_id: row_id.clone() }),
        (Operation::Update, false, RowOutcome::RemovedAtDestination),
        (Operation::Delete, true, RowOutcome::NotApplied),
        (Operation::Delete, false, RowOutcome::Acknowledged { row_id: row_id.clone() }),
    ];
    for (operation, is_found, expected) in cases {
        let fate = settled_fate(operation, is_found.then(|| row_id.clone()));
        assert_eq!(fate.outcome(&row), Some(expected), "{operation:?}, found: {is_found}");
    }
}
