//! What the proxy remembers of the requests that went through it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::message::Message;
use crate::rows;

/// Rows by the time at which they were created, and tokens that are good no more.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    created_at: HashMap<String, Instant>,
    expired: HashSet<String>,
}

impl Memory {
    /// Notes the rows that a request has created.
    pub(crate) fn note_rows(&mut self, request: &Message, answer: &Message) {
        if !rows::is_upsert(request.method_and_path().1) {
            return;
        }
        let (Some(asked), Some(told)) = (&request.body, &answer.body) else { return };
        let now = Instant::now();
        for id in rows::created_ids(asked, told) {
            self.created_at.entry(id).or_insert(now);
        }
    }

    /// Whether a row was created less than `age` ago.
    pub(crate) fn is_young(&self, row: &Value, age: Duration) -> bool {
        let created_at = row["id"].as_str().and_then(|id| self.created_at.get(id));
        created_at.is_some_and(|created_at| created_at.elapsed() < age)
    }

    /// From now on the token of this request is good no more.
    pub(crate) fn expire_token(&mut self, request: &Message) {
        self.expired.extend(request.header("authorization").map(str::to_owned));
    }

    pub(crate) fn is_expired(&self, request: &Message) -> bool {
        request.header("authorization").is_some_and(|token| self.expired.contains(token))
    }
}
