//! Plans that another machine goes on with: whole or not at all.

use std::os::unix::fs::PermissionsExt;

use convoke_testkit::s3::S3Server;
use object_store::memory::InMemory;
use uuid::Uuid;

use super::*;
use crate::open_object_store;

const FILES: &[(&str, &[u8])] = &[("manifest.json", b"{}"), ("creates.parquet", b"PAR1"), ("empty", b"")];

fn plan() -> PlanId {
    PlanId(Uuid::now_v7())
}

fn write_plan(folder: &FilePath) {
    file::create_private_folder(folder).unwrap();
    for (name, content) in FILES {
        fs::write(folder.join(name), content).unwrap();
    }
}

fn read_plan(folder: &FilePath) -> Vec<(String, Vec<u8>)> {
    files_of(folder).unwrap().into_iter().map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

fn in_memory() -> (Arc<InMemory>, ObjectPlans) {
    let store = Arc::new(InMemory::new());
    (Arc::clone(&store), ObjectPlans::new(store, Path::from("plans")))
}

#[tokio::test]
async fn a_published_plan_is_fetched_as_it_was_on_any_store() {
    let server = S3Server::start().await;
    server.make_bucket("state");
    let (s3, _) = open_object_store("s3://state", Some(&server.connection())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (files, _) = open_object_store(&format!("file://{}/shared", folder.path().display()), None).unwrap();
    for (number, store) in [Arc::new(InMemory::new()), s3, files].into_iter().enumerate() {
        let plans = ObjectPlans::new(store, Path::from("plans"));
        let id = plan();
        let (here, there) =
            (folder.path().join(format!("{number}/here")), folder.path().join(format!("{number}/there")));
        assert!(!plans.fetch(id, &there).await.unwrap());
        assert!(!there.exists());
        write_plan(&here);
        plans.publish(id, &here).await.unwrap();
        plans.publish(id, &here).await.expect("publishing again what is there is no error");
        assert!(plans.fetch(id, &there).await.unwrap());
        assert_eq!(read_plan(&there), read_plan(&here));
        let mode = |path: &FilePath| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&there), mode(&there.join("manifest.json"))), (0o700, 0o600));

        plans.remove(id).await.unwrap();
        plans.remove(id).await.expect("removing what is gone is no error");
        assert!(!plans.fetch(id, &there).await.unwrap());
        assert_eq!(read_plan(&there), read_plan(&here), "what was fetched stays");
    }
}

#[tokio::test]
async fn a_plan_that_was_published_in_part_is_not_there() {
    let (store, plans) = in_memory();
    let (folder, id) = (tempfile::tempdir().unwrap(), plan());
    let here = folder.path().join("here");
    write_plan(&here);
    plans.publish(id, &here).await.unwrap();
    store.delete(&plans.location(id).join(INDEX)).await.unwrap();
    assert!(!plans.fetch(id, &folder.path().join("there")).await.unwrap());
    plans.publish(id, &here).await.expect("the rest is published");
    assert!(plans.fetch(id, &folder.path().join("there")).await.unwrap());
}

#[tokio::test]
async fn what_stood_in_the_folder_gives_way_and_what_a_crash_left_beside_it_as_well() {
    let (_store, plans) = in_memory();
    let (folder, id) = (tempfile::tempdir().unwrap(), plan());
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    write_plan(&here);
    plans.publish(id, &here).await.unwrap();
    for leftover in [&there, &unfinished(&there)] {
        file::create_private_folder(leftover).unwrap();
        fs::write(leftover.join("torn"), b"half").unwrap();
    }
    assert!(plans.fetch(id, &there).await.unwrap());
    assert_eq!(read_plan(&there), read_plan(&here));
    assert!(!unfinished(&there).exists());
}

#[tokio::test]
async fn a_file_that_is_not_what_was_published_fails_the_fetch_and_leaves_nothing() {
    let (store, plans) = in_memory();
    let (folder, id) = (tempfile::tempdir().unwrap(), plan());
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    write_plan(&here);
    plans.publish(id, &here).await.unwrap();
    let at = plans.location(id).join("manifest.json");
    store.put(&at, PutPayload::from_static(b"[]")).await.unwrap();
    let fetched = plans.fetch(id, &there).await;
    assert!(matches!(fetched, Err(StateError::Unusable { .. })), "{fetched:?}");
    assert!(!there.exists() && !unfinished(&there).exists());
    store.delete(&at).await.unwrap();
    let fetched = plans.fetch(id, &there).await;
    assert!(matches!(fetched, Err(StateError::Unusable { .. })), "{fetched:?}");
}

#[tokio::test]
async fn a_plan_is_not_published_over_another_one() {
    let (_store, plans) = in_memory();
    let (folder, id) = (tempfile::tempdir().unwrap(), plan());
    let here = folder.path().join("here");
    write_plan(&here);
    plans.publish(id, &here).await.unwrap();
    fs::write(here.join("one-more"), b"").unwrap();
    let again = plans.publish(id, &here).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
    fs::write(here.join("manifest.json"), b"[]").unwrap();
    let again = plans.publish(id, &here).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
}

#[tokio::test]
async fn an_index_that_leads_out_of_the_folder_is_refused() {
    let (store, plans) = in_memory();
    let (folder, id) = (tempfile::tempdir().unwrap(), plan());
    let index = br#"{"files":[{"name":"../escaped","digest":""}]}"#;
    store.put(&plans.location(id).join(INDEX), PutPayload::from_static(index)).await.unwrap();
    let fetched = plans.fetch(id, &folder.path().join("there")).await;
    assert!(matches!(fetched, Err(StateError::Unusable { .. })), "{fetched:?}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}
