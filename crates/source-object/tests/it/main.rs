//! Objects in a folder, and on a server of the S3 protocol that checks signatures.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod broken;
mod discovery;
mod drift;
mod fixture;
mod naming;
mod partitions;
mod pins;
mod refusals;
mod selecting;

use convoke_core::spec::ObjectsMode;
use convoke_testkit::contract::source::obeys_the_contract;

use crate::fixture::TestObjects;

#[tokio::test]
async fn a_snapshot_of_files_obeys_the_contract() {
    obeys_the_contract(async || TestObjects::in_folder(ObjectsMode::Snapshot, "*.parquet")).await;
}

#[tokio::test]
async fn files_that_add_obey_the_contract() {
    obeys_the_contract(async || TestObjects::in_folder(ObjectsMode::Append, "**/*.parquet")).await;
}

#[tokio::test]
async fn a_snapshot_on_s3_obeys_the_contract() {
    obeys_the_contract(async || TestObjects::on_s3(ObjectsMode::Snapshot, "*.parquet").await).await;
}

#[tokio::test]
async fn a_single_object_on_s3_obeys_the_contract() {
    obeys_the_contract(async || TestObjects::on_s3(ObjectsMode::Snapshot, "contacts.parquet").await).await;
}

#[tokio::test]
async fn objects_on_s3_that_add_obey_the_contract() {
    obeys_the_contract(async || TestObjects::on_s3(ObjectsMode::Append, "**/*.parquet").await).await;
}
