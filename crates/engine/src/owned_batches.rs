//! Batches that own what they hold.
//!
//! An aggregate gives its result as slices of one large batch. A sort behind it takes each slice for as large as the whole,
//! and spills as if it held the result many times over. So behind each aggregate stands an operator that copies the slices
//! into batches of their own; few and long, since each is sorted by itself and then merged.

use std::fmt;
use std::sync::Arc;

use arrow::compute::BatchCoalescer;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions};
use futures::{StreamExt, stream};

/// Rows per batch.
const ROWS: usize = 32_768;

/// Puts [`OwnedBatches`] behind each aggregate's last step. To be applied when everything else about the plan is settled.
#[derive(Debug)]
pub(crate) struct OwnWhatAggregatesGive;

impl PhysicalOptimizerRule for OwnWhatAggregatesGive {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let aggregate = node.downcast_ref::<AggregateExec>();
            let is_last = aggregate.is_some_and(|aggregate| *aggregate.mode() != AggregateMode::Partial);
            Ok(if is_last {
                Transformed::yes(Arc::new(OwnedBatches { input: node }) as _)
            } else {
                Transformed::no(node)
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "own_what_aggregates_give"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The same rows in the same order and partitions, in batches of their own.
#[derive(Debug)]
struct OwnedBatches {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for OwnedBatches {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnedBatches")
    }
}

impl ExecutionPlan for OwnedBatches {
    fn name(&self) -> &'static str {
        "OwnedBatches"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0) }))
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let under_way = (Some(input), BatchCoalescer::new(Arc::clone(&schema), ROWS));
        let batches = stream::try_unfold(under_way, async |(mut input, mut batches)| {
            loop {
                if let Some(batch) = batches.next_completed_batch() {
                    return Ok::<_, DataFusionError>(Some((batch, (input, batches))));
                }
                let Some(open) = &mut input else { return Ok(None) };
                match open.next().await.transpose()? {
                    Some(batch) => batches.push_batch(batch)?,
                    None => {
                        // What the aggregate holds is let go of before the last batch is passed on.
                        input = None;
                        batches.finish_buffered_batch()?;
                    }
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
