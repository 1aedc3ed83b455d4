//! Users' expressions, made ready to run.
//!
//! Expressions are parsed against the source's columns, whose names count exactly as they are in the header. Only
//! functions that give the same for the same input are let through, because the same source must give the same plan.
//! So that one odd value does not end a run, every `CAST`, also those that mixing types brings in, becomes `TRY_CAST`
//! (NULL where the value does not fit), and a division by zero gives NULL.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::NaiveDate;
use convoke_core::spec::{Expression, Filter, OrderBy, SyncSpec};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::expr::TryCast;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, Volatility, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use crate::check::ExpressionProblem;
use crate::nested::{Path, PathColumns};
use crate::sql_words::quoting_columns;
use crate::text_column::has_text_form;

/// An expression with its place in the configuration.
#[derive(Clone, Debug)]
pub(crate) struct PlacedExpr {
    pub(crate) place: String,
    pub(crate) expr: Expr,
}

/// All expressions of a sync.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    /// Which records are looked at: those that `where` lets through, and those that say that they are deleted.
    pub(crate) filter: Option<PlacedExpr>,
    /// Which records say that they are deleted.
    pub(crate) deleted: Option<PlacedExpr>,
    /// One per mapped column, in the mapping's order.
    pub(crate) columns: Vec<PlacedExpr>,
    /// One per criterion of `dedupe.by`.
    pub(crate) order: Vec<PlacedExpr>,
}

/// Compiles all expressions of a sync, or tells all problems.
pub(crate) fn compile(
    state: &SessionState,
    spec: &SyncSpec,
    schema: &SchemaRef,
    today: NaiveDate,
) -> Result<Compiled, Vec<ExpressionProblem>> {
    let compiler = match Compiler::new(state, schema) {
        Ok(compiler) => compiler,
        Err(problem) => return Err(vec![problem]),
    };
    let mut problems = Vec::new();
    let mut keep = |result: Result<PlacedExpr, Vec<ExpressionProblem>>| match result {
        Ok(placed) => Some(placed),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let filter = spec.filter.as_ref().and_then(|filter| keep(compiler.filter("where", filter, today)));
    let deleted = spec.deleted.as_ref().and_then(|deleted| keep(compiler.filter("deleted", deleted, today)));
    let filter = filter.map(|filter| or_deleted(filter, deleted.as_ref()));
    let columns = spec.columns.iter().filter_map(|column| keep(compiler.column(&column.name, &column.expression)));
    let columns = columns.collect();
    let order = spec.dedupe.by.iter().filter_map(|criterion| keep(compiler.criterion(criterion))).collect();
    if problems.is_empty() { Ok(Compiled { filter, deleted, columns, order }) } else { Err(problems) }
}

/// Whoever is deleted is, also where what it says otherwise is of no interest: its row may be from before.
fn or_deleted(filter: PlacedExpr, deleted: Option<&PlacedExpr>) -> PlacedExpr {
    let PlacedExpr { place, expr } = filter;
    match deleted {
        Some(deleted) => PlacedExpr { place, expr: expr.is_true().or(deleted.expr.clone().is_true()) },
        None => PlacedExpr { place, expr },
    }
}

struct Compiler<'a> {
    state: &'a SessionState,
    schema: &'a Schema,
    qualified: DFSchema,
    simplifier: ExprSimplifier,
}

