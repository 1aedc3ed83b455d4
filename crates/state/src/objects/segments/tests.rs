//! Segments that machines share: sealed once, cached, fetched whole, and gone everywhere once removed.

use std::os::unix::fs::PermissionsExt;

use convoke_core::ids::ConnectionName;
use convoke_testkit::s3::S3Server;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use tempfile::TempDir;

use super::*;
use crate::open_object_store;

/// Machines that share a store.
struct Machines {
    folder: TempDir,
    store: Arc<dyn ObjectStore>,
}

impl Machines {
    fn on(store: Arc<dyn ObjectStore>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store }
    }

    fn in_memory() -> Self {
        Self::on(Arc::new(InMemory::new()))
    }

    fn machine(&self, name: &str) -> ObjectSegments {
        ObjectSegments::new(Arc::clone(&self.store), Path::from("convoke/ledger"), self.folder.path().join(name))
    }
}

fn audience(id: &str) -> AudienceKey {
    AudienceKey { connection: ConnectionName::new("zoominfo"), audience_id: id.to_owned() }
}

async fn sealed(machine: &ObjectSegments, audience: &AudienceKey, content: &[u8]) -> String {
    let staged = machine.stage(audience).await.unwrap();
    fs::write(&staged.path, content).unwrap();
    machine.seal(staged.clone()).await.unwrap();
    staged.name
}

fn content(path: &FilePath) -> Vec<u8> {
    fs::read(path).unwrap()
}

