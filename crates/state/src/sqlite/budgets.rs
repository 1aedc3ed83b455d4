//! What each credential has spent, as its limiters wrote it.

use async_trait::async_trait;
use convoke_core::StateError;
use convoke_core::state::{BudgetChange, Budgets};

use crate::columns::SPENT;
use crate::sqlite::SqliteState;
use crate::stored;

#[async_trait]
impl Budgets for SqliteState {
    async fn budget(&self, credential: &str) -> Result<Option<serde_json::Value>, StateError> {
        let credential = credential.to_owned();
        self.read("looking up the budget of a credential", |connection| {
            Box::pin(async move {
                let text: Option<String> = sqlx::query_scalar("SELECT spent FROM budgets WHERE credential = ?")
                    .bind(credential)
                    .fetch_optional(connection)
                    .await?;
                stored::optional_from_json(text, SPENT)
            })
        })
        .await
    }

    async fn update_budget(&self, credential: &str, change: BudgetChange) -> Result<(), StateError> {
        let credential = credential.to_owned();
        self.write("saving the budget of a credential", |transaction| {
            Box::pin(async move {
                let text: Option<String> = sqlx::query_scalar("SELECT spent FROM budgets WHERE credential = ?")
                    .bind(&credential)
                    .fetch_optional(&mut transaction.connection)
                    .await?;
                let spent = change(stored::optional_from_json(text, SPENT)?, transaction.now)?;
                sqlx::query("INSERT OR REPLACE INTO budgets (credential, spent) VALUES (?, ?)")
                    .bind(credential)
                    .bind(spent.to_string())
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
