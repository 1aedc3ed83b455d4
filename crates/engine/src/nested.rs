//! Values within values: fields of structs, elements of lists, values of maps, and JSON that stands in a text column.
//!
//! | written | gives |
//! | --- | --- |
//! | `column: address.city`, `address['city']` | a field of a struct, or the value under a key of a map |
//! | `column: tags[1]`, `tags[1]` | an element of a list, counted from 1; from its end with `-1` |
//! | `payload->>'user'`, `json_text(payload, '$.user.name')` | what JSON text holds there, as text; elements count from 0 |
//! | `payload->'user'`, `json_get(payload, 'user')` | the same as JSON, to go on from |
//!
//! What is not there is NULL. A struct, list or map that is mapped as a whole is JSON text ([`json`]); fields without a value
//! are left out of it, so that a field which comes to be known changes nobody.

pub(crate) mod json;
mod json_part;
mod part;
mod path;

use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, GetFieldAccess, ScalarUDF, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

pub(crate) use path::{Path, PathColumns};

/// The functions, ready to register.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    vec![part::function(), json_part::json_get(), json_part::json_text()]
}

/// Plans `a['b']`, `a[1]`, `a->'b'` and `a->>'b'`.
#[derive(Debug)]
pub(crate) struct NestedPlanner;

impl ExprPlanner for NestedPlanner {
    fn plan_binary_op(&self, raw: RawBinaryExpr, _schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match raw.op {
            BinaryOperator::Arrow => json_part::json_get(),
            BinaryOperator::LongArrow => json_part::json_text(),
            _ => return Ok(PlannerResult::Original(raw)),
        };
        Ok(PlannerResult::Planned(function.call(vec![raw.left, raw.right])))
    }

    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        _schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let step = match raw.field_access {
            GetFieldAccess::NamedStructField { name } => lit(name),
            GetFieldAccess::ListIndex { key } => *key,
            GetFieldAccess::ListRange { .. } => {
                return plan_err!("a part of a list has no place in a cell; pick one element");
            }
        };
        Ok(PlannerResult::Planned(part_of(raw.expr, step)))
    }
}

/// One step into a value.
fn part_of(value: Expr, step: Expr) -> Expr {
    part::function().call(vec![value, step])
}

/// A whole number of any width.
fn whole_number(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int8(Some(number)) => Some((*number).into()),
        ScalarValue::Int16(Some(number)) => Some((*number).into()),
        ScalarValue::Int32(Some(number)) => Some((*number).into()),
        ScalarValue::Int64(Some(number)) => Some(*number),
        ScalarValue::UInt8(Some(number)) => Some((*number).into()),
        ScalarValue::UInt16(Some(number)) => Some((*number).into()),
        ScalarValue::UInt32(Some(number)) => Some((*number).into()),
        ScalarValue::UInt64(Some(number)) => i64::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
