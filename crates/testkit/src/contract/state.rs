//! What every checkpoint store must do: one suite for all databases.
//!
//! A back end gives a [`StateFixture`] for each case and runs the suite with `state_contract!`, which makes one test
//! of each case, so that none can be left out.

#![expect(clippy::unwrap_used, reason = "every case is a test, and a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::StateError;
use convoke_core::state::{Budgets, StateStore};
use serde_json::Value;

pub mod audiences;
pub mod audit;
pub mod backfills;
pub mod enrichments;
pub mod journal;
pub mod leases;
pub mod ledgers;
pub mod lifecycle;
pub mod plans;
pub mod rejects;
pub mod runs;
mod samples;
pub mod schedules;

/// An empty database of one test.
#[async_trait]
pub trait StateFixture: Send + Sync {
    /// Opens one more handle on the database, as another process would.
    async fn open(&self) -> Arc<dyn StateStore>;

    /// Moves the database's clock on, for all handles.
    fn advance(&self, by: Duration);
}

/// The smallest write there is, for tests of writing as such.
#[async_trait]
pub trait SaveBudget: Budgets {
    /// Replaces what is stored for a credential, whatever it is.
    async fn save_budget(&self, credential: &str, spent: &Value) -> Result<(), StateError> {
        let spent = spent.clone();
        self.update_budget(credential, Box::new(|_, _| Ok(spent))).await
    }
}

impl<B: Budgets + ?Sized> SaveBudget for B {}

/// Makes a test of each case of the suite; `$fixture` is evaluated anew for each.
#[macro_export]
macro_rules! state_contract {
    (@cases $fixture:expr; $($module:ident { $($case:ident,)+ })+) => {
        $($(
            #[tokio::test]
            async fn $case() {
                $crate::contract::state::$module::$case(&$fixture).await;
            }
        )+)+
    };
    ($fixture:expr) => {
        $crate::state_contract! { @cases $fixture;
            audiences {
                a_binding_replaces_the_one_before,
                the_quiet_period_never_moves_back,
                budgets_are_kept_per_credential,
                budgets_are_changed_one_after_another,
                budgets_are_changed_by_the_store_s_clock,
                a_change_of_a_budget_that_fails_changes_nothing,
                a_provision_stays_open_until_it_is_closed,
                a_provision_is_told_from_another_one_by_its_time,
                only_one_of_many_intends_to_make_a_thing,
            }
            audit {
                the_audit_trail_is_kept_newest_first,
            }
            backfills {
                a_sync_has_one_open_backfill,
                a_window_is_settled_together_with_its_plan,
                a_backfill_that_ended_stays_as_it_is,
                what_windows_read_is_kept_as_long_as_it_is_wanted,
                a_window_that_ended_as_partial_is_not_forgotten,
            }
            enrichments {
                what_is_to_be_enriched_is_noted_once,
                an_enrichment_begins_only_from_the_stage_it_is_in,
                a_closed_enrichment_is_gone,
                no_enrichment_is_touched_under_a_lost_lease,
            }
            journal {
                an_entry_is_open_until_it_is_closed_once,
                an_entry_cannot_be_closed_with_too_few_outcomes,
                fifty_concurrent_intents_are_all_kept,
                entries_appear_in_the_order_of_their_ids,
                entries_are_paged_in_order,
                one_refused_operation_leaves_the_others_alone,
                only_folded_entries_are_forgotten,
                recreated_keys_are_kept_until_a_later_lease_sweeps_them,
                the_newest_job_of_an_entry_is_kept,
                a_key_recreated_again_is_swept_anew,
            }
            leases {
                a_held_lease_is_busy_for_everybody_else,
                a_released_lease_is_free_and_not_taken_over,
                an_expired_lease_is_taken_over_with_a_greater_fence,
                only_one_of_many_acquires_a_lease,
                renewing_extends_a_lease_and_fails_once_it_is_lost,
                every_write_with_a_lost_lease_is_refused,
                every_write_with_an_expired_lease_is_refused,
                nothing_of_a_stale_holder_s_stands_after_that_of_its_successor,
            }
            ledgers {
                a_fold_replaces_the_manifest_and_marks_entries,
                a_fold_on_another_version_changes_nothing,
                of_two_folds_at_once_one_is_refused,
                concurrent_first_calls_agree_on_the_hash_key,
            }
            lifecycle {
                a_renamed_sync_has_everything_it_had,
                a_rename_onto_a_name_that_has_state_changes_nothing,
                a_rename_over_a_ledger_that_has_moved_changes_nothing,
                a_mark_of_the_new_name_stays,
                a_retired_sync_leaves_its_history,
                neither_is_done_under_a_lost_lease,
            }
            plans {
                a_new_plan_supersedes_those_that_wait,
                of_plans_added_at_once_one_waits,
                a_plan_moves_only_from_the_state_it_is_in,
                plans_expire_by_how_they_ended,
                an_expired_plan_is_forgotten_once_its_entries_are_folded,
                a_plan_that_is_being_applied_is_not_forgotten,
                settling_ends_run_plan_and_checkpoint_together,
                settling_on_another_checkpoint_changes_nothing,
                settling_without_a_checkpoint_leaves_it,
                of_two_that_settle_at_once_one_is_refused,
            }
            rejects {
                a_reject_is_kept_once,
                open_rejects_are_paged_and_those_of_a_run_too,
                a_reject_that_comes_again_takes_the_place_of_the_one_before_and_counts_on,
                another_content_of_the_same_record_counts_from_one,
                a_record_without_a_key_is_known_by_its_origin,
                a_reason_that_changes_does_not_make_a_refusal_younger,
                a_settled_plan_closes_what_it_neither_noted_nor_keeps,
                a_plan_that_read_a_part_closes_only_what_it_saw,
                a_plan_that_notes_what_it_keeps_supersedes_those_that_wait,
                open_rejects_are_told_in_hashes,
                old_rejects_are_forgotten,
            }
            runs {
                a_run_is_replaced_but_never_made_twice,
                runs_are_listed_newest_first,
            }
            schedules {
                a_schedule_s_mark_is_replaced,
                of_two_that_serve_a_schedule_one_marks_it,
            }
        }
    };
}
