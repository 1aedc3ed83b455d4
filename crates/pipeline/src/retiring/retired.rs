//! What stands for the configuration of a sync that is no longer configured: what its binding says.

use std::time::Duration;

use async_trait::async_trait;
use convoke_core::SyncName;
use convoke_core::error::{Origin, SourceError};
use convoke_core::sink::AudienceBinding;
use convoke_core::source::{
    Discover, Discovery, Selection, Source, SourcePosition, SourceSchema, Split, SplitContent, SplitOutcome,
};
use convoke_core::spec::{
    AudienceKind, AudienceSpec, ColumnSpec, Dedupe, Expression, Guards, Keep, RemovedRows, ScheduleSpec, SourceSpec,
    SyncMode, SyncSpec,
};

/// The specification of a sync of which only its audience is known. It serves to reach that audience, and nothing is
/// planned from it.
pub fn retired_spec(name: &SyncName, binding: &AudienceBinding) -> SyncSpec {
    let column = |column: &convoke_core::sink::BoundColumn| ColumnSpec {
        name: column.name.clone(),
        expression: Expression::Column(column.name.clone()),
        data_type: column.data_type,
    };
    SyncSpec {
        name: name.clone(),
        source: SourceSpec::Retired,
        filter: None,
        deleted: None,
        columns: binding.columns.iter().map(column).collect(),
        key: Vec::new(),
        dedupe: Dedupe { keep: Keep::Latest, by: Vec::new() },
        audience: AudienceSpec {
            connection: binding.key.connection.clone(),
            name: binding.name.clone(),
            id: Some(binding.key.audience_id.clone()),
            kind: AudienceKind::Contact,
            folder: None,
            description: None,
            match_criteria: Vec::new(),
            match_columns: Vec::new(),
        },
        mode: SyncMode::DeleteList,
        guards: Guards::default(),
        suppressions: Vec::new(),
        // Others may fill the audience as well; what they own is not touched.
        shared: true,
        removed_at_destination: RemovedRows::Respect,
        resend_for: Duration::ZERO,
        after: None,
        schedule: ScheduleSpec::Manual,
        arrival: None,
    }
}

/// The source of a sync that reads nothing any more.
#[derive(Clone, Copy, Debug)]
pub struct RetiredSource;

fn nothing<T>() -> Result<T, SourceError> {
    Err(SourceError::new(Origin::Internal, "the sync is being retired, and its source is not read"))
}

#[async_trait]
impl Source for RetiredSource {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        nothing()
    }

    async fn discover(&self, _request: Discover<'_>) -> Result<Discovery, SourceError> {
        nothing()
    }

    async fn select(&self, _selection: &Selection) -> Result<Discovery, SourceError> {
        nothing()
    }

    async fn read(&self, _split: &Split) -> Result<SplitContent, SourceError> {
        nothing()
    }

    fn propose(&self, stored: Option<&SourcePosition>, _outcomes: &[SplitOutcome]) -> SourcePosition {
        stored.cloned().unwrap_or(SourcePosition(serde_json::Value::Null))
    }

    async fn acknowledge(&self, _outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        Ok(())
    }
}
