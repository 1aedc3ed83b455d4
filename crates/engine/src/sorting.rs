//! Sorting beyond memory: batches go in, and come out in order.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionContext, col};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::EngineError;

/// Batches on their way into a sort.
const BATCHES_AHEAD: usize = 2;

/// Where the batches go in. Dropping it ends the input.
pub(crate) struct SortInput(Sender<RecordBatch>);

impl SortInput {
    /// Hands a batch over; fails if the sort has failed, which its output tells of.
    pub(crate) async fn push(&self, batch: RecordBatch) -> Result<(), EngineError> {
        self.0.send(batch).await.map_err(|_| EngineError::Stopped)
    }
}

/// Begins a sort by an ascending column, which spills at the session's memory limit.
///
/// The output must be polled while the input is fed. Whoever feeds it must tell the end of the input from a failure
/// before the output is used: to the sort both look alike.
pub(crate) async fn sort(
    context: &SessionContext,
    schema: &SchemaRef,
    column: &str,
) -> Result<(SortInput, SendableRecordBatchStream), DataFusionError> {
    let (input, table) = fed_table(schema)?;
    let sorted = context.read_table(table)?.sort(vec![col(column).sort(true, false)])?.execute_stream().await?;
    Ok((input, sorted))
}

/// A table of what is fed, for one query that reads it once. What is said of [`sort`] holds here as well.
pub(crate) fn fed_table(schema: &SchemaRef) -> Result<(SortInput, Arc<StreamingTable>), DataFusionError> {
    let (sender, receiver) = channel(BATCHES_AHEAD);
    let fed = Fed { schema: Arc::clone(schema), batches: Mutex::new(Some(receiver)) };
    let table = StreamingTable::try_new(Arc::clone(schema), vec![Arc::new(fed)])?;
    Ok((SortInput(sender), Arc::new(table)))
}

/// The input of one sort, to be read once.
struct Fed {
    schema: SchemaRef,
    batches: Mutex<Option<Receiver<RecordBatch>>>,
}

impl fmt::Debug for Fed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the input of a sort")
    }
}

impl PartitionStream for Fed {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let receiver = self.batches.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut receiver = receiver.expect("a sort reads its input once");
        let batches = futures::stream::poll_fn(move |context| receiver.poll_recv(context).map(|next| next.map(Ok)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
