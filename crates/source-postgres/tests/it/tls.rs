//! TLS in the modes that libpq has.

use std::path::{Path, PathBuf};

use convoke_core::SourceError;
use convoke_core::spec::{PostgresConnection, Relation, TlsMode};
use convoke_testkit::postgres::PostgresServer;

use crate::test_source::{TestSource, chain};

/// Whether the connection is encrypted, or why there is none.
async fn encrypted(
    server: &PostgresServer,
    tls: TlsMode,
    host: &str,
    ca_file: Option<&Path>,
) -> Result<String, SourceError> {
    let connection =
        PostgresConnection { tls, host: host.to_owned(), ca_file: ca_file.map(Path::to_owned), ..server.connection() };
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let source = TestSource::new(connection, Relation::Query(query.to_owned()));
    let discovery = source.try_discover().await?;
    let contents = source.try_read(&discovery.splits[0]).await?;
    Ok(contents.texts("ssl").remove(0).unwrap())
}

fn assert_refused(outcome: Result<String, SourceError>, expected: &str) {
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains(expected), "{}", chain(&error));
}

#[tokio::test]
async fn a_server_with_tls_is_reached_as_its_certificate_allows() {
    let server = PostgresServer::start_with_tls();
    let (ours, others) = (Some(server.ca_file()), Some(server.other_ca_file()));
    let by_address = "127.0.0.1";
    for (tls, host, ca_file) in [
        (TlsMode::Prefer, by_address, None),
        (TlsMode::Require, by_address, None),
        (TlsMode::VerifyCa, by_address, ours),
        (TlsMode::VerifyFull, "localhost", ours),
    ] {
        assert_eq!(encrypted(&server, tls, host, ca_file).await.unwrap(), "true", "{tls:?}");
    }
    let unverified = "`ca_file` holds the authority of its certificate";
    assert_refused(encrypted(&server, TlsMode::VerifyFull, by_address, ours).await, unverified);
    assert_refused(encrypted(&server, TlsMode::VerifyCa, by_address, others).await, unverified);
    assert_refused(encrypted(&server, TlsMode::VerifyCa, by_address, None).await, unverified);
    assert_refused(encrypted(&server, TlsMode::Disable, by_address, None).await, "`tls: require`");
}

#[tokio::test]
async fn a_server_without_tls_is_reached_only_where_that_is_allowed() {
    let server = PostgresServer::shared();
    for tls in [TlsMode::Disable, TlsMode::Prefer] {
        assert_eq!(encrypted(server, tls, "127.0.0.1", None).await.unwrap(), "false", "{tls:?}");
    }
    assert_refused(encrypted(server, TlsMode::Require, "127.0.0.1", None).await, "switch TLS on there");
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none_is_told() {
    let server = PostgresServer::shared();
    let folder = tempfile::TempDir::new().unwrap();
    let missing: PathBuf = folder.path().join("missing.pem");
    let refused = encrypted(server, TlsMode::VerifyFull, "localhost", Some(&missing)).await;
    assert_refused(refused, "missing.pem`; name a PEM file");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    assert_refused(encrypted(server, TlsMode::VerifyFull, "localhost", Some(&empty)).await, "holds no certificate");
}
