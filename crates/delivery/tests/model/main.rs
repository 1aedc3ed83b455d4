//! The delivery protocol, explored in full within bounds: the machine that production runs, and around it everything
//! that a destination, a network, a person and the end of a process may do to it.
//!
//! Each scenario says what may happen and how often; every order of it is explored. What settles and sweeps is made of
//! the same decisions as production's ([`Evidence`](convoke_delivery::protocol::Evidence),
//! [`Surplus`](convoke_delivery::protocol::Surplus), [`Resume`](convoke_delivery::protocol::Resume)). Bugs that are
//! planted between the machine and its world have to be found.

#![expect(clippy::print_stdout, reason = "how far each exploration went is a result of these tests")]

mod books;
mod checker;
mod destination;
mod model;
mod recovery;
mod scenario;
mod slot;

use std::collections::BTreeMap;

use crate::checker::{Bounds, explore};
use crate::model::Property;
use crate::scenario::{Budget, Mutant, Scenario};

/// A scenario that grows past this is too large to be explored by every test run.
const MOST_STATES: usize = 400_000;

/// Every property holds, in no fewer states than `at_least`.
fn holds(scenario: &Scenario, at_least: usize) {
    let explored = explore(scenario, Bounds { most_states: MOST_STATES, until: None });
    println!(
        "{}: {} states, {} steps, {} ends, depth {}",
        scenario.name, explored.states, explored.steps, explored.ends, explored.depth
    );
    assert!(explored.broken.is_empty(), "{}: {:#?}", scenario.name, explored.broken);
    assert!(explored.states >= at_least, "{}: only {} states", scenario.name, explored.states);
    assert!(explored.ends > 0, "{}: no run ends", scenario.name);
}

/// The planted bug breaks the property. A request that leaves too early ends a path: to see what comes of it, such
/// requests are let pass.
fn breaks(scenario: &Scenario, property: Property) {
    let watches_sends = property == Property::NothingIsSentBeforeItsBound;
    let scenario = &Scenario { watches_sends, ..scenario.clone() };
    let explored = explore(scenario, Bounds { most_states: MOST_STATES, until: Some(property) });
    let way = explored.broken.get(&property);
    println!("{:?}: {} states, {way:#?}", scenario.mutant, explored.states);
    assert!(way.is_some(), "{:?} is not found: {:?}", scenario.mutant, explored.broken);
}

fn creates_that_may_fail() -> Scenario {
    let budget = Budget { faults: 3, crashes: 1, cancels: 1, ..Budget::default() };
    Scenario { budget, ..Scenario::creates("creates") }
}

fn creates_of_a_plan_that_gets_lost() -> Scenario {
    let budget = Budget { faults: 1, crashes: 2, lost_plans: 1, ..Budget::default() };
    Scenario { budget, ..Scenario::creates("creates of a plan that gets lost") }
}

fn creates_that_outlive_their_bound() -> Scenario {
    let budget = Budget { faults: 2, crashes: 1, stragglers: 1, ..Budget::default() };
    Scenario { watches_sends: false, budget, ..Scenario::creates("creates that outlive their bound") }
}

fn creates_found_late() -> Scenario {
    let budget = Budget { faults: 2, crashes: 1, ..Budget::default() };
    Scenario { lag: 2, budget, ..Scenario::creates("creates that search shows too late") }
}

fn creates_refused_in_part() -> Scenario {
    Scenario {
        poison: vec![2],
        atomic_refusals: false,
        budget: Budget { faults: 1, crashes: 1, ..Budget::default() },
        ..Scenario::creates("creates that are refused in part")
    }
}

fn changes_that_may_fail() -> Scenario {
    Scenario {
        budget: Budget { faults: 2, crashes: 1, ..Budget::default() },
        ..Scenario::changes("an update and a delete")
    }
}

fn updates_of_a_source_that_moves() -> Scenario {
    let budget = Budget { faults: 2, crashes: 1, source_moves: 1, cancels: 1, ..Budget::default() };
    Scenario {
        source: BTreeMap::from([(1, 2)]),
        before: BTreeMap::from([(1, 1)]),
        budget,
        ..Scenario::creates("an update of a source that moves")
    }
}

