//! What is known of a text that is no key: no row can have it, but records may, and were refused for it.

use convoke_core::RunId;
use convoke_core::reject::NotedReject;
use uuid::Uuid;

use super::{Explanation, REJECTS_LOOKED_THROUGH, SourceUse, describe_read, describe_reject, name_places};
use crate::Pipeline;
use crate::error::{Error, chain};
use crate::reading::broken_splits;

/// Rejects told one by one: a placeholder may stand in many records.
const REJECTS_SHOWN: usize = 5;

impl Pipeline {
    /// `reason` tells why `cells` are no key.
    pub(super) async fn explain_no_key(
        &self,
        cells: &[String],
        reason: String,
        source: SourceUse,
    ) -> Result<Explanation, Error> {
        let mut facts = vec![format!("{reason}; a record with it is refused, and no row can have it")];
        // As in `keys_of`: without a source the texts are taken as they were typed.
        let schema = self.sync.source.describe().await.ok().map(|described| described.schema);
        let texts = self.services.engine.key_texts(&self.sync.spec, schema.as_ref(), cells);
        if source == SourceUse::Read {
            facts.extend(self.explain_text(&texts).await?);
        }
        let rejects = self.services.state.rejects(&self.sync.spec.name, None, None, REJECTS_LOOKED_THROUGH).await?;
        let of_text: Vec<_> = rejects.iter().filter(|noted| has_one(noted, &self.sync.spec.key, &texts)).collect();
        facts.extend(of_text.iter().take(REJECTS_SHOWN).map(|noted| describe_reject(noted)));
        if let Some(more) = of_text.len().checked_sub(REJECTS_SHOWN).filter(|more| *more > 0) {
            facts.push(format!("and {more} more rejects with that text"));
        }
        Ok(Explanation { keys: Vec::new(), facts })
    }

    /// Where the source has the text. A source that cannot be read is a fact as well.
    async fn explain_text(&self, texts: &[Vec<String>]) -> Result<Vec<String>, Error> {
        let run = RunId(Uuid::now_v7());
        let outcome = self.letting_go(Box::pin(self.find_text(run, texts))).await;
        self.services.folders.remove("spool", &run.to_string());
        match outcome {
            Err(error @ Error::Interrupted) => Err(error),
            Err(error) => Ok(vec![format!("source: could not be read: {}", chain(&error))]),
            Ok(facts) => Ok(facts),
        }
    }

    async fn find_text(&self, run: RunId, texts: &[Vec<String>]) -> Result<Vec<String>, Error> {
        let discovery = self.all_there_is().await?;
        let (spool, outcomes) = self.spool(run, &discovery, &[]).await?;
        let finding = self.services.engine.find_key_text(&self.sync.spec, &spool, texts);
        let places = self.unless_cancelled(Box::pin(finding)).await??;
        let mut facts = vec![match places.count {
            0 => format!(
                "source: nothing has that text as far as it was read ({})",
                describe_read(&discovery, spool.read())
            ),
            _ => format!("source: that text is the key in {}", name_places(&places)),
        }];
        facts.extend(broken_splits(&outcomes).iter().map(|broken| format!("source: cannot be used: {broken}")));
        Ok(facts)
    }
}

/// Whether a refused record has one of these texts in its key columns.
fn has_one(noted: &NotedReject, key: &[String], texts: &[Vec<String>]) -> bool {
    let cell = |column: &String| noted.record.cells.iter().find(|(name, _)| name == column);
    let is_same = |(column, text): (&String, &String)| {
        cell(column).is_some_and(|(_, cell)| cell.as_deref().unwrap_or_default().trim() == text)
    };
    texts.iter().any(|parts| key.iter().zip(parts).all(is_same))
}
