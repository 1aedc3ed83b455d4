//! Decodes `postgres` connections.

use std::net::IpAddr;
use std::path::Path;

use convoke_core::spec::{PostgresConnection, TlsMode};

use super::secret;
use crate::field::Field;
use crate::report::Report;

const TLS_MODES: &[(&str, TlsMode)] = &[
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

/// Decodes one checked connection, of `connections.yaml` or of the checkpoint store.
pub(crate) fn decode(block: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<PostgresConnection> {
    let host = host(&block.field("host"), report);
    let password = block.field("password");
    let secret = secret::decode(&password, report);
    let tls = host.and_then(|host| tls(block, host, report));
    if password.is_given() && secret.is_none() {
        return None;
    }
    Some(PostgresConnection {
        host: host?.to_owned(),
        port: u16::try_from(block.field("port").count()?).ok()?,
        database: block.field("database").text()?.to_owned(),
        user: block.field("user").text()?.to_owned(),
        password: secret,
        tls: tls?,
        ca_file: block.field("ca_file").text().map(|path| base_dir.join(path)),
        connect_timeout: block.field("connect_timeout").duration()?,
        statement_timeout: block.field("statement_timeout").duration()?,
    })
}

/// A host is not shown: it may be a whole URL, with a password in it.
fn host<'a>(field: &Field<'a>, report: &mut Report) -> Option<&'a str> {
    let host = field.text()?;
    let is_name = !host.contains(['/', '@', ':', '[', ']']) && !host.contains(char::is_whitespace);
    if is_name || is_socket(host) || host.parse::<IpAddr>().is_ok() {
        return Some(host);
    }
    let message = "is neither the name nor the address of a server, nor the folder of its socket; give it alone, and put \
                   `port`, `user`, `password` and `database` under their own keys";
    report.problem(field.place, &field.path, message);
    None
}

fn is_socket(host: &str) -> bool {
    host.starts_with('/')
}

fn is_this_machine(host: &str) -> bool {
    is_socket(host) || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls(block: &Field<'_>, host: &str, report: &mut Report) -> Option<TlsMode> {
    let (field, ca_file) = (block.field("tls"), block.field("ca_file"));
    let mode = match field.choice(TLS_MODES) {
        Some(mode) => mode,
        None if field.is_given() => return None,
        None if is_this_machine(host) => TlsMode::Prefer,
        None => TlsMode::VerifyFull,
    };
    let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    if is_socket(host) && (verifies || mode == TlsMode::Require) {
        report.problem(
            field.place,
            &field.path,
            "a socket has no TLS; remove `tls`, or give the server's name as `host`",
        );
    }
    if ca_file.is_given() && !verifies {
        let message = "is used by `tls: verify-ca` and `tls: verify-full` only; set one of them, or remove it";
        report.problem(ca_file.place, &ca_file.path, message);
    }
    if matches!(mode, TlsMode::Disable | TlsMode::Prefer) && !is_this_machine(host) {
        report.warning(field.place, &field.path, "the password and records may travel unencrypted");
    }
    Some(mode)
}
