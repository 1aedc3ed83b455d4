//! Decodes `s3` connections.

use std::path::{Path, PathBuf};

use convoke_core::spec::{S3Connection, S3Credentials, S3Profile, S3WebIdentity};

use super::{http, secret};
use crate::environment::Environment;
use crate::field::Field;
use crate::report::Report;

/// Variables in which the AWS command line finds its files, and where they are otherwise.
const PROFILE_FILES: [(&str, &str); 2] =
    [("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), ("AWS_CONFIG_FILE", ".aws/config")];

pub(super) fn decode(
    block: &Field<'_>,
    base_dir: &Path,
    environment: &dyn Environment,
    report: &mut Report,
) -> Option<S3Connection> {
    let endpoint = block.field("endpoint");
    let allow_plain_http = http::check_encryption(block, &[&endpoint], report);
    let credentials = credentials(block, report);
    let profile = profile(&block.field("profile"), environment);
    let web_identity = web_identity(block, base_dir, report);
    let ways = ["access_key_id", "profile", "role_arn"].map(|name| block.field(name));
    super::check_one_of(&ways.each_ref(), report);
    let path_style = block.field("path_style");
    Some(S3Connection {
        endpoint: endpoint.text().map(|url| url.trim_end_matches('/').to_owned()),
        region: block.field("region").text().map(str::to_owned),
        path_style: if path_style.is_given() { path_style.boolean()? } else { endpoint.is_given() },
        credentials: credentials?,
        profile,
        web_identity: web_identity?,
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

fn profile(field: &Field<'_>, environment: &dyn Environment) -> Option<S3Profile> {
    let name = field.text()?.to_owned();
    let home = environment.variable("HOME").map(PathBuf::from);
    let file = |(variable, beneath_home): (&str, &str)| {
        let named = environment.variable(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        named.or_else(|| home.as_ref().map(|home| home.join(beneath_home)))
    };
    Some(S3Profile { name, files: PROFILE_FILES.into_iter().filter_map(file).collect() })
}

/// Both parts of a role or none; the outer `None` means that they were refused.
fn web_identity(block: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<Option<S3WebIdentity>> {
    let (role, file) = (block.field("role_arn"), block.field("web_identity_token_file"));
    match (role.text(), file.text()) {
        (Some(role_arn), Some(token_file)) => {
            let token_file = base_dir.join(token_file);
            Some(Some(S3WebIdentity { role_arn: role_arn.to_owned(), token_file }))
        }
        (None, None) => Some(None),
        (Some(_), None) => {
            let message = "is missing; a role is taken on with the token in such a file; without one, leave `role_arn` out \
                           and give the environment the role's keys";
            report.problem(role.place, &file.path, message);
            None
        }
        (None, Some(_)) => {
            report.problem(file.place, &role.path, "is missing; say which role the token is for");
            None
        }
    }
}
