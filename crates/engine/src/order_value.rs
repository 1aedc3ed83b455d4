//! Order values as plans, the journal and the ledger keep them: each under the mark of the criteria that made it.
//!
//! The bytes of two values compare like the values only if the same criteria made both, in the same encoding. A value
//! under another mark, or under none, is unknown.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use convoke_core::hash::encode_part;
use convoke_core::spec::{Dedupe, Expression, Keep};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ExprSchemable;

use crate::expression::PlacedExpr;

/// Version of the encoding, which is that of `arrow::row` and not promised to stay; a test holds examples against it.
const ENCODING_VERSION: &str = "2";

/// Enough to tell apart the few criteria that a sync ever has; each row of the ledger carries them.
const MARK_BYTES: usize = 4;

/// What order values of a sync are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Criteria {
    mark: [u8; MARK_BYTES],
}

/// The type in which values of this type are compared, from one run to the next: sources change the width of their
/// numbers and the unit of their times, and the same moment must stay the same order value.
pub(crate) fn comparable_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            DataType::Int64
        }
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| Arc::from("UTC")))
        }
        DataType::Dictionary(_, values) => comparable_type(values),
        other => other.clone(),
    }
}

impl Criteria {
    /// The criteria of `dedupe`, compiled as `order` against the source's columns; none if there are none.
    pub(crate) fn of(
        dedupe: &Dedupe,
        order: &[PlacedExpr],
        schema: &SchemaRef,
    ) -> Result<Option<Self>, DataFusionError> {
        let columns = DFSchema::try_from(schema.as_ref().clone())?;
        let types = order.iter().map(|placed| Ok(comparable_type(&placed.expr.get_type(&columns)?).to_string()));
        Ok(Self::of_types(dedupe, &types.collect::<Result<Vec<_>, DataFusionError>>()?))
    }

    fn of_types(dedupe: &Dedupe, types: &[String]) -> Option<Self> {
        let keep = match dedupe.keep {
            Keep::Latest => "latest",
            Keep::First => "first",
        };
        let mut encoded = Vec::new();
        let mut part = |text: &str| encode_part(&mut encoded, Some(text));
        part(ENCODING_VERSION);
        part(keep);
        for (criterion, data_type) in dedupe.by.iter().zip(types) {
            let (kind, text) = match &criterion.expression {
                Expression::Column(name) => ("column", name),
                Expression::Sql(sql) => ("sql", sql),
            };
            let direction = if criterion.descending { "descending" } else { "ascending" };
            [kind, text, data_type, direction].into_iter().for_each(&mut part);
        }
        let mark = blake3::hash(&encoded).as_bytes().first_chunk().copied();
        mark.filter(|_| !dedupe.by.is_empty()).map(|mark| Self { mark })
    }

