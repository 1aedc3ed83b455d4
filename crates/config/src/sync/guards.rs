//! Decodes `guards`.

use convoke_core::spec::{Guards, Limit};

use crate::field::Field;
use crate::report::Report;
use crate::scalar;
use crate::yaml::Value;

pub(super) fn decode(guards: &Field<'_>, report: &mut Report) -> Option<Guards> {
    let mut read = |name: &str| limit(&guards.field(name), report);
    let (max_delete, max_update, max_create) = (read("max_delete"), read("max_update"), read("max_create"));
    let (max_invalid, max_unreadable) = (read("max_invalid"), read("max_unreadable"));
    let max_unexplained = read("max_unexplained");
    let (max_reject, max_shrink) = (read("max_reject"), read("max_shrink"));
    Some(Guards {
        max_delete: max_delete?,
        max_update: max_update?,
        max_create: max_create?,
        max_invalid: max_invalid?,
        max_unreadable: max_unreadable?,
        max_unexplained: max_unexplained?,
        max_reject: max_reject?,
        max_shrink: max_shrink?,
        allow_empty: guards.field("allow_empty").boolean()?,
    })
}

/// A limit that is given replaces the default as a whole: `{ percent: 5% }` keeps no number of records.
pub(super) fn limit(field: &Field<'_>, report: &mut Report) -> Option<Limit> {
    let node = field.node()?;
    match &node.value {
        Value::Scalar(scalar) => scalar::limit(&scalar.text),
        Value::Map(_) => {
            let parts = Field::root(node, None);
            let limit = Limit { percent: parts.field("percent").percent(), records: parts.field("records").count() };
            if limit == Limit::unlimited() {
                report.problem(
                    node.place,
                    &field.path,
                    "sets no limit; give `percent` or `records`, or write `unlimited`",
                );
            }
            Some(limit)
        }
        Value::Null | Value::List(_) => None,
    }
}
