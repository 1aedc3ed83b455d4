//! Objects in a folder, and on a server of the S3 protocol that checks signatures.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod broken;
mod discovery;
mod drift;
mod fixture;
mod formats;
mod naming;
mod partitions;
mod pins;
mod policies;
mod pruning;
mod refusals;
mod selecting;
mod settling;

use convoke_core::spec::ObjectsMode;
use convoke_testkit::contract::source::obeys_the_contract;

use crate::fixture::{TestObjects, ending, streamed};

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

#[tokio::test]
async fn a_snapshot_of_files_in_each_format_obeys_the_contract() {
    for format in streamed() {
        let pattern = format!("*.{}", ending(&format));
        let set_up =
            async || TestObjects::in_folder_as(ObjectsMode::Snapshot, &pattern, |spec| spec.format = format.clone());
        obeys_the_contract(set_up).await;
    }
}

#[tokio::test]
async fn objects_on_s3_in_each_format_that_add_obey_the_contract() {
    for format in streamed() {
        let pattern = format!("**/*.{}", ending(&format));
        let set_up =
            async || TestObjects::on_s3_as(ObjectsMode::Append, &pattern, |spec| spec.format = format.clone()).await;
        obeys_the_contract(set_up).await;
    }
}
