//! What every destination must do, whoever implements it: one suite for `AudienceSetup` and `Sink`.
//!
//! It speaks of a destination that assigns row ids, knows no idempotency key and shows what it committed at once.
//! Faults are not its matter: lost answers and refusals for load belong to the tests of each sink.

mod account;
mod enriching;
mod rows;
mod setup;

use std::future::Future;
use std::sync::Arc;

use convoke_core::sink::Destination;

/// Runs every check of the suite, each against an empty account of its own.
///
/// `set_up` gives the destination and whatever must live as long as it (a server, a folder).
pub async fn run<F, Fut, Kept>(set_up: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = (Arc<dyn Destination>, Kept)>,
{
    macro_rules! check {
        ($($part:ident::$behaviour:ident,)+) => {
            $({
                let (destination, _kept) = set_up().await;
                $part::$behaviour(&*destination).await;
            })+
        };
    }
    check! {
        setup::an_empty_account_holds_nothing,
        setup::what_was_made_is_found_by_name_and_by_id,
        setup::names_are_compared_exactly,
        setup::an_unknown_id_is_not_found,
        setup::columns_can_be_added_and_hidden,
        setup::match_criteria_are_kept_and_replaced,
        rows::created_rows_are_acknowledged_and_found,
        rows::the_same_key_sent_twice_makes_two_rows_that_are_both_found,
        rows::cells_come_back_as_they_were_sent,
        rows::updated_rows_keep_their_id_and_key_cell,
        rows::an_update_of_an_unknown_row_makes_none,
        rows::deleted_rows_are_gone_and_others_stay,
        rows::a_scan_gives_every_row_once,
        enriching::enriched_rows_have_a_state_and_others_do_not,
        enriching::without_rows_there_is_nothing_to_enrich,
    }
}
