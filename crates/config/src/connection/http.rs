//! What all connections over HTTP have in common.

use std::path::Path;

use convoke_core::spec::HttpSettings;

use crate::field::Field;
use crate::report::Report;

pub(super) fn settings(http: &Field<'_>, base_dir: &Path) -> Option<HttpSettings> {
    Some(HttpSettings {
        connect_timeout: http.field("connect_timeout").duration()?,
        request_timeout: http.field("request_timeout").duration()?,
        proxy: http.field("proxy").text().map(str::to_owned),
        ca_file: http.field("ca_file").text().map(|path| base_dir.join(path)),
    })
}

/// Refuses URLs that are not encrypted and leave this machine, unless `block` consents to it.
///
/// Returns whether it does.
pub(super) fn check_encryption(block: &Field<'_>, urls: &[&Field<'_>], report: &mut Report) -> bool {
    if let Some(consent) = given_consent(block, "allow_plain_http") {
        report.warning(consent.place, &consent.path, "secrets and records may travel unencrypted");
        return true;
    }
    for url in urls.iter().filter(|url| url.text().is_some_and(is_exposed)) {
        let message = "`http://` to another machine sends secrets and records unencrypted; use `https://`, or set \
                       `allow_plain_http: true`";
        report.problem(url.place, &url.path, message);
    }
    false
}

/// The field, if it says `true`.
pub(super) fn given_consent<'a>(block: &Field<'a>, name: &str) -> Option<Field<'a>> {
    let field = block.field(name);
    (field.boolean() == Some(true)).then_some(field)
}

/// Whether the URL is unencrypted and leaves this machine.
fn is_exposed(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_loopback
}