    /// Appends an order value under its mark.
    pub(crate) fn mark(self, order: &[u8], buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.mark);
        buffer.extend_from_slice(order);
    }

    /// Whether a stored value is under this mark, so that it can be compared.
    pub(crate) fn knows(self, stored: &[u8]) -> bool {
        stored.starts_with(&self.mark)
    }

    /// Whether a fresh value tells more than a stored one: it is later, or nothing comparable is known.
    pub(crate) fn raises(self, stored: &[u8], order: &[u8]) -> bool {
        stored.strip_prefix(&self.mark).is_none_or(|stored| order > stored)
    }

    /// Whether a stored value wins against a fresh one; what is unknown does not.
    pub(crate) fn wins(self, stored: &[u8], order: &[u8]) -> bool {
        stored.strip_prefix(&self.mark).is_some_and(|stored| stored > order)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
    use convoke_core::spec::OrderBy;

    use super::*;
    use crate::rank::Ranking;

    fn by(column: &str, descending: bool) -> OrderBy {
        OrderBy { expression: Expression::Column(column.to_owned()), descending }
    }

    fn dedupe(keep: Keep, by: Vec<OrderBy>) -> Dedupe {
        Dedupe { keep, by }
    }

    fn criteria(dedupe: &Dedupe) -> Criteria {
        Criteria::of_types(dedupe, &vec!["Utf8".to_owned(); dedupe.by.len()]).unwrap()
    }

    fn encoded(dedupe: &Dedupe, column: ArrayRef) -> Vec<Vec<u8>> {
        let rows = Ranking::new(dedupe).order_values(&[column]).unwrap().unwrap();
        rows.iter().map(|row| row.as_ref().to_vec()).collect()
    }

    /// Whether `stored` wins against `fresh`, both as texts.
    fn wins(keep: Keep, stored: Option<&str>, fresh: Option<&str>) -> bool {
        let dedupe = dedupe(keep, vec![by("at", false)]);
        let values = encoded(&dedupe, Arc::new(StringArray::from(vec![stored, fresh])));
        let mut marked = Vec::new();
        criteria(&dedupe).mark(&values[0], &mut marked);
        criteria(&dedupe).wins(&marked, &values[1])
    }

    #[test]
    fn the_value_that_the_rule_keeps_wins_and_null_never_does() {
        let (early, late) = (Some("2026-01-01"), Some("2026-01-02"));
        assert!(wins(Keep::Latest, late, early) && !wins(Keep::Latest, early, late));
        assert!(wins(Keep::First, early, late) && !wins(Keep::First, late, early));
        for keep in [Keep::Latest, Keep::First] {
            assert!(!wins(keep, early, early), "the same time says nothing");
            assert!(wins(keep, early, None) && !wins(keep, None, early) && !wins(keep, None, None));
        }
    }

    #[test]
    fn values_of_other_criteria_and_values_without_a_mark_are_unknown() {
        let used = dedupe(Keep::Latest, vec![by("at", false)]);
        let greatest = [0xff; 8];
        let stored_under = |other: Criteria| {
            let mut stored = Vec::new();
            other.mark(&greatest, &mut stored);
            criteria(&used).wins(&stored, &[0])
        };
        assert!(stored_under(criteria(&used)));
        let sql = OrderBy { expression: Expression::Sql("at".to_owned()), descending: false };
        for other in [
            dedupe(Keep::First, vec![by("at", false)]),
            dedupe(Keep::Latest, vec![by("at", true)]),
            dedupe(Keep::Latest, vec![by("seen", false)]),
            dedupe(Keep::Latest, vec![sql]),
            dedupe(Keep::Latest, vec![by("at", false), by("seen", false)]),
        ] {
            assert!(!stored_under(criteria(&other)), "{other:?}");
        }
        assert!(!stored_under(Criteria::of_types(&used, &["Int64".to_owned()]).unwrap()), "another type");
        assert!(!criteria(&used).wins(&greatest, &[0]), "no mark");
        assert!(!criteria(&used).wins(&[], &[0]), "no value");
        assert_eq!(Criteria::of_types(&dedupe(Keep::Latest, vec![]), &[]), None);
    }

    /// Ledgers hold these bytes. If they change, [`ENCODING_VERSION`] has to.
    #[test]
    fn the_encoding_is_that_of_its_version() {
        let latest = dedupe(Keep::Latest, vec![by("at", false)]);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let hexes = |column: ArrayRef| encoded(&latest, column).iter().map(|row| hex(row)).collect::<Vec<_>>();
        let texts = hexes(Arc::new(StringArray::from(vec![Some("2026-01-01"), Some(""), None])));
        assert_eq!(texts, ["02323032362d30312dff303100000000000002", "01", "00"]);
        let numbers = hexes(Arc::new(Int64Array::from(vec![Some(-2), Some(7), None])));
        assert_eq!(numbers, ["017ffffffffffffffe", "018000000000000007", "000000000000000000"]);
        let times = hexes(Arc::new(TimestampMillisecondArray::from(vec![Some(1), None])));
        assert_eq!(times, ["0180000000000003e8", "000000000000000000"]);
        let of_width = |column: ArrayRef| hexes(column)[0].clone();
        let narrow = of_width(Arc::new(arrow::array::Int16Array::from(vec![7])));
        assert_eq!(narrow, numbers[1], "a number is the same in every width");
        let nanos = of_width(Arc::new(arrow::array::TimestampNanosecondArray::from(vec![1_000_000])));
        assert_eq!(nanos, times[0], "a moment is the same in every unit");
    }
}
