//! From a URL to an object store.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use convoke_clients::s3;
use convoke_core::StateError;
use convoke_core::spec::S3Connection;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::file;

/// Attempts after the first; then the run ends with an error. A store that is down has half a minute to come back.
const RETRIES: usize = 6;
const BACKOFF: BackoffConfig =
    BackoffConfig { init_backoff: Duration::from_millis(500), max_backoff: Duration::from_secs(15), base: 3.0 };

/// How long after the first attempt a further one may begin. A large segment on a slow line that breaks off after minutes
/// goes on where it broke off; a request that is sent again is signed once, and the signature lives a little longer.
const RETRY_TIME: Duration = Duration::from_secs(10 * 60);

/// Opens the store that a URL names, `s3://bucket/prefix` or `file:///folder`, and gives the prefix within it. What stands
/// in the URL is the key, or the path, letter for letter.
///
/// `connection` is about S3; without one, the environment tells how it is reached (`AWS_…` variables, web identity, the
/// machine's role). Nothing is sent yet. A folder is made for the owner alone if it is not there.
pub fn open_object_store(
    url: &str,
    connection: Option<&S3Connection>,
) -> Result<(Arc<dyn ObjectStore>, Path), StateError> {
    let problem = |problem: &str| unusable(url, problem);
    match url.split_once("://") {
        Some(("s3", rest)) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || bucket.contains('@') {
                return Err(problem("names no bucket; write `s3://bucket/prefix`"));
            }
            let prefix = Path::parse(prefix.trim_end_matches('/'));
            let prefix =
                prefix.map_err(|_| problem("has a path that no object can have; write `s3://bucket/prefix`"))?;
            Ok((open_s3(url, bucket, connection)?, prefix))
        }
        Some(("file", folder)) if folder.starts_with('/') => Ok((open_folder(FilePath::new(folder))?, Path::default())),
        _ => Err(problem("is of a kind that is not known; write `s3://bucket/prefix` or `file:///folder`")),
    }
}

fn open_folder(folder: &FilePath) -> Result<Arc<dyn ObjectStore>, StateError> {
    file::create_private_folder(folder)?;
    let opened = LocalFileSystem::new_with_prefix(folder);
    let store = opened.map_err(|error| {
        StateError::storage(format!("opening `{}` failed; check its owner and permissions", folder.display()), error)
    })?;
    Ok(Arc::new(store.with_fsync(true)))
}

fn open_s3(url: &str, bucket: &str, connection: Option<&S3Connection>) -> Result<Arc<dyn ObjectStore>, StateError> {
    let retry = RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_TIME };
    let opened = s3::client(bucket, connection, retry);
    Ok(Arc::new(opened.map_err(|error| error.of_state(&format!("the object store `{}`", shown(url))))?))
}

fn unusable(url: &str, problem_and_remedy: &str) -> StateError {
    StateError::Unusable { message: format!("the object store `{}` {problem_and_remedy}", shown(url)) }
}

/// A password does not belong into such a URL, and is not repeated if it stands there all the same.
fn shown(url: &str) -> &str {
    url.split_once('@').map_or(url, |(_, after)| after)
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[test]
    fn what_is_no_store_is_refused_with_a_remedy() {
        for url in
            ["ledger", "gs://bucket/x", "s3://", "file://elsewhere/x", "s3://bucket/a//b", "s3://id:hush@bucket/x"]
        {
            let Err(refused) = open_object_store(url, None) else { panic!("{url}") };
            let refused = refused.to_string();
            assert!(refused.contains("write `") && !refused.contains("hush"), "{refused}");
        }
    }

    #[test]
    fn a_bucket_is_told_from_its_prefix() {
        let (_, prefix) = open_object_store("s3://bucket/deep/prefix/", None).unwrap();
        assert_eq!(prefix, Path::from("deep/prefix"));
        let (_, prefix) = open_object_store("s3://bucket", None).unwrap();
        assert_eq!(prefix, Path::default());
        let (_, prefix) = open_object_store("s3://bucket/100%25 of #1", None).unwrap();
        assert_eq!(prefix.as_ref(), "100%25 of #1");
    }

    #[tokio::test]
    async fn a_folder_is_taken_letter_for_letter() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("100%25 of #1");
        let (store, _) = open_object_store(&format!("file://{}", ledger.display()), None).unwrap();
        store.put(&Path::from("segment"), "x".into()).await.unwrap();
        assert!(ledger.join("segment").is_file());
    }
}
