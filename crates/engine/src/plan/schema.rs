//! The columns of a plan's files.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use convoke_core::journal::Operation;
use convoke_core::plan::PlanContent;

/// Columns before the mapped ones in a file of changes.
pub(crate) const CHANGE_COLUMNS: usize = 5;
/// Columns before the mapped ones in the file of invalid records.
pub(crate) const INVALID_COLUMNS: usize = 5;

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn binary(name: &str) -> Field {
    Field::new(name, DataType::Binary, false)
}

/// By what the narrow changes are sorted: the record's position in the spool; deletes, which have none, come last.
pub(super) const PLACE: &str = "place";

/// Columns of what the narrow pass leaves for the wide pass.
pub(super) static NARROW: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("kind", DataType::UInt8, false),
        Field::new(PLACE, DataType::Int64, false),
        binary("key"),
        binary("content"),
        binary("order_value"),
        text("row_id", true),
    ]))
});

/// Columns of a file of changes; `names` are the mapped columns.
pub(crate) fn changes<'a>(names: impl Iterator<Item = &'a str>) -> SchemaRef {
    let head = [binary("key"), binary("content"), binary("order"), text("row_id", true), text("origin", true)];
    Arc::new(Schema::new(head.into_iter().chain(names.map(|name| text(name, true))).collect::<Vec<_>>()))
}

/// Columns of the file of invalid records.
pub(crate) fn invalid<'a>(names: impl Iterator<Item = &'a str>) -> SchemaRef {
    let head =
        [text("origin", false), text("key", true), text("code", false), text("column", true), text("reason", false)];
    Arc::new(Schema::new(head.into_iter().chain(names.map(|name| text(name, true))).collect::<Vec<_>>()))
}

/// The name of the file with this content.
pub(crate) fn file_name(content: PlanContent) -> &'static str {
    match content {
        PlanContent::Changes(Operation::Create) => "creates.parquet",
        PlanContent::Changes(Operation::Update) => "updates.parquet",
        PlanContent::Changes(Operation::Delete) => "deletes.parquet",
        PlanContent::Invalid => "invalid.parquet",
        PlanContent::Confirmed => "confirmed.parquet",
        PlanContent::Absent => "absent.parquet",
    }
}
