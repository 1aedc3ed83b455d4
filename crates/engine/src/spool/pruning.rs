//! Which row groups of a pinned file can hold a record that the filter lets through.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::prelude::SessionContext;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::statistics::Statistics;

use super::pinned::PinnedSplit;

/// A sync's filter, as far as statistics can decide it; none keeps every group.
pub(super) struct Filter(Option<Arc<PruningPredicate>>);

impl Filter {
    pub(super) fn new(context: &SessionContext, filter: &Expr, schema: &SchemaRef) -> Result<Self, DataFusionError> {
        let qualified = DFSchema::try_from(schema.as_ref().clone())?;
        let physical = context.state().create_physical_expr(filter.clone(), &qualified)?;
        Ok(Self(PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).build(physical)))
    }

    /// For each row group whether it is to be read.
    pub(super) fn groups_of(&self, split: &PinnedSplit, schema: &SchemaRef) -> Vec<bool> {
        let groups = split.metadata().num_row_groups();
        let all = || vec![true; groups];
        let Some(predicate) = &self.0 else { return all() };
        predicate.prune(&GroupStatistics { split, schema }).unwrap_or_else(|_| all())
    }
}

struct GroupStatistics<'a> {
    split: &'a PinnedSplit,
    schema: &'a SchemaRef,
}

impl GroupStatistics<'_> {
    fn bounds(
        &self,
        column: &Column,
        of_file: impl Fn(&StatisticsConverter<'_>) -> Option<ArrayRef>,
    ) -> Option<ArrayRef> {
        let data_type = self.schema.field_with_name(column.name()).ok()?.data_type();
        let bounds = match (self.converter(column), self.constant(column)) {
            (Some(converter), _) => of_file(&converter)?,
            (None, Some(constant)) => Arc::new(StringArray::from(vec![constant; self.num_containers()])),
            (None, None) => return None,
        };
        // Statistics leave NaN out, which compares greater than everything.
        if bounds.data_type().is_floating() || data_type.is_floating() {
            return None;
        }
        super::cast_exactly(&bounds, data_type)
    }

    fn converter(&self, column: &Column) -> Option<StatisticsConverter<'_>> {
        let parquet = self.split.metadata().file_metadata().schema_descr();
        let arrow = self.split.arrow_schema();
        arrow.field_with_name(column.name()).ok()?;
        let converter = StatisticsConverter::try_new(column.name(), arrow, parquet).ok()?;
        // What is not told is not nought.
        let converter = converter.with_missing_null_counts_as_zero(false);
        self.has_sound_bounds(converter.parquet_column_index()?).then_some(converter)
    }

    /// Old writers compared bytes as if they had signs.
    fn has_sound_bounds(&self, column: usize) -> bool {
        let mut groups = self.split.metadata().row_groups().iter();
        groups.all(|group| !group.column(column).statistics().is_some_and(Statistics::is_min_max_deprecated))
    }

    /// The value that the file's place tells for all its records.
    fn constant(&self, column: &Column) -> Option<&str> {
        let found = self.split.constants().iter().find(|(name, _)| name == column.name());
        found.and_then(|(_, value)| value.as_deref())
    }
}

impl PruningStatistics for GroupStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |converter| converter.row_group_mins(self.split.metadata().row_groups()).ok())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |converter| converter.row_group_maxes(self.split.metadata().row_groups()).ok())
    }

    fn num_containers(&self) -> usize {
        self.split.metadata().num_row_groups()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.converter(column)?.row_group_null_counts(self.split.metadata().row_groups()).ok()?;
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.split.group_rows().map(Some);
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
