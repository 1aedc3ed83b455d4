//! The spool as a table of a query.
//!
//! Spooled files are a listing of Parquet files; pinned files are streams of row groups, shared out among the threads.
//! Row groups whose statistics rule out every record that the filter lets through are not read; their records count as
//! filtered all the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_formats::parquet::{BatchStream, ReadError};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::pinned::PinnedSplit;
use super::pruning;
use super::{Held, POSITION_COLUMN, Spool};
use crate::engine::{read_budget, table_of};

impl Spool {
    /// The records with the columns of `wanted` and their positions, but for those that `filter` certainly rules out.
    pub(crate) fn records(
        &self,
        context: &SessionContext,
        wanted: &SchemaRef,
        filter: Option<&Expr>,
    ) -> Result<DataFrame, DataFusionError> {
        let spooled: Vec<_> = self.splits.iter().filter_map(|split| split.held.path().cloned()).collect();
        let pinned = self.pinned_groups(context, filter)?;
        if pinned.is_empty() {
            return context.read_table(table_of(&spooled, &self.stored, &[])?);
        }
        let mut fields: Vec<_> =
            wanted.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        fields.push(Field::new(POSITION_COLUMN, DataType::Int64, false));
        let schema = Arc::new(Schema::new(fields));
        let partitions = share_out(pinned, context.state().config().target_partitions());
        let partitions = partitions.into_iter().map(|groups| {
            Arc::new(PinnedPartition { groups, wanted: Arc::clone(wanted), schema: Arc::clone(&schema) })
                as Arc<dyn PartitionStream>
        });
        let table = StreamingTable::try_new(Arc::clone(&schema), partitions.collect())?;
        let records = context.read_table(Arc::new(table))?;
        if spooled.is_empty() {
            return Ok(records);
        }
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        records.union(context.read_table(table_of(&spooled, &self.stored, &[])?)?.select_columns(&names)?)
    }

    fn pinned_groups(&self, context: &SessionContext, filter: Option<&Expr>) -> Result<Vec<Group>, DataFusionError> {
        let filter = filter.map(|filter| pruning::Filter::new(context, filter, &self.schema)).transpose()?;
        let filter = filter.flatten().map(Arc::new);
        let budget_bytes = read_budget(context);
        let mut groups = Vec::new();
        for split in &self.splits {
            let Held::Pinned(pinned) = &split.held else { continue };
            let mut position = split.first_position;
            for (index, rows) in pinned.group_rows().iter().copied().enumerate().filter(|(_, rows)| *rows > 0) {
                let (split, filter) = (Arc::clone(pinned), filter.clone());
                groups.push(Group { split, index, first_position: position, rows, budget_bytes, filter });
                position += rows;
            }
        }
        Ok(groups)
    }
}

/// A row group to be read, unless the filter rules it out: that is seen when its turn comes, as its footer may have to be
/// read for it.
#[derive(Clone, Debug)]
struct Group {
    split: Arc<PinnedSplit>,
    index: usize,
    first_position: u64,
    rows: u64,
    budget_bytes: u64,
    filter: Option<Arc<pruning::Filter>>,
}

/// Shares groups out so that all partitions have about as many rows; there is at least one partition.
fn share_out(mut groups: Vec<Group>, partitions: usize) -> Vec<Vec<Group>> {
    let mut shares: Vec<(u64, Vec<Group>)> = vec![(0, Vec::new()); partitions.clamp(1, groups.len().max(1))];
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows));
    for group in groups {
        let least = shares.iter_mut().min_by_key(|(rows, _)| *rows).expect("there is at least one partition");
        least.0 += group.rows;
        least.1.push(group);
    }
    shares.into_iter().map(|(_, groups)| groups).collect()
}

#[derive(Debug)]
struct PinnedPartition {
    groups: Vec<Group>,
    wanted: SchemaRef,
    schema: SchemaRef,
}

impl PartitionStream for PinnedPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (wanted, schema) = (Arc::clone(&self.wanted), Arc::clone(&self.schema));
        let batches = futures::stream::iter(self.groups.clone())
            .flat_map(move |group| group.batches(Arc::clone(&wanted), Arc::clone(&schema)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

impl Group {
    async fn is_ruled_out(&self) -> Result<bool, ReadError> {
        let Some(filter) = &self.filter else { return Ok(false) };
        Ok(filter.rules_out(&self.split, &*self.split.footer().await?, self.index))
    }

    /// The records as the file has them.
    async fn open(self, wanted: SchemaRef) -> Result<BatchStream, ReadError> {
        Ok(match self.is_ruled_out().await? {
            true => futures::stream::empty().boxed(),
            false => self.split.group(self.index, &wanted, None, self.budget_bytes),
        })
    }

    fn batches(self, wanted: SchemaRef, schema: SchemaRef) -> BoxStream<'static, Result<RecordBatch, DataFusionError>> {
        let (split, mut position) = (Arc::clone(&self.split), self.first_position.cast_signed());
        let batches = futures::stream::once(self.open(Arc::clone(&wanted))).try_flatten();
        let adapt = move |batch: Result<RecordBatch, ReadError>| {
            let adapted = batch.and_then(|batch| {
                let columns = split.adapt(&batch, &wanted).map_err(ReadError::Source)?;
                Ok((columns, batch.num_rows()))
            });
            let (mut columns, rows) = adapted.map_err(|cause| {
                let message = cause.to_string();
                // The query engine's errors carry text alone.
                split.note(cause);
                DataFusionError::Execution(message)
            })?;
            let next = position + rows as i64;
            columns.push(Arc::new(Int64Array::from_iter_values(position..next)) as ArrayRef);
            position = next;
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        };
        batches.map(adapt).boxed()
    }
}
