//! Paths in `column:`, such as `address.city` and `tags[1]`.

use std::cell::RefCell;

use arrow::datatypes::{DataType, Field, Schema};
use convoke_rules::{ColumnKind, Columns};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};

use super::part_of;

/// A name that is no column, but leads into one.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) name: String,
    pub(crate) expr: Expr,
}

impl Path {
    /// The path into the column with the longest name that `name` begins with; none if it is none.
    pub(crate) fn parse(name: &str, schema: &Schema) -> Option<Self> {
        let leads_into = |column: &&str| name.strip_prefix(*column).is_some_and(|rest| rest.starts_with(['.', '[']));
        let columns = schema.fields().iter().map(|field| field.name().as_str());
        let column = columns.filter(leads_into).max_by_key(|column| column.len())?;
        let mut expr = Expr::Column(Column::from_name(column));
        let mut rest = &name[column.len()..];
        while !rest.is_empty() {
            let step;
            (step, rest) = next_step(rest)?;
            expr = part_of(expr, step);
        }
        Some(Self { name: name.to_owned(), expr })
    }
}

/// The first step of `.name…`, `['name']…` or `[1]…`, and what follows.
fn next_step(text: &str) -> Option<(Expr, &str)> {
    if let Some(named) = text.strip_prefix('.') {
        let end = named.find(['.', '[']).unwrap_or(named.len());
        return (end > 0).then(|| (lit(&named[..end]), &named[end..]));
    }
    let within = text.strip_prefix('[')?;
    if let Some(quoted) = within.strip_prefix('\'') {
        let (name, rest) = quoted.split_once("']")?;
        return Some((lit(name), rest));
    }
    let (number, rest) = within.split_once(']')?;
    Some((lit(number.parse::<i64>().ok()?), rest))
}

/// Source columns for a rule, which may name paths into them; notes the paths that it does.
pub(crate) struct PathColumns<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) qualified: &'a DFSchema,
    pub(crate) found: RefCell<Vec<(Path, DataType)>>,
}

impl Columns for PathColumns<'_> {
    fn kind(&self, column: &str) -> Option<ColumnKind> {
        if let Some(kind) = self.schema.kind(column) {
            return Some(kind);
        }
        let path = Path::parse(column, self.schema)?;
        let data_type = path.expr.get_type(self.qualified).ok()?;
        let kind = Schema::new(vec![Field::new(column, data_type.clone(), true)]).kind(column);
        let mut found = self.found.borrow_mut();
        if !found.iter().any(|(known, _)| known.name == column) {
            found.push((path, data_type));
        }
        kind
    }

    fn nearest(&self, column: &str) -> Option<String> {
        self.schema.nearest(column)
    }
}