impl<'a> Compiler<'a> {
    fn new(state: &'a SessionState, schema: &'a SchemaRef) -> Result<Self, ExpressionProblem> {
        let qualified = DFSchema::try_from(schema.as_ref().clone())
            .map_err(|error| ExpressionProblem { place: "source".to_owned(), message: first_line(&error) })?;
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(qualified.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        Ok(Self { state, schema, qualified, simplifier: ExprSimplifier::new(context) })
    }

    fn filter(&self, key: &str, filter: &Filter, today: NaiveDate) -> Result<PlacedExpr, Vec<ExpressionProblem>> {
        let mut paths = Vec::new();
        let (place, sql) = match filter {
            Filter::Sql(sql) => (format!("{key}.sql"), sql.clone()),
            Filter::Rule(rule) => {
                let (schema, qualified) = (self.schema, &self.qualified);
                let columns = PathColumns { schema, qualified, found: RefCell::default() };
                let compiled = convoke_rules::compile::datafusion(rule, &columns, today);
                let placed = |problem: &convoke_rules::RuleProblem| ExpressionProblem {
                    place: std::iter::once(key)
                        .chain(problem.path.iter().map(String::as_str))
                        .collect::<Vec<_>>()
                        .join("."),
                    message: problem.message.clone(),
                };
                let sql = compiled.map_err(|error| error.problems.iter().map(placed).collect::<Vec<_>>())?;
                paths = columns.found.into_inner();
                (key.to_owned(), sql)
            }
        };
        let parsed = self.parse(&place, &sql, &paths);
        let expr = parsed.and_then(|expr| self.finish(&place, expr)).map_err(|problem| vec![problem])?;
        let problem = |message: String| vec![ExpressionProblem { place: place.clone(), message }];
        match expr.get_type(&self.qualified) {
            Ok(DataType::Boolean | DataType::Null) => Ok(PlacedExpr { place, expr }),
            Ok(other) => Err(problem(format!("a condition must be true or false; this is of type {other}"))),
            Err(error) => Err(problem(first_line(&error))),
        }
    }

    fn column(&self, name: &str, expression: &Expression) -> Result<PlacedExpr, Vec<ExpressionProblem>> {
        let place = match expression {
            Expression::Column(_) => format!("map.{name}"),
            Expression::Sql(_) => format!("map.{name}.sql"),
        };
        self.value(place, expression).map_err(|problem| vec![problem])
    }

    fn criterion(&self, criterion: &OrderBy) -> Result<PlacedExpr, Vec<ExpressionProblem>> {
        let placed = self.value("dedupe.by".to_owned(), &criterion.expression).map_err(|problem| vec![problem])?;
        match placed.expr.get_type(&self.qualified) {
            Ok(nested) if nested.is_nested() => {
                let message = format!("values of type {nested} have no order; pick a part of it");
                Err(vec![ExpressionProblem { place: placed.place, message }])
            }
            _ => Ok(placed),
        }
    }

    fn value(&self, place: String, expression: &Expression) -> Result<PlacedExpr, ExpressionProblem> {
        let expr = match expression {
            Expression::Column(name) if self.schema.field_with_name(name).is_ok() => {
                Expr::Column(Column::from_name(name))
            }
            Expression::Column(name) => match Path::parse(name, self.schema) {
                Some(path) => self.finish(&place, path.expr)?,
                None => return Err(ExpressionProblem { place, message: self.unknown_column(name) }),
            },
            Expression::Sql(sql) => self.finish(&place, self.parse(&place, sql, &[])?)?,
        };
        match expr.get_type(&self.qualified) {
            Ok(data_type) if has_text_form(&data_type) => Ok(PlacedExpr { place, expr }),
            Ok(other) => {
                let message = format!("a value of type {other} has no text form; pick a part of it, or convert it");
                Err(ExpressionProblem { place, message })
            }
            Err(error) => Err(ExpressionProblem { place, message: first_line(&error) }),
        }
    }

    /// Parses SQL over the source's columns and over these paths into them.
    fn parse(&self, place: &str, sql: &str, paths: &[(Path, DataType)]) -> Result<Expr, ExpressionProblem> {
        let problem = |columns: &DFSchema, error: &DataFusionError| ExpressionProblem {
            place: place.to_owned(),
            message: self.explain_sql(sql, columns, error),
        };
        let parse =
            |columns: &DFSchema| self.state.create_logical_expr(sql, columns).map_err(|error| problem(columns, &error));
        if paths.is_empty() {
            return parse(&self.qualified);
        }
        // A rule names a path like a column, so that is what it is while the rule is parsed.
        let named = paths.iter().map(|(path, data_type)| Arc::new(Field::new(&path.name, data_type.clone(), true)));
        let fields: Vec<_> = self.schema.fields().iter().cloned().chain(named).collect();
        let columns = DFSchema::try_from(Schema::new(fields)).map_err(|error| problem(&self.qualified, &error))?;
        let parsed = parse(&columns)?;
        let led_in = parsed.transform_up(|part| {
            let path = match &part {
                Expr::Column(column) => paths.iter().find(|(path, _)| path.name == column.name),
                _ => None,
            };
            Ok(path.map_or_else(|| Transformed::no(part), |(path, _)| Transformed::yes(path.expr.clone())))
        });
        Ok(led_in.map_err(|error| problem(&columns, &error))?.data)
    }

    fn finish(&self, place: &str, parsed: Expr) -> Result<Expr, ExpressionProblem> {
        let problem = |message: String| ExpressionProblem { place: place.to_owned(), message };
        let fail = |error: DataFusionError| problem(self.explain(&error));
        let expr = parsed.unalias_nested().data;
        if let Some(message) = forbidden_part(&expr) {
            return Err(problem(message));
        }
        let coerced = self.simplifier.coerce(expr, &self.qualified).map_err(fail)?;
        let tolerant = coerced.transform_up(|part| make_tolerant(part, &self.qualified)).map_err(fail)?.data;
        // Some functions exist only to be simplified into others, casts among them.
        let simple = self.simplifier.simplify(tolerant).map_err(fail)?;
        Ok(simple.transform_up(|part| Ok(try_casts(part))).map_err(fail)?.data)
    }

    /// What is wrong with SQL over these columns.
    fn explain_sql(&self, sql: &str, columns: &DFSchema, error: &DataFusionError) -> String {
        let message = self.explain(error);
        let quoted = quoting_columns(sql, columns.fields().iter().map(|field| field.name().as_str()));
        match quoted.filter(|quoted| self.state.create_logical_expr(quoted, columns).is_ok()) {
            Some(quoted) => {
                format!("{message}; a column whose name is a word of SQL stands in double quotes: `{quoted}`")
            }
            None => message,
        }
    }

    fn explain(&self, error: &DataFusionError) -> String {
        match error.find_root() {
            DataFusionError::SchemaError(cause, _) => match cause.as_ref() {
                SchemaError::FieldNotFound { field, .. } => self.unknown_column(field.name()),
                other => other.to_string(),
            },
            root => first_line(root),
        }
    }

    fn unknown_column(&self, name: &str) -> String {
        if let [only] = self.schema.fields().as_ref()
            && let Some(delimiter) = delimiter_in(only.name())
        {
            return format!(
                "the source has no column `{name}`: its header is a single column that looks like several, with {delimiter} \
                 between them; set the source's `delimiter` to that"
            );
        }
        let columns = self.schema.fields().len();
        if !self.schema.fields().iter().all(|field| looks_like_name(field.name())) {
            return format!(
                "the source has no column `{name}`, and what its {columns} columns are called looks like values; does it \
                 begin with a header line?"
            );
        }
        let known = self.schema.fields().iter().map(|field| field.name().as_str());
        match nearest(name, known) {
            Some(candidate) => format!("the source has no column `{name}`; did you mean `{candidate}`?"),
            None => {
                let names: Vec<_> = self.schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
                format!("the source has no column `{name}`; it has {}", names.join(", "))
            }
        }
    }
}

/// What separates the names in the name of the only column, if something does: the header was split by another character.
fn delimiter_in(name: &str) -> Option<&'static str> {
    let known = [(';', "`;`"), (',', "`,`"), ('|', "`|`"), ('\t', "a tab (`\"\\t\"`)")];
    known.into_iter().find(|(delimiter, _)| name.contains(*delimiter)).map(|(_, called)| called)
}

