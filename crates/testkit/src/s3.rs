//! A real server of the S3 protocol for a test: it checks signatures, lists with ETags and honours `If-Match`.
//!
//! Buckets are folders of a temporary folder, objects are files in them, so that a test can tamper with what it has
//! put. Requests are counted by operation, and a test can have them refused as a store would refuse them. The server
//! runs on a thread of its own, and ends with its value.

mod store;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use convoke_core::spec::{S3Connection, S3Credentials};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use store::{Gate, Keys, Store};

const ACCESS_KEY_ID: &str = "AKIDCONVOKETEST";
const SECRET_ACCESS_KEY: &str = "a secret that no message may show";

/// The server. Dropping it closes its port and removes its data.
pub struct S3Server {
    folder: TempDir,
    address: SocketAddr,
    traffic: Arc<Traffic>,
    files_put: AtomicU64,
    runtime: Option<Runtime>,
}

/// What has arrived, and what is to be answered to what comes.
#[derive(Default)]
pub(crate) struct Traffic {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: HashMap<String, usize>,
    denied: Vec<String>,
    has_expired: bool,
}

impl S3Server {
    /// Starts a server without buckets.
    pub async fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let traffic = Arc::new(Traffic::default());
        let files = FileSystem::new(folder.path()).expect("the temporary folder is there");
        let mut service = S3ServiceBuilder::new(Store::new(files, folder.path()));
        service.set_auth(Keys::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, Arc::clone(&traffic)));
        service.set_access(Gate::new(Arc::clone(&traffic)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread for the server");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("a bound socket has an address");
        runtime.spawn(listen(listener, service.build()));
        Self { folder, address, traffic, files_put: AtomicU64::new(0), runtime: Some(runtime) }
    }

    /// `http://127.0.0.1:<port>`, without a final `/`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn access_key_id(&self) -> &str {
        ACCESS_KEY_ID
    }

    pub fn secret_access_key(&self) -> &str {
        SECRET_ACCESS_KEY
    }

    /// A connection with the right keys.
    pub fn connection(&self) -> S3Connection {
        S3Connection {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            path_style: true,
            credentials: Some(S3Credentials {
                access_key_id: ACCESS_KEY_ID.to_owned(),
                secret_access_key: SecretString::from(SECRET_ACCESS_KEY),
                session_token: None,
            }),
            ..S3Connection::default()
        }
    }

    pub fn make_bucket(&self, bucket: &str) {
        fs::create_dir(self.folder.path().join(bucket)).expect("a new bucket");
    }

    /// Puts an object, or another one in its place, without a request. A reader sees the old or the new one, never a part.
    pub fn put(&self, bucket: &str, key: &str, contents: impl AsRef<[u8]>) {
        let number = self.files_put.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.path().join(format!(".tmp.{number}.internal.part"));
        let path = self.path_of(bucket, key);
        let folder = path.parent().expect("an object lies in a bucket");
        fs::create_dir_all(folder).expect("a folder of the bucket");
        fs::write(&unfinished, contents).expect("a new file");
        fs::rename(&unfinished, &path).expect("a file of the bucket");
    }

    pub fn remove(&self, bucket: &str, key: &str) {
        fs::remove_file(self.path_of(bucket, key)).expect("an object that was put");
    }

    /// The file that holds an object.
    pub fn path_of(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.path().join(bucket).join(Path::new(key))
    }

    /// How many requests for this operation came, with a signature that was right: `ListObjectsV2`, `HeadObject`,
    /// `GetObject`, …
    pub fn requests(&self, operation: &str) -> usize {
        self.traffic.lock().requests.get(operation).copied().unwrap_or(0)
    }

    /// Counts from nought again.
    pub fn forget_requests(&self) {
        self.traffic.lock().requests.clear();
    }

    /// Answers `AccessDenied` to this operation from now on.
    pub fn deny(&self, operation: &str) {
        self.traffic.lock().denied.push(operation.to_owned());
    }

    /// Answers `ExpiredToken` to everything from now on.
    pub fn expire(&self) {
        self.traffic.lock().has_expired = true;
    }

    /// Closes the port and every connection; nothing listens there any more.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Traffic {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; tells whether it is denied.
    fn note(&self, operation: &str) -> bool {
        let mut state = self.lock();
        *state.requests.entry(operation.to_owned()).or_default() += 1;
        state.denied.iter().any(|denied| denied == operation)
    }

    fn has_expired(&self) -> bool {
        self.lock().has_expired
    }
}

async fn listen(listener: std::net::TcpListener, service: S3Service) {
    let listener = TcpListener::from_std(listener).expect("a listening socket");
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let service = service.clone();
        connections.spawn(async move {
            // A client that breaks off is its own business.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
