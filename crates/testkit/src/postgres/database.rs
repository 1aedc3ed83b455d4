//! A database of a test server.

use convoke_core::spec::PostgresConnection;
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

/// A database that one test uses. It stays until its server goes.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    connection: PostgresConnection,
}

impl TestDatabase {
    pub(super) fn new(connection: PostgresConnection) -> Self {
        Self { connection }
    }

    /// How it is reached, by the superuser.
    pub fn connection(&self) -> PostgresConnection {
        self.connection.clone()
    }

    /// [`TestDatabase::connection`] as a URL, with its password.
    pub fn url(&self) -> String {
        url_of(&self.connection)
    }

    /// Opens a connection, for what needs one of its own: a transaction, a lock.
    ///
    /// # Panics
    /// If the server does not take it.
    pub async fn connect(&self) -> PgConnection {
        let PostgresConnection { host, port, database, user, password, ca_file, .. } = &self.connection;
        let mut options = PgConnectOptions::new_without_pgpass().host(host).port(*port).database(database);
        options = options.username(user).ssl_mode(PgSslMode::Prefer);
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        if let Some(ca_file) = ca_file {
            options = options.ssl_root_cert(ca_file);
        }
        options.connect().await.expect("the test server takes connections")
    }

    /// Runs statements, separated by semicolons.
    ///
    /// # Panics
    /// If one fails.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        let outcome = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        if let Err(error) = outcome {
            panic!("`{sql}` failed: {error}");
        }
        close(connection).await;
    }

    /// Gives the rows of a query, each value as PostgreSQL writes it.
    ///
    /// # Panics
    /// If it fails.
    pub async fn rows(&self, query: &str) -> Vec<Vec<Option<String>>> {
        let mut connection = self.connect().await;
        let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut connection).await;
        close(connection).await;
        let rows = rows.unwrap_or_else(|error| panic!("`{query}` failed: {error}"));
        let value = |row: &sqlx::postgres::PgRow, index| {
            row.try_get_unchecked::<Option<String>, _>(index).expect("the simple protocol sends text")
        };
        rows.iter().map(|row| (0..row.len()).map(|index| value(row, index)).collect()).collect()
    }

    /// Gives the one value of a query, as text.
    ///
    /// # Panics
    /// If it is NULL, or there is no row.
    pub async fn value(&self, query: &str) -> String {
        let rows = self.rows(query).await;
        rows.into_iter().flatten().flatten().next().unwrap_or_else(|| panic!("`{query}` gives no value"))
    }

    /// Cuts the connections of everybody else to this database; tells how many there were.
    pub async fn terminate_backends(&self) -> u64 {
        self.terminate("datname = current_database()").await
    }

    pub(super) async fn terminate(&self, which: &str) -> u64 {
        let query = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND {which}"
        );
        self.value(&query).await.parse().expect("a count is a number")
    }
}

pub(super) fn url_of(connection: &PostgresConnection) -> String {
    let PostgresConnection { host, port, database, user, password, .. } = connection;
    let password = password.as_ref().map_or("", |password| password.expose_secret());
    format!("postgres://{user}:{password}@{host}:{port}/{database}")
}

async fn close(connection: PgConnection) {
    // A connection that breaks while it is closed is as closed.
    let _ = connection.close().await;
}
