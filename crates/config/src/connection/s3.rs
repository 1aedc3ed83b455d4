//! Decodes `s3` connections.

use std::path::Path;

use convoke_core::spec::{S3Connection, S3Credentials};

use super::{http, secret};
use crate::field::Field;
use crate::report::Report;

pub(super) fn decode(block: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<S3Connection> {
    let endpoint = block.field("endpoint");
    let allow_plain_http = http::check_encryption(block, &[&endpoint], report);
    let credentials = credentials(block, report);
    let path_style = block.field("path_style");
    Some(S3Connection {
        endpoint: endpoint.text().map(|url| url.trim_end_matches('/').to_owned()),
        region: block.field("region").text().map(str::to_owned),
        path_style: if path_style.is_given() { path_style.boolean()? } else { endpoint.is_given() },
        credentials: credentials?,
        http: Some(http::settings(&block.field("http"), base_dir)?),
        allow_plain_http,
    })
}

/// Both parts of a key or none; the outer `None` means that they were refused.
fn credentials(block: &Field<'_>, report: &mut Report) -> Option<Option<S3Credentials>> {
    let (id, key, token) =
        (block.field("access_key_id"), block.field("secret_access_key"), block.field("session_token"));
    let secret_access_key = secret::decode(&key, report);
    let session_token = secret::decode(&token, report);
    let given = [&id, &key, &token].into_iter().find(|field| field.is_given());
    let Some(given) = given else { return Some(None) };
    let missing: Vec<_> = [&id, &key].into_iter().filter(|field| !field.is_given()).collect();
    for missing in &missing {
        let message = "is missing; a key has both `access_key_id` and `secret_access_key`; give both, or none to use \
                       the environment's";
        report.problem(given.place, &missing.path, message);
    }
    if !missing.is_empty() || (token.is_given() && session_token.is_none()) {
        return None;
    }
    let access_key_id = id.text()?.to_owned();
    Some(Some(S3Credentials { access_key_id, secret_access_key: secret_access_key?, session_token }))
}
