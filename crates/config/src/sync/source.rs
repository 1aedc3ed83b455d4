//! Decodes `source`.

use convoke_core::spec::SourceSpec;

use super::{Surroundings, csv_drop, objects, relation};
use crate::field::Field;
use crate::report::Report;

pub(super) fn decode(source: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<SourceSpec> {
    let (drop, objects_block, postgres) =
        (source.field("csv_drop"), source.field("s3_parquet"), source.field("postgres"));
    if drop.is_given() {
        return csv_drop::decode(&drop, surroundings.base_dir, report).map(SourceSpec::CsvDrop);
    }
    if objects_block.is_given() {
        return objects::decode(&objects_block, surroundings, report).map(SourceSpec::Objects);
    }
    if postgres.is_given() {
        return relation::decode(&postgres, surroundings, report).map(SourceSpec::Postgres);
    }
    None
}

/// The key under which a source is described.
pub(super) fn key_of(source: &SourceSpec) -> &'static str {
    match source {
        SourceSpec::CsvDrop(_) => "csv_drop",
        SourceSpec::Objects(_) => "s3_parquet",
        SourceSpec::Postgres(_) => "postgres",
        SourceSpec::Retired => "retired",
    }
}