fn creates_delivered_twice() -> Scenario {
    let budget = Budget { faults: 2, crashes: 1, duplicates: 1, ..Budget::default() };
    Scenario { budget, ..Scenario::creates("creates whose lost request is delivered twice") }
}

fn batches_at_the_same_time() -> Scenario {
    Scenario {
        rows_per_batch: 1,
        budget: Budget { faults: 1, crashes: 1, ..Budget::default() },
        ..Scenario::creates("two batches at the same time")
    }
}

fn changes_beside_a_person() -> Scenario {
    Scenario {
        source: BTreeMap::from([(1, 2), (3, 1)]),
        before: BTreeMap::from([(1, 1)]),
        budget: Budget { faults: 1, person: 1, ..Budget::default() },
        ..Scenario::creates("a create and an update beside a person")
    }
}

#[test]
fn creates_are_made_once_whatever_answers_are_lost_and_whenever_the_process_ends() {
    holds(&creates_that_may_fail(), 40_000);
}

#[test]
fn creates_are_made_once_though_their_plan_is_lost() {
    holds(&creates_of_a_plan_that_gets_lost(), 5_000);
}

#[test]
fn a_create_that_outlives_its_bound_is_swept() {
    holds(&creates_that_outlive_their_bound(), 6_000);
}

#[test]
fn a_create_without_an_answer_that_the_network_delivers_twice_is_swept() {
    holds(&creates_delivered_twice(), 4_000);
}

#[test]
fn creates_are_made_once_though_search_lags_longer_than_declared() {
    holds(&creates_found_late(), 2_000);
}

#[test]
fn creates_are_made_once_though_refusals_leave_a_part_done() {
    holds(&creates_refused_in_part(), 2_500);
}

#[test]
fn updates_and_deletes_come_to_what_the_source_holds() {
    holds(&changes_that_may_fail(), 80_000);
}

#[test]
fn batches_at_the_same_time_do_not_disturb_each_other() {
    holds(&batches_at_the_same_time(), 15_000);
}

#[test]
fn what_a_person_does_to_the_audience_is_respected() {
    holds(&changes_beside_a_person(), 3_500);
}

#[test]
fn an_older_update_never_comes_after_a_newer_one() {
    holds(&updates_of_a_source_that_moves(), 20_000);
}

#[test]
fn sending_before_the_intent_is_durable_is_found() {
    breaks(&creates_that_may_fail().with(Mutant::SendBeforeJournal), Property::NoKeyIsDoubled);
}

#[test]
fn sending_again_what_is_in_doubt_is_found() {
    breaks(&creates_that_may_fail().with(Mutant::RetryOnUnknown), Property::NothingIsSentBeforeItsBound);
    breaks(&creates_that_may_fail().with(Mutant::RetryOnUnknown), Property::NoKeyIsDoubled);
}

#[test]
fn looking_up_once_only_is_found() {
    // What comes of it is swept: only the request itself is wrong.
    breaks(&creates_found_late().with(Mutant::SingleLookUp), Property::NothingIsSentBeforeItsBound);
}

#[test]
fn a_missing_sweep_is_found() {
    breaks(&creates_that_outlive_their_bound().with(Mutant::NoSweep), Property::NoKeyIsDoubled);
    breaks(&creates_delivered_twice().with(Mutant::NoSweep), Property::NoKeyIsDoubled);
}

#[test]
fn folding_only_at_the_end_is_found() {
    breaks(&creates_of_a_plan_that_gets_lost().with(Mutant::FoldAtTheEnd), Property::NoKeyIsDoubled);
}

#[test]
fn splitting_a_refused_batch_without_a_read_back_is_found() {
    breaks(&creates_refused_in_part().with(Mutant::BisectWithoutReadBack), Property::NoKeyIsDoubled);
}

#[test]
fn a_successor_that_does_not_wait_for_the_time_out_is_found() {
    let scenario = creates_that_may_fail().with(Mutant::NoWaitForTheTimeout);
    breaks(&scenario, Property::NothingIsSentBeforeItsBound);
}

#[test]
fn not_waiting_for_older_updates_is_found() {
    breaks(&updates_of_a_source_that_moves().with(Mutant::NoQuiet), Property::NothingIsSentBeforeItsBound);
}