/// Whether a column's name may be shown: the first record of a file without a header line may not.
fn looks_like_name(name: &str) -> bool {
    const LONGEST: usize = 64;
    name.len() <= LONGEST && !name.contains('@') && name.chars().any(char::is_alphabetic)
}

/// Finds the known name that is most like `name`, if one is like it at all.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let scored = known.map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate));
    let best = scored.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (best.0 > 0.75).then_some(best.1)
}

/// Tells why an expression cannot be part of a plan, if it cannot.
fn forbidden_part(expr: &Expr) -> Option<String> {
    let mut message = None;
    let visited = expr.apply(|part| {
        message = match part {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => Some(format!(
                "`{}` gives another value each time, but the same source must give the same plan; use a column",
                call.func.name()
            )),
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::GroupingSet(_) | Expr::Unnest(_) => {
                Some("an expression sees one record at a time; aggregates and windows do not fit here".to_owned())
            }
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
                Some("an expression sees one record at a time; queries do not fit here".to_owned())
            }
            Expr::Placeholder(_) | Expr::ScalarVariable(..) => {
                Some("placeholders and variables have no value here".to_owned())
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    });
    visited.is_ok().then_some(message)?
}

fn make_tolerant(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Modulo), right }) => {
            let zero = ScalarValue::new_zero(&right.get_type(schema)?)?;
            let divisor = Box::new(nullif(*right, lit(zero)));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right: divisor })))
        }
        other => Ok(try_casts(other)),
    }
}

fn try_casts(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::Cast(cast) => Transformed::yes(Expr::TryCast(TryCast { expr: cast.expr, field: cast.field })),
        other => Transformed::no(other),
    }
}

fn first_line(error: &DataFusionError) -> String {
    let text = match error {
        // The inside of a parser helps nobody.
        DataFusionError::NotImplemented(text) if text.contains(" {") => "SQL of this form is not supported".to_owned(),
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) | DataFusionError::Internal(text) => {
            text.clone()
        }
        DataFusionError::SQL(cause, _) => cause.to_string(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}
