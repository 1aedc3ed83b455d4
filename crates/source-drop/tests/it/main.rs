//! The drop folder on a real disk.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod arrivals;
mod buckets;
mod claims;
mod describing;
mod discovery;
mod incomplete;
mod manifests;
mod many;
mod markers;
mod moves;
mod odd_entries;
mod prefix;
mod reading;
mod selecting;
mod superseding;
mod test_folder;

use convoke_core::spec::DropMode;
use convoke_testkit::contract::source::obeys_the_contract;

use crate::test_folder::TestFolder;

#[tokio::test]
async fn a_snapshot_folder_obeys_the_contract() {
    obeys_the_contract(async || TestFolder::new(DropMode::Snapshot)).await;
}

#[tokio::test]
async fn an_append_folder_obeys_the_contract() {
    obeys_the_contract(async || TestFolder::new(DropMode::Append)).await;
}

#[tokio::test]
async fn a_folder_that_keeps_its_files_obeys_the_contract() {
    obeys_the_contract(async || TestFolder::keeping(DropMode::Snapshot)).await;
    obeys_the_contract(async || TestFolder::keeping(DropMode::Append)).await;
}
