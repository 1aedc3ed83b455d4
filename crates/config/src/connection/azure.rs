//! Decodes `azure` connections.

use std::path::Path;

use convoke_core::spec::{AzureConnection, AzureCredentials};

use super::{http, secret};
use crate::field::Field;
use crate::report::Report;

pub(super) fn decode(block: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<AzureConnection> {
    let endpoint = block.field("endpoint");
    let allow_plain_http = http::check_encryption(block, &[&endpoint], report);
    let credentials = credentials(block, report);
    Some(AzureConnection {
        account: account(&block.field("account"), report)?,
        endpoint: endpoint.text().map(|url| url.trim_end_matches('/').to_owned()),
        credentials: credentials?,
        http: Some(http::settings(&block.field("http"), base_dir)?),
        allow_plain_http,
    })
}

/// An account is part of a host's name, and no host's name or URL.
fn account(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let account = field.text()?;
    if account.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Some(account.to_owned());
    }
    let message = "is no name of a storage account, which has lower-case letters and digits only; an address stands under \
                   `endpoint`";
    report.problem(field.place, &field.path, message);
    None
}

fn credentials(block: &Field<'_>, report: &mut Report) -> Option<AzureCredentials> {
    let (key, sas, client_secret, anonymous) =
        (block.field("access_key"), block.field("sas_token"), block.field("client_secret"), block.field("anonymous"));
    super::check_one_of(&[&key, &sas, &client_secret, &anonymous], report);
    let (tenant, client) = (block.field("tenant_id"), block.field("client_id"));
    for part in [&tenant, &client].into_iter().filter(|part| part.is_given() != client_secret.is_given()) {
        let message = "belongs together with the other two of `tenant_id`, `client_id` and `client_secret`; give all of \
                       them or none";
        let given = if part.is_given() { part } else { &client_secret };
        report.problem(given.place, &part.path, message);
    }
    let secrets = [&key, &sas, &client_secret].map(|field| (field.is_given(), secret::decode(field, report)));
    if secrets.iter().any(|(is_given, secret)| *is_given && secret.is_none()) {
        return None;
    }
    Some(match secrets.map(|(_, secret)| secret) {
        [Some(key), ..] => AzureCredentials::AccessKey(key),
        [_, Some(sas), _] => AzureCredentials::Sas(sas),
        [_, _, Some(client_secret)] => AzureCredentials::ServicePrincipal {
            tenant_id: tenant.text()?.to_owned(),
            client_id: client.text()?.to_owned(),
            client_secret,
        },
        [None, None, None] if anonymous.boolean()? => AzureCredentials::Anonymous,
        [None, None, None] => AzureCredentials::Environment,
    })
}
