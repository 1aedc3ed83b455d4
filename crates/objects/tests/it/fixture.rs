//! A store of a test's own, in a folder or on a server.

use std::fs;
use std::path::PathBuf;

use convoke_core::ids::ConnectionName;
use convoke_core::spec::ObjectStoreConnection;
use convoke_objects::{Location, Pin, Store};
use convoke_testkit::s3::S3Server;
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "lake";

pub(crate) struct TestStore {
    place: Place,
    pub(crate) store: Store,
    pub(crate) location: Location,
}

enum Place {
    Folder(TempDir),
    S3(S3Server),
}

impl TestStore {
    pub(crate) fn in_folder() -> Self {
        let folder = TempDir::new().unwrap();
        let location = Location::parse(&format!("file://{}/**/*", folder.path().display())).unwrap();
        let store = Store::open(&location, None, None).unwrap();
        Self { place: Place::Folder(folder), store, location }
    }

    pub(crate) async fn on_s3() -> Self {
        let server = S3Server::start().await;
        server.make_bucket(BUCKET);
        let location = Location::parse(&format!("s3://{BUCKET}/**/*")).unwrap();
        let name = ConnectionName::new("warehouse");
        let store = Store::open(&location, Some(&name), Some(&ObjectStoreConnection::S3(server.connection()))).unwrap();
        Self { place: Place::S3(server), store, location }
    }

    pub(crate) async fn both() -> [Self; 2] {
        [Self::in_folder(), Self::on_s3().await]
    }

    pub(crate) fn server(&self) -> &S3Server {
        match &self.place {
            Place::S3(server) => server,
            Place::Folder(_) => panic!("this store is on no server"),
        }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.location.root())
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.path().join(name),
            Place::S3(server) => server.path_of(BUCKET, name),
        }
    }

    /// Puts a file without a request.
    pub(crate) fn place(&self, name: &str, contents: &[u8]) {
        let path = self.path_of(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, contents).unwrap();
        fs::rename(unfinished, path).unwrap();
    }

    pub(crate) async fn pin(&self, name: &str) -> Pin {
        self.store.look(&self.key(name)).await.unwrap().unwrap().pin
    }

    pub(crate) fn contents(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path_of(name)).ok()
    }
}
