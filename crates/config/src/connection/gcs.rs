//! Decodes `gcs` connections.

use std::path::Path;

use convoke_core::spec::{GcsConnection, GcsCredentials};

use super::{http, secret};
use crate::field::Field;
use crate::report::Report;

pub(super) fn decode(block: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<GcsConnection> {
    let endpoint = block.field("endpoint");
    let allow_plain_http = http::check_encryption(block, &[&endpoint], report);
    let (file, key, anonymous) =
        (block.field("service_account_file"), block.field("service_account_key"), block.field("anonymous"));
    let secret = secret::decode(&key, report);
    super::check_one_of(&[&file, &key, &anonymous], report);
    let credentials = match (file.text(), secret) {
        (Some(path), _) => GcsCredentials::KeyFile(base_dir.join(path)),
        (None, Some(secret)) => GcsCredentials::Key(secret),
        (None, None) if key.is_given() => return None,
        (None, None) if anonymous.boolean()? => GcsCredentials::Anonymous,
        (None, None) => GcsCredentials::Environment,
    };
    Some(GcsConnection {
        endpoint: endpoint.text().map(|url| url.trim_end_matches('/').to_owned()),
        credentials,
        http: Some(http::settings(&block.field("http"), base_dir)?),
        allow_plain_http,
    })
}
