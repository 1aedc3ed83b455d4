//! How a PostgreSQL server is connected to: address, user, password, TLS.

use convoke_core::spec::{PostgresConnection, TlsMode};
use secrecy::ExposeSecret;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// Who we are in `pg_stat_activity`.
const APPLICATION: &str = "convoke";

/// The options of a connection. A password that is not given is looked for where libpq looks. Statements are not logged,
/// because those of users may hold anything.
///
/// # Errors
///
/// An address that the driver cannot work with.
pub fn options(connection: &PostgresConnection) -> Result<PgConnectOptions, sqlx::Error> {
    let PostgresConnection { host, port, database, user, password, tls, ca_file, .. } = connection;
    // From a URL, because only so the driver looks up the password file for this host and user.
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("host", host).append_pair("port", &port.to_string());
    query.append_pair("dbname", database).append_pair("user", user);
    let mut options: PgConnectOptions = format!("postgres:///?{}", query.finish()).parse()?;
    if let Some(password) = password {
        options = options.password(password.expose_secret());
    }
    if let Some(ca_file) = ca_file {
        options = options.ssl_root_cert(ca_file);
    }
    Ok(options.ssl_mode(ssl_mode(*tls)).application_name(APPLICATION).disable_statement_logging())
}

fn ssl_mode(tls: TlsMode) -> PgSslMode {
    match tls {
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        TlsMode::Require => PgSslMode::Require,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
    }
}
