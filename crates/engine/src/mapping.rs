//! The mapping, evaluated directly on a batch: for the wide pass, previews and suppression lists.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use convoke_core::spec::{ColumnSpec, SyncMode, SyncSpec};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

use crate::cell::{CellProblem, CellRefusal, EMPTY_KEY, canonical_column};
use crate::expression::{Compiled, PlacedExpr};
use crate::text_column::as_text;

/// The mapped columns that matter for a sync: all, or the key alone where keys are all that is listed.
#[derive(Clone, Debug)]
pub(crate) struct ActiveColumns {
    pub(crate) columns: Vec<ColumnSpec>,
    /// Indices of the key's columns, in the key's order.
    pub(crate) key: Vec<usize>,
}

impl ActiveColumns {
    pub(crate) fn of(spec: &SyncSpec) -> Self {
        let is_active = |column: &&ColumnSpec| spec.mode != SyncMode::DeleteList || spec.key.contains(&column.name);
        let columns: Vec<_> = spec.columns.iter().filter(is_active).cloned().collect();
        let index = |name: &String| columns.iter().position(|column| column.name == *name);
        let key = spec.key.iter().filter_map(index).collect();
        Self { columns, key }
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The compiled expressions of the active columns, in order.
    pub(crate) fn expressions(&self, spec: &SyncSpec, compiled: &Compiled) -> Vec<PlacedExpr> {
        let pairs = spec.columns.iter().zip(&compiled.columns);
        pairs.filter(|(column, _)| self.index(&column.name).is_some()).map(|(_, placed)| placed.clone()).collect()
    }
}

/// Expressions that can be evaluated on batches of the columns they read.
pub(crate) struct Mapping {
    pub(crate) active: ActiveColumns,
    /// The columns of the source that the expressions read.
    pub(crate) input: SchemaRef,
    expressions: Vec<PlacedPhysical>,
    filter: Option<PlacedPhysical>,
    deleted: Option<PlacedPhysical>,
}

struct PlacedPhysical {
    place: String,
    expr: Arc<dyn PhysicalExpr>,
}

/// An expression that failed on a row of a batch.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) place: String,
    pub(crate) row: usize,
}

impl Mapping {
    pub(crate) fn new(
        state: &SessionState,
        spec: &SyncSpec,
        compiled: &Compiled,
        schema: &SchemaRef,
    ) -> Result<Self, DataFusionError> {
        let active = ActiveColumns::of(spec);
        let placed = active.expressions(spec, compiled);
        Self::build(state, active, placed, compiled, schema)
    }

    fn build(
        state: &SessionState,
        active: ActiveColumns,
        placed: Vec<PlacedExpr>,
        compiled: &Compiled,
        schema: &SchemaRef,
    ) -> Result<Self, DataFusionError> {
        let input = columns_read(placed.iter().chain(&compiled.filter).chain(&compiled.deleted), schema);
        let qualified = DFSchema::try_from(input.as_ref().clone())?;
        let physical = |placed: &PlacedExpr| -> Result<PlacedPhysical, DataFusionError> {
            let expr = state.create_physical_expr(placed.expr.clone(), &qualified)?;
            Ok(PlacedPhysical { place: placed.place.clone(), expr })
        };
        let expressions = placed.iter().map(physical).collect::<Result<_, _>>()?;
        let filter = compiled.filter.as_ref().map(physical).transpose()?;
        let deleted = compiled.deleted.as_ref().map(physical).transpose()?;
        Ok(Self { active, input, expressions, filter, deleted })
    }

    /// As [`Mapping::new`], with the criteria of `dedupe.by` as further expressions.
    pub(crate) fn for_diagnosis(
        state: &SessionState,
        spec: &SyncSpec,
        compiled: &Compiled,
        schema: &SchemaRef,
    ) -> Result<Self, DataFusionError> {
        let active = ActiveColumns::of(spec);
        let mut placed = active.expressions(spec, compiled);
        placed.extend(compiled.order.iter().cloned());
        Self::build(state, active, placed, compiled, schema)
    }

    /// The first failure of any expression on a record that the filter lets through.
    pub(crate) fn first_failure(&self, batch: &RecordBatch) -> Option<Failed> {
        let passes = match self.passes(batch) {
            Ok(passes) => passes,
            Err(failed) => return Some(failed),
        };
        if let Err(failed) = self.deleted(batch) {
            return Some(failed);
        }
        let rows = (0..batch.num_rows()).filter(|row| passes[*row]);
        for row in rows {
            let record = batch.slice(row, 1);
            if let Err(failed) = self.evaluate(&record) {
                return Some(Failed { place: failed.place, row });
            }
        }
        None
    }

    /// Evaluates the active columns. `batch` has exactly the columns of `input`.
    pub(crate) fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<StringArray>, Failed> {
        self.expressions.iter().map(|placed| evaluate_text(placed, batch)).collect()
    }

    /// Evaluates one of the active columns.
    pub(crate) fn evaluate_one(&self, column: usize, batch: &RecordBatch) -> Result<StringArray, Failed> {
        evaluate_text(&self.expressions[column], batch)
    }

