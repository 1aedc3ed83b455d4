//! Whether a row group of a pinned file can hold a record that the filter lets through.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use convoke_formats::parquet::ParquetFile;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::prelude::SessionContext;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use super::pinned::PinnedSplit;

/// A sync's filter, as far as statistics can decide it.
#[derive(Debug)]
pub(super) struct Filter {
    predicate: Arc<PruningPredicate>,
    schema: SchemaRef,
}

impl Filter {
    /// None if statistics decide nothing of it.
    pub(super) fn new(
        context: &SessionContext,
        filter: &Expr,
        schema: &SchemaRef,
    ) -> Result<Option<Self>, DataFusionError> {
        let qualified = DFSchema::try_from(schema.as_ref().clone())?;
        let physical = context.state().create_physical_expr(filter.clone(), &qualified)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).build(physical);
        Ok(predicate.map(|predicate| Self { predicate, schema: Arc::clone(schema) }))
    }

    /// Whether no record of a row group can pass.
    pub(super) fn rules_out(&self, split: &PinnedSplit, file: &ParquetFile, group: usize) -> bool {
        let Some(group) = file.metadata().row_groups().get(group) else { return false };
        let kept = self.predicate.prune(&GroupStatistics { split, file, group, schema: &self.schema });
        kept.is_ok_and(|kept| kept == [false])
    }
}

struct GroupStatistics<'a> {
    split: &'a PinnedSplit,
    file: &'a ParquetFile,
    group: &'a RowGroupMetaData,
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
            (None, Some(constant)) => Arc::new(StringArray::from(vec![constant])),
            (None, None) => return None,
        };
        // Statistics leave NaN out, which compares greater than everything.
        if bounds.data_type().is_floating() || data_type.is_floating() {
            return None;
        }
        super::cast_exactly(&bounds, data_type)
    }

    fn converter(&self, column: &Column) -> Option<StatisticsConverter<'_>> {
        let parquet = self.file.metadata().file_metadata().schema_descr();
        let arrow = self.file.schema();
        arrow.field_with_name(column.name()).ok()?;
        let converter = StatisticsConverter::try_new(column.name(), arrow, parquet).ok()?;
        // What is not told is not nought.
        let converter = converter.with_missing_null_counts_as_zero(false);
        self.has_sound_bounds(converter.parquet_column_index()?).then_some(converter)
    }

    /// Old writers compared bytes as if they had signs.
    fn has_sound_bounds(&self, column: usize) -> bool {
        !self.group.column(column).statistics().is_some_and(Statistics::is_min_max_deprecated)
    }

    /// The value that the file's place tells for all its records.
    fn constant(&self, column: &Column) -> Option<&str> {
        let found = self.split.constants().iter().find(|(name, _)| name == column.name());
        found.and_then(|(_, value)| value.as_deref())
    }
}

impl PruningStatistics for GroupStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |converter| converter.row_group_mins([self.group]).ok())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |converter| converter.row_group_maxes([self.group]).ok())
    }

    fn num_containers(&self) -> usize {
        1
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.converter(column)?.row_group_null_counts([self.group]).ok()?;
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(vec![u64::try_from(self.group.num_rows()).ok()?])))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
