//! Problems of a sync's expressions, each with its place in the configuration.

use arrow::datatypes::SchemaRef;
use chrono::NaiveDate;
use convoke_core::spec::SyncSpec;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use crate::error::EngineError;
use crate::expression::{Compiled, compile};
use crate::mapping::Mapping;
use crate::spool::Spool;

/// One expression that does not fit the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionProblem {
    /// Key path in the sync's file: `map.Email.sql`, `where.sql`, `dedupe.by`.
    pub place: String,
    /// What is wrong, with the remedy.
    pub message: String,
}

/// Finds all problems; none of them depends on the day, so any day will do.
pub(crate) fn check(context: &SessionContext, spec: &SyncSpec, schema: &SchemaRef) -> Vec<ExpressionProblem> {
    let state = context.state();
    let compiled = match compile(&state, spec, schema, NaiveDate::default()) {
        Ok(compiled) => compiled,
        Err(problems) => return problems,
    };
    match Mapping::new(&state, spec, &compiled, schema) {
        Ok(_) => Vec::new(),
        Err(cause) => {
            let message = cause.find_root().to_string().lines().next().unwrap_or_default().to_owned();
            vec![ExpressionProblem { place: "map".to_owned(), message }]
        }
    }
}

/// Goes over the spool to find the record on which an expression fails.
pub(crate) async fn find_failing_record(
    state: &SessionState,
    spec: &SyncSpec,
    spool: &Spool,
    compiled: &Compiled,
) -> Option<EngineError> {
    let mapping = Mapping::for_diagnosis(state, spec, compiled, spool.schema()).ok()?;
    for group in spool.groups() {
        let offsets: Vec<_> = (0..usize::try_from(group.rows).ok()?).collect();
        let judged = group.read(&mapping.input, &offsets, |fetched, _| match mapping.first_failure(&fetched.records) {
            None => Ok(()),
            Some(failed) => {
                let origin = fetched.origin(failed.row);
                Err(EngineError::Evaluation { sync: spec.name.clone(), place: failed.place, origin })
            }
        });
        match judged.await {
            Ok(()) => {}
            Err(found @ EngineError::Evaluation { .. }) => return Some(found),
            Err(_) => return None,
        }
    }
    None
}
