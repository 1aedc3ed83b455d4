//! The plan that deletes every row of a sync: for one that comes to its end. It reads the ledger alone.

use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Decimal128Type;
use convoke_core::plan::PlanCounts;
use convoke_core::{ContentHash, SyncName};
use futures::StreamExt;

use super::Planned;
use super::narrow::{DELETE, NarrowBuilder, NarrowHashes, place_without_record};
use super::output::Output;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::files;
use crate::key_number::key_of;
use crate::ledger::segment::{self, Entries, LIVE};
use crate::refusals::RefusalFates;

const ACTION: &str = "list the rows of a sync";

/// What is deleted, and where the plan goes.
#[derive(Clone, Copy)]
pub struct RemovalRequest<'a> {
    pub owner: &'a SyncName,
    /// The ledger's segments, oldest first.
    pub segments: &'a [PathBuf],
    /// The plan's folder; made with mode 0700. Files of the same names are replaced.
    pub folder: &'a Path,
}

pub(crate) async fn plan(engine: &Engine, request: RemovalRequest<'_>) -> Result<Planned, EngineError> {
    files::make_private_folder(request.folder)?;
    let fail = |cause| engine.query_failed(ACTION, &cause);
    let context = engine.session();
    let owner = request.owner.as_str();
    segment::register_ledger(&context, request.segments, owner, Entries::Standing).await.map_err(fail)?;
    let own_rows = format!("SELECT key, row_id FROM ledger WHERE mine AND state = {LIVE} ORDER BY key");
    let own_rows = context.sql(&own_rows).await.map_err(fail)?;
    let mut own_rows = own_rows.execute_stream().await.map_err(fail)?;
    let mut output = Output::new(request.folder, Vec::new())?;
    let mut counts = PlanCounts::default();
    while let Some(rows) = own_rows.next().await {
        let rows = rows.map_err(fail)?;
        counts.deletes += rows.num_rows() as u64;
        output.deletes(&deletes_of(&rows))?;
    }
    let (files, samples) = output.finish()?;
    files::sync_folder(request.folder)?;
    Ok(Planned { counts, files, samples, withheld: None, refusals: RefusalFates::default(), notices: Vec::new() })
}

fn deletes_of(rows: &RecordBatch) -> RecordBatch {
    let keys = rows.column(0).as_primitive::<Decimal128Type>();
    let row_ids = rows.column(1).as_string::<i32>();
    let mut deletes = NarrowBuilder::default();
    for row in 0..rows.num_rows() {
        let key = key_of(keys.value(row));
        let hashes = NarrowHashes { key, content: ContentHash::UNKNOWN, order: &[] };
        deletes.push(DELETE, place_without_record(key), &hashes, Some(row_ids.value(row)));
    }
    deletes.finish()
}
