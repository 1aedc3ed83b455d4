//! What the server adds to the file system behind it: ETags in listings, conditions on reads, refusals.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::crypto::{Checksum, Md5};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::Traffic;

/// The pair of keys that is let in.
pub(super) struct Keys {
    access_key_id: &'static str,
    secret: &'static str,
    traffic: Arc<Traffic>,
}

impl Keys {
    pub(super) fn new(access_key_id: &'static str, secret: &'static str, traffic: Arc<Traffic>) -> Self {
        Self { access_key_id, secret, traffic }
    }
}

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if self.traffic.has_expired() {
            return Err(s3_error!(ExpiredToken, "The provided token has expired: {access_key}"));
        }
        if access_key != self.access_key_id {
            return Err(s3_error!(InvalidAccessKeyId, "There is no key {access_key}"));
        }
        Ok(SecretKey::from(self.secret))
    }
}

/// Counts what comes in, and turns away what is denied.
pub(super) struct Gate {
    traffic: Arc<Traffic>,
}

impl Gate {
    pub(super) fn new(traffic: Arc<Traffic>) -> Self {
        Self { traffic }
    }
}

#[async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let is_denied = self.traffic.note(context.s3_op().name());
        if is_denied || context.credentials().is_none() {
            return Err(s3_error!(AccessDenied));
        }
        Ok(())
    }
}

/// An ETag, and the file that it was computed from.
type KnownTag = ((u64, u64, i64, i64), String);

pub(super) struct Store {
    files: FileSystem,
    root: PathBuf,
    tags: Mutex<HashMap<PathBuf, KnownTag>>,
    /// A condition on a write is looked at and the write made as one step.
    writing: tokio::sync::Mutex<()>,
}

impl Store {
    pub(super) fn new(files: FileSystem, root: &Path) -> Self {
        Self { files, root: root.to_path_buf(), tags: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// The MD5 of an object, as the store gives it to objects that were put in one piece.
    fn e_tag(&self, bucket: &str, key: &str) -> S3Result<String> {
        if !self.root.join(bucket).is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        let path = self.root.join(bucket).join(key);
        let metadata = fs::metadata(&path).map_err(|error| s3_error!(error, NoSuchKey))?;
        let identity = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        match tags.get(&path) {
            Some((known, tag)) if *known == identity => Ok(tag.clone()),
            _ => {
                let contents = fs::read(&path).map_err(|error| s3_error!(error, NoSuchKey))?;
                let tag: String = Md5::checksum(&contents).iter().map(|byte| format!("{byte:02x}")).collect();
                tags.insert(path, (identity, tag.clone()));
                Ok(tag)
            }
        }
    }

    fn check_match(&self, bucket: &str, key: &str, condition: Option<&IfMatch>) -> S3Result<ETag> {
        let tag = ETag::Strong(self.e_tag(bucket, key)?);
        match condition {
            Some(ETagCondition::ETag(wanted)) if *wanted != tag => Err(s3_error!(PreconditionFailed)),
            _ => Ok(tag),
        }
    }
}

#[async_trait]
impl S3 for Store {
    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let bucket = req.input.bucket.clone();
        let mut response = self.files.list_objects_v2(req).await?;
        for object in response.output.contents.iter_mut().flatten() {
            let key = object.key.clone().unwrap_or_default();
            object.e_tag = Some(ETag::Strong(self.e_tag(&bucket, &key)?));
        }
        Ok(response)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let tag = self.check_match(&req.input.bucket, &req.input.key, req.input.if_match.as_ref())?;
        let mut response = self.files.get_object(req).await?;
        response.output.e_tag = Some(tag);
        Ok(response)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let tag = self.check_match(&req.input.bucket, &req.input.key, req.input.if_match.as_ref())?;
        let mut response = self.files.head_object(req).await?;
        response.output.e_tag = Some(tag);
        Ok(response)
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let _one_at_a_time = self.writing.lock().await;
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let mut response = self.files.put_object(req).await?;
        response.output.e_tag = Some(ETag::Strong(self.e_tag(&bucket, &key)?));
        Ok(response)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.files.delete_object(req).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.files.delete_objects(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.files.create_multipart_upload(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.files.upload_part(req).await
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        self.files.upload_part_copy(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let _one_at_a_time = self.writing.lock().await;
        self.files.complete_multipart_upload(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.files.abort_multipart_upload(req).await
    }
}
