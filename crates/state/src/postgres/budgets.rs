//! What each credential has spent, as its limiters wrote it. They change it one after another: each holds the row.

use async_trait::async_trait;
use convoke_core::state::{BudgetChange, Budgets};
use convoke_core::{StateError, Timestamp};

use super::PostgresState;
use super::sql::now;
use super::transaction::Transaction;
use crate::columns::SPENT;
use crate::fault::Fault;
use crate::stored;

/// Makes the row, if there is none, and holds it until the end of the transaction. JSON's `null`: nothing stored yet.
const HOLD: &str = "INSERT INTO budgets AS before (credential, spent) VALUES ($1, 'null')
    ON CONFLICT (credential) DO UPDATE SET spent = before.spent RETURNING spent";

const NOW: &str = concat!("SELECT ", now!());

#[async_trait]
impl Budgets for PostgresState {
    async fn budget(&self, credential: &str) -> Result<Option<serde_json::Value>, StateError> {
        let action = "looking up the budget of a credential";
        let query = sqlx::query_as("SELECT spent FROM budgets WHERE credential = $1").bind(credential);
        let text: Option<(String,)> = self.find(action, query).await?;
        stored::optional_from_json(text.map(|(text,)| text), SPENT).map_err(|fault| self.explain(action, fault))
    }

    async fn update_budget(&self, credential: &str, change: BudgetChange) -> Result<(), StateError> {
        let mut transaction = self.begin("saving the budget of a credential").await?;
        let updated = self.in_time(update(&mut transaction, self.clock.ahead(), credential, change)).await;
        transaction.end(updated).await
    }
}

/// The time is asked for once the row is held, so that it is not before that of the change before.
async fn update(
    transaction: &mut Transaction<'_>,
    ahead: i64,
    credential: &str,
    change: BudgetChange,
) -> Result<(), Fault> {
    let (text,): (String,) = sqlx::query_as(HOLD).bind(credential).fetch_one(transaction.connection()).await?;
    let (now,): (i64,) = sqlx::query_as(NOW).bind(ahead).fetch_one(transaction.connection()).await?;
    let before: Option<serde_json::Value> = stored::from_json(&text, SPENT)?;
    let spent = change(before, Timestamp(now))?;
    sqlx::query("UPDATE budgets SET spent = $2 WHERE credential = $1")
        .bind(credential)
        .bind(spent.to_string())
        .execute(transaction.connection())
        .await?;
    Ok(())
}