    /// Evaluates the criteria of `dedupe.by`; only a mapping for diagnosis has them.
    pub(crate) fn criteria(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, Failed> {
        let criteria = self.expressions[self.active.columns.len()..].iter();
        let evaluate = |placed: &PlacedPhysical| {
            let evaluated = placed.expr.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
            evaluated.map_err(|_| locate(placed, batch))
        };
        criteria.map(evaluate).collect()
    }

    /// Whether an active column is made from no source column at all.
    pub(crate) fn reads_nothing(&self, column: usize) -> bool {
        collect_columns(&self.expressions[column].expr).is_empty()
    }

    /// The source column that an active column is made from, if it is exactly one.
    pub(crate) fn only_source_of(&self, column: usize) -> Option<&str> {
        let read = collect_columns(&self.expressions[column].expr);
        let mut names = read.iter().map(|found| self.input.field(found.index()).name().as_str());
        let only = names.next()?;
        names.next().is_none().then_some(only)
    }

    /// Evaluates the filter: for each row whether it passes.
    pub(crate) fn passes(&self, batch: &RecordBatch) -> Result<Vec<bool>, Failed> {
        self.filter.as_ref().map_or_else(|| Ok(vec![true; batch.num_rows()]), |placed| hold(placed, batch))
    }

    /// Evaluates what tells that a record is deleted.
    pub(crate) fn deleted(&self, batch: &RecordBatch) -> Result<Vec<bool>, Failed> {
        self.deleted.as_ref().map_or_else(|| Ok(vec![false; batch.num_rows()]), |placed| hold(placed, batch))
    }

    /// Brings evaluated columns to canonical form, and finds what makes records invalid.
    pub(crate) fn canonical_columns(&self, cells: &[StringArray]) -> CanonicalColumns {
        let mut problems = HashMap::new();
        let mut columns = Vec::with_capacity(cells.len());
        for (column, texts) in self.active.columns.iter().zip(cells) {
            columns.push(canonical_column(column.data_type, texts, |row, refusal| {
                problems.entry(row).or_insert_with(|| problem(column, refusal));
            }));
        }
        for index in &self.active.key {
            let key = &columns[*index];
            for row in (0..key.len()).filter(|row| key.is_null(*row)) {
                problems.entry(row).or_insert_with(|| problem(&self.active.columns[*index], EMPTY_KEY));
            }
        }
        CanonicalColumns { columns, problems }
    }
}

/// Mapped columns in canonical form, and the first problem of each row that has one.
pub(crate) struct CanonicalColumns {
    pub(crate) columns: Vec<StringArray>,
    pub(crate) problems: HashMap<usize, CellProblem>,
}

fn problem(column: &ColumnSpec, refusal: CellRefusal) -> CellProblem {
    CellProblem { column: column.name.clone(), code: refusal.code, reason: refusal.reason }
}

/// The columns of the source that these expressions read.
pub(crate) fn columns_read<'a>(placed: impl Iterator<Item = &'a PlacedExpr>, schema: &SchemaRef) -> SchemaRef {
    let mut names = BTreeSet::new();
    for placed in placed {
        names.extend(placed.expr.column_refs().into_iter().map(|column| column.name.clone()));
    }
    let fields = schema.fields().iter().filter(|field| names.contains(field.name())).cloned().collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

/// For each row whether a condition holds.
fn hold(placed: &PlacedPhysical, batch: &RecordBatch) -> Result<Vec<bool>, Failed> {
    let rows = batch.num_rows();
    let evaluated = placed.expr.evaluate(batch).and_then(|value| value.into_array(rows));
    let array = evaluated.map_err(|_| locate(placed, batch))?;
    let Some(verdicts) = array.as_boolean_opt() else { return Ok(vec![false; rows]) };
    Ok((0..rows).map(|row| verdicts.is_valid(row) && verdicts.value(row)).collect())
}

fn evaluate_text(placed: &PlacedPhysical, batch: &RecordBatch) -> Result<StringArray, Failed> {
    let evaluated = placed.expr.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
    let text = evaluated.and_then(|array| Ok(as_text(&array)?));
    text.map_err(|_| locate(placed, batch))
}

/// Finds the row on which an expression fails.
fn locate(placed: &PlacedPhysical, batch: &RecordBatch) -> Failed {
    let fails = |row: &usize| placed.expr.evaluate(&batch.slice(*row, 1)).is_err();
    let row = (0..batch.num_rows()).find(fails).unwrap_or(0);
    Failed { place: placed.place.clone(), row }
}

/// A sync for unit tests, keyed by its first column.
#[cfg(test)]
pub(crate) fn test_spec(columns: Vec<ColumnSpec>, dedupe: convoke_core::spec::Dedupe) -> SyncSpec {
    use convoke_core::spec::*;
    use convoke_core::{ConnectionName, SyncName};
    SyncSpec {
        name: SyncName::new("x"),
        source: SourceSpec::CsvDrop(CsvDropSpec {
            place: DropPlace::Folder { path: Default::default() },
            pattern: "*.csv".to_owned(),
            drop_mode: DropMode::Snapshot,
            settle: Default::default(),
            done_suffix: None,
            manifest: None,
            processed: ProcessedFiles::Keep,
            delimiter: Some(','),
            encoding: None,
            columns: vec![],
            aliases: vec![],
            max_malformed: 1.0,
        }),
        filter: None,
        deleted: None,
        key: vec![columns[0].name.clone()],
        columns,
        dedupe,
        audience: AudienceSpec {
            connection: ConnectionName::new("x"),
            name: "x".to_owned(),
            id: None,
            kind: AudienceKind::Contact,
            folder: None,
            description: None,
            match_criteria: vec![],
            match_columns: vec![],
        },
        mode: SyncMode::Mirror,
        guards: Guards::default(),
        suppressions: vec![],
        resend_for: std::time::Duration::ZERO,
        shared: false,
        removed_at_destination: Default::default(),
        after: None,
        schedule: ScheduleSpec::Manual,
        arrival: None,
    }
}