async fn a_segment_goes_from_machine_to_machine(machines: &Machines, length: usize) {
    let (one, two) = (machines.machine("one"), machines.machine("two"));
    let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
    let staged = one.stage(&audience("a")).await.unwrap();
    assert_eq!(two.list(&audience("a")).await.unwrap(), Vec::<String>::new());
    fs::write(&staged.path, &bytes).unwrap();
    one.seal(staged.clone()).await.unwrap();
    assert_eq!(two.list(&audience("a")).await.unwrap(), std::slice::from_ref(&staged.name));
    assert_eq!(two.list(&audience("b")).await.unwrap(), Vec::<String>::new());
    for machine in [&one, &two] {
        let path = machine.open(&staged.name).await.unwrap();
        assert!(content(&path) == bytes, "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }
    two.remove(std::slice::from_ref(&staged.name)).await.unwrap();
    assert_eq!(one.list(&audience("a")).await.unwrap(), Vec::<String>::new());
    assert!(matches!(one.open(&staged.name).await, Err(StateError::Missing { .. })), "listing has cleaned the cache");
    two.remove(&[staged.name]).await.expect("what is absent is removed");
}

#[tokio::test]
async fn a_segment_goes_from_machine_to_machine_on_any_store() {
    let server = S3Server::start().await;
    server.make_bucket("state");
    let (s3, _) = open_object_store("s3://state", Some(&server.connection())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/shared", folder.path().display());
    let (files, _) = open_object_store(&url, None).unwrap();
    for store in [Arc::new(InMemory::new()), s3, files] {
        // In one request, in parts, and empty.
        for length in [1_000, (9 << 20) + 7, 0] {
            a_segment_goes_from_machine_to_machine(&Machines::on(Arc::clone(&store)), length).await;
        }
    }
    let mode = fs::metadata(folder.path().join("shared")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[tokio::test]
async fn a_cached_segment_is_not_fetched_again() {
    let server = S3Server::start().await;
    server.make_bucket("state");
    let (store, _) = open_object_store("s3://state", Some(&server.connection())).unwrap();
    let machines = Machines::on(store);
    let (one, two) = (machines.machine("one"), machines.machine("two"));
    let name = sealed(&one, &audience("a"), b"entries").await;
    one.open(&name).await.unwrap();
    assert_eq!(server.requests("GetObject"), 0);
    // Also if several want it at once.
    let (first, second) = tokio::join!(two.open(&name), two.open(&name));
    assert_eq!(first.unwrap(), second.unwrap());
    machines.machine("two").open(&name).await.unwrap();
    assert_eq!(server.requests("GetObject"), 1);
}

#[tokio::test]
async fn a_missing_segment_is_told_with_three_choices() {
    let machines = Machines::in_memory();
    let name = sealed(&machines.machine("one"), &audience("a"), b"entries").await;
    machines.machine("one").remove(std::slice::from_ref(&name)).await.unwrap();
    let message = machines.machine("two").open(&name).await.unwrap_err().to_string();
    for part in ["convoke/ledger", "adopt", "restore a backup", "begin anew"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_segment_that_is_there_is_never_written_again() {
    let machines = Machines::in_memory();
    let one = machines.machine("one");
    let staged = one.stage(&audience("a")).await.unwrap();
    fs::write(&staged.path, b"first").unwrap();
    one.seal(staged.clone()).await.unwrap();
    fs::write(&staged.path, b"other").unwrap();
    let again = one.seal(staged.clone()).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
    // Nor by a machine that does not have it.
    let two = machines.machine("two");
    let path = two.cache.path_of(&staged.name).unwrap().with_extension("staged");
    file::create_private_folder(path.parent().unwrap()).unwrap();
    fs::write(&path, b"other").unwrap();
    let again = two.seal(StagedSegment { name: staged.name.clone(), path: path.clone() }).await;
    assert!(matches!(again, Err(StateError::Conflict { .. })), "{again:?}");
    fs::write(&path, b"first").unwrap();
    two.seal(StagedSegment { name: staged.name.clone(), path }).await.expect("an answer that was lost, asked again");
    assert_eq!(content(&machines.machine("three").open(&staged.name).await.unwrap()), b"first");
}

#[tokio::test]
async fn what_a_crash_left_half_fetched_is_fetched_anew() {
    let machines = Machines::in_memory();
    let name = sealed(&machines.machine("one"), &audience("a"), b"entries").await;
    let two = machines.machine("two");
    let half = two.cache.path_of(&name).unwrap().with_extension(FETCHED_EXTENSION);
    file::create_private_folder(half.parent().unwrap()).unwrap();
    fs::write(&half, b"a longer half than the whole is").unwrap();
    assert_eq!(content(&two.open(&name).await.unwrap()), b"entries");
    assert!(!half.exists());
    fs::write(&half, b"half").unwrap();
    machines.machine("one").remove(&[name]).await.unwrap();
    two.list(&audience("a")).await.unwrap();
    assert!(!half.exists(), "what is no longer in the store is not kept here");
}

#[tokio::test]
async fn a_store_that_refuses_is_told_without_its_keys() {
    let server = S3Server::start().await;
    server.make_bucket("state");
    let (store, _) = open_object_store("s3://state", Some(&server.connection())).unwrap();
    let machines = Machines::on(store);
    let one = machines.machine("one");
    let staged = one.stage(&audience("a")).await.unwrap();
    server.deny("PutObject");
    let refused = one.seal(staged.clone()).await.unwrap_err();
    assert!(matches!(&refused, StateError::Unusable { message } if message.contains("check the credentials")));
    let told = format!("{refused} {refused:?}");
    assert!(!told.contains(server.secret_access_key()), "{told}");
    assert!(!one.cache.path_of(&staged.name).unwrap().exists(), "it is not sealed");
}

#[tokio::test]
async fn other_objects_and_names_that_lead_elsewhere_are_left_alone() {
    let machines = Machines::in_memory();
    let one = machines.machine("one");
    let name = sealed(&one, &audience("a"), b"entries").await;
    let beside = Path::from(format!("convoke/ledger/{}/notes.txt", name.split_once('/').unwrap().0));
    machines.store.put(&beside, PutPayload::from_static(b"note")).await.unwrap();
    assert_eq!(one.list(&audience("a")).await.unwrap(), std::slice::from_ref(&name));
    for wrong in ["", "one", "../one", "one/../two", "one/two/three", "/etc/passwd", "one/"] {
        let names = [name.clone(), wrong.to_owned()];
        assert!(matches!(one.remove(&names).await, Err(StateError::Unusable { .. })), "{wrong}");
        assert!(matches!(one.open(wrong).await, Err(StateError::Unusable { .. })), "{wrong}");
    }
    assert_eq!(one.list(&audience("a")).await.unwrap(), [name]);
}
