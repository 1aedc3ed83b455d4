//! What each credential has spent, as its limiter wrote it.

use async_trait::async_trait;
use convoke_core::StateError;
use convoke_core::state::Budgets;

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

    async fn save_budget(&self, credential: &str, spent: &serde_json::Value) -> Result<(), StateError> {
        let (credential, spent) = (credential.to_owned(), spent.to_string());
        self.write("saving the budget of a credential", |transaction| {
            Box::pin(async move {
                sqlx::query("INSERT OR REPLACE INTO budgets (credential, spent) VALUES (?, ?)")
                    .bind(credential)
                    .bind(spent)
                    .execute(&mut transaction.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
