//! SQL text with its parameters, for statements whose shape depends on the request.
//!
//! Text from a request is only ever bound, never made part of the SQL.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection};

use crate::error::Result;

#[derive(Clone, Debug)]
pub(crate) enum Bind {
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// A statement under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    sql: String,
    binds: Vec<Bind>,
}

impl Statement {
    pub(crate) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), binds: Vec::new() }
    }

    /// Adds SQL that holds no `?`.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a parameter, with its `?`.
    pub(crate) fn bind(&mut self, bind: Bind) -> &mut Self {
        self.sql.push('?');
        self.binds.push(bind);
        self
    }

    /// Adds `(?, ?, …)`.
    pub(crate) fn bind_tuple(&mut self, binds: impl IntoIterator<Item = Bind>) -> &mut Self {
        self.sql.push('(');
        for (index, bind) in binds.into_iter().enumerate() {
            if index > 0 {
                self.sql.push(',');
            }
            self.bind(bind);
        }
        self.sql.push(')');
        self
    }

    /// Adds another statement's text and parameters.
    pub(crate) fn append(&mut self, other: &Self) -> &mut Self {
        self.sql.push_str(&other.sql);
        self.binds.extend(other.binds.iter().cloned());
        self
    }

    /// Adds SQL whose `?` stand for these parameters, in order.
    pub(crate) fn append_sql(&mut self, sql: &str, binds: impl IntoIterator<Item = Bind>) -> &mut Self {
        self.sql.push_str(sql);
        self.binds.extend(binds);
        self
    }

    pub(crate) async fn execute(self, connection: &mut SqliteConnection) -> Result<u64> {
        Ok(self.into_query().execute(connection).await?.rows_affected())
    }

    pub(crate) async fn rows(self, connection: &mut SqliteConnection) -> Result<Vec<SqliteRow>> {
        Ok(self.into_query().fetch_all(connection).await?)
    }

    pub(crate) async fn count(self, connection: &mut SqliteConnection) -> Result<u64> {
        let count: i64 = self.into_query().fetch_one(connection).await?.try_get(0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    fn into_query(self) -> Query<'static, Sqlite, SqliteArguments> {
        let mut query = sqlx::query(AssertSqlSafe(self.sql));
        for bind in self.binds {
            query = match bind {
                Bind::Integer(value) => query.bind(value),
                Bind::Real(value) => query.bind(value),
                Bind::Text(value) => query.bind(value),
                Bind::Blob(value) => query.bind(value),
            };
        }
        query
    }
}
