//! OAuth clients and their access tokens.
//!
//! A client is a tenant of the store. Secrets are kept as a salted SHA-256, tokens as a SHA-256: both are 256 random bits
//! when the store makes them, so a slow hash would protect nothing.

use std::fmt;
use std::time::Duration;

use convoke_core::Timestamp;
use rand::RngCore;
use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::database::Store;
use crate::error::{Error, Place, ProblemKind, Result};

/// A client that was just added. The secret is shown here and never again.
pub struct NewClient {
    pub client_id: String,
    pub secret: String,
}

impl fmt::Debug for NewClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewClient").field("client_id", &self.client_id).field("secret", &"***").finish()
    }
}

/// A client as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub client_id: String,
    pub name: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

/// Who is calling: the owner of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Also the user number in `createdById`.
    pub number: i64,
    pub client_id: String,
    pub name: String,
    /// The token's scopes, separated by spaces.
    pub scope: String,
}

impl Store {
    /// Adds a client with a new id and a new secret.
    pub async fn add_client(&self, name: &str) -> Result<NewClient> {
        let client = NewClient { client_id: uuid::Uuid::new_v4().to_string(), secret: random_hex() };
        self.insert_client(&client.client_id, name, &client.secret).await?;
        Ok(client)
    }

    /// Makes sure that this client exists, is not revoked and has this secret.
    pub async fn ensure_client(&self, client_id: &str, secret: &str) -> Result<()> {
        if client_id.is_empty() || secret.is_empty() {
            return Err(Error::invalid(Place::Request, ProblemKind::Missing, "a client needs an id and a secret"));
        }
        self.insert_client(client_id, client_id, secret).await
    }

    async fn insert_client(&self, client_id: &str, name: &str, secret: &str) -> Result<()> {
        let salt: [u8; 16] = random();
        let mut writing = self.write().await?;
        sqlx::query(
            "INSERT INTO clients (client_id, name, salt, secret_hash, created_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (client_id) DO UPDATE
             SET salt = excluded.salt, secret_hash = excluded.secret_hash, revoked_at = NULL",
        )
        .bind(client_id)
        .bind(name)
        .bind(salt.as_slice())
        .bind(hash(&[&salt, secret.as_bytes()]))
        .bind(self.now().0)
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        Ok(())
    }

    /// Lists all clients, oldest first.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        let mut reading = self.read().await?;
        let rows = sqlx::query("SELECT client_id, name, created_at, revoked_at FROM clients ORDER BY number")
            .fetch_all(&mut *reading)
            .await?;
        let client = |row: &sqlx::sqlite::SqliteRow| -> Result<Client> {
            Ok(Client {
                client_id: row.try_get(0)?,
                name: row.try_get(1)?,
                created_at: Timestamp(row.try_get(2)?),
                revoked_at: row.try_get::<Option<i64>, _>(3)?.map(Timestamp),
            })
        };
        rows.iter().map(client).collect()
    }

    /// Revokes a client and all its tokens at once. What it owns stays.
    pub async fn revoke_client(&self, client_id: &str) -> Result<()> {
        let mut writing = self.write().await?;
        let number: Option<i64> =
            sqlx::query_scalar("UPDATE clients SET revoked_at = ? WHERE client_id = ? RETURNING number")
                .bind(self.now().0)
                .bind(client_id)
                .fetch_optional(&mut *writing)
                .await?;
        let number = number.ok_or_else(|| Error::not_found("client", client_id))?;
        sqlx::query("DELETE FROM tokens WHERE client = ?").bind(number).execute(&mut *writing).await?;
        writing.commit().await?;
        Ok(())
    }

    /// Issues a token if the secret is right; none if it is not, or the client is unknown or revoked.
    pub async fn issue_token(&self, client_id: &str, secret: &str, grant: &TokenGrant) -> Result<Option<String>> {
        let Some(number) = self.verified_client(client_id, secret).await? else {
            return Ok(None);
        };
        let token = random_hex();
        let now = self.now();
        let mut writing = self.write().await?;
        sqlx::query("DELETE FROM tokens WHERE expires_at <= ?").bind(now.0).execute(&mut *writing).await?;
        sqlx::query("INSERT INTO tokens (token_hash, client, scope, expires_at) VALUES (?, ?, ?, ?)")
            .bind(hash(&[token.as_bytes()]))
            .bind(number)
            .bind(&grant.scope)
            .bind(now.after(grant.lifetime).0)
            .execute(&mut *writing)
            .await?;
        writing.commit().await?;
        Ok(Some(token))
    }

    /// Returns whose token this is; none if it is unknown, expired or revoked.
    pub async fn caller(&self, token: &str) -> Result<Option<Caller>> {
        let mut reading = self.read().await?;
        let row = sqlx::query(
            "SELECT number, client_id, name, scope FROM tokens JOIN clients ON clients.number = tokens.client
             WHERE token_hash = ? AND expires_at > ? AND revoked_at IS NULL",
        )
        .bind(hash(&[token.as_bytes()]))
        .bind(self.now().0)
        .fetch_optional(&mut *reading)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Caller {
            number: row.try_get(0)?,
            client_id: row.try_get(1)?,
            name: row.try_get(2)?,
            scope: row.try_get(3)?,
        }))
    }

    async fn verified_client(&self, client_id: &str, secret: &str) -> Result<Option<i64>> {
        let mut reading = self.read().await?;
        let row =
            sqlx::query("SELECT number, salt, secret_hash FROM clients WHERE client_id = ? AND revoked_at IS NULL")
                .bind(client_id)
                .fetch_optional(&mut *reading)
                .await?;
        let Some(row) = row else { return Ok(None) };
        let salt: Vec<u8> = row.try_get(1)?;
        let expected: Vec<u8> = row.try_get(2)?;
        let given = hash(&[&salt, secret.as_bytes()]);
        Ok(equal_in_constant_time(&given, &expected).then(|| row.get(0)))
    }
}

/// What a new token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// Scopes, separated by spaces.
    pub scope: String,
    pub lifetime: Duration,
}

fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn random_hex() -> String {
    random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().to_vec()
}

fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
