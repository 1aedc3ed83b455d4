//! What each credential has spent, as its limiter wrote it. The last writer counts.

use async_trait::async_trait;
use convoke_core::StateError;
use convoke_core::state::Budgets;

use super::PostgresState;
use crate::columns::SPENT;
use crate::stored;

#[async_trait]
impl Budgets for PostgresState {
    async fn budget(&self, credential: &str) -> Result<Option<serde_json::Value>, StateError> {
        let action = "looking up the budget of a credential";
        let query = sqlx::query_as("SELECT spent FROM budgets WHERE credential = $1").bind(credential);
        let text: Option<(String,)> = self.find(action, query).await?;
        stored::optional_from_json(text.map(|(text,)| text), SPENT).map_err(|fault| self.explain(action, fault))
    }

    async fn save_budget(&self, credential: &str, spent: &serde_json::Value) -> Result<(), StateError> {
        let query = sqlx::query_as(
            "INSERT INTO budgets (credential, spent) VALUES ($1, $2)
             ON CONFLICT (credential) DO UPDATE SET spent = excluded.spent RETURNING credential",
        );
        let query = query.bind(credential).bind(spent.to_string());
        let _saved: Option<(String,)> = self.change("saving the budget of a credential", query).await?;
        Ok(())
    }
}
