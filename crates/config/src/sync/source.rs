//! Decodes `source`.

use convoke_core::spec::SourceSpec;

use super::{Surroundings, csv_drop, objects, relation};
use crate::field::Field;
use crate::report::Report;

pub(super) fn decode(source: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<SourceSpec> {
    let (drop, objects_block, postgres) = (source.field("csv_drop"), source.field("objects"), source.field("postgres"));
    let parquet = source.field("s3_parquet");
    if drop.is_given() {
        return csv_drop::decode(&drop, surroundings, report).map(SourceSpec::CsvDrop);
    }
    if objects_block.is_given() {
        return objects::decode(&objects_block, surroundings, report).map(SourceSpec::Objects);
    }
    if parquet.is_given() {
        return objects::decode_parquet(&parquet, surroundings, report).map(SourceSpec::Objects);
    }
    if postgres.is_given() {
        return relation::decode(&postgres, surroundings, report).map(SourceSpec::Postgres);
    }
    None
}

/// The key under which a source is described.
pub(super) fn key_of(source: &Field<'_>) -> &'static str {
    let keys = ["csv_drop", "objects", "s3_parquet", "postgres"];
    keys.into_iter().find(|key| source.field(key).is_given()).unwrap_or("")
}
