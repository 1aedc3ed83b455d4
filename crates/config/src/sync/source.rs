//! Decodes `source`.

use std::path::Path;

use convoke_core::spec::{CsvDropSpec, DropMode, ObjectsMode, ObjectsSpec, ProcessedFiles, SourceSpec};

use super::{Surroundings, relation};
use crate::connection;
use crate::field::Field;
use crate::object_url::{self, Names};
use crate::report::Report;
use crate::scalar;

const DROP_MODES: &[(&str, DropMode)] = &[("snapshot", DropMode::Snapshot), ("append", DropMode::Append)];

const PROCESSED: &[(&str, ProcessedFiles)] = &[("move", ProcessedFiles::Move), ("keep", ProcessedFiles::Keep)];

const OBJECTS_MODES: &[(&str, ObjectsMode)] = &[("snapshot", ObjectsMode::Snapshot), ("append", ObjectsMode::Append)];

pub(super) fn decode(source: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<SourceSpec> {
    let (drop, objects_block, postgres) =
        (source.field("csv_drop"), source.field("s3_parquet"), source.field("postgres"));
    if drop.is_given() {
        return csv_drop(&drop, surroundings.base_dir, report).map(SourceSpec::CsvDrop);
    }
    if objects_block.is_given() {
        return objects(&objects_block, surroundings, report).map(SourceSpec::Objects);
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

fn objects(block: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<ObjectsSpec> {
    let url = object_url::decode(&block.field("url"), Names::Objects, surroundings.base_dir, report);
    let named = block.field("connection");
    let connection = connection::object_store(&named, url.as_ref(), surroundings.connections, report);
    Some(ObjectsSpec {
        url: url?.text,
        mode: block.field("mode").choice(OBJECTS_MODES)?,
        hive_partitions: block.field("hive_partitions").boolean()?,
        connection: connection?,
    })
}

fn csv_drop(block: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<CsvDropSpec> {
    let pattern = pattern(&block.field("pattern"), report);
    let done_suffix = file_name_part(&block.field("done_marker"), report);
    Some(CsvDropSpec {
        path: base_dir.join(block.field("path").text()?),
        pattern: pattern?,
        drop_mode: block.field("mode").choice(DROP_MODES)?,
        settle: block.field("settle").duration()?,
        done_suffix,
        processed: block.field("processed").choice(PROCESSED)?,
        delimiter: block.field("delimiter").text().and_then(scalar::delimiter)?,
        aliases: aliases(&block.field("aliases"), report),
        max_malformed: block.field("max_malformed").percent()? / 100.0,
    })
}

fn pattern(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let pattern = file_name_part(field, report)?;
    if let Err(error) = glob::Pattern::new(&pattern) {
        report.problem(
            field.place,
            &field.path,
            format!("is not a file name pattern: {}; write for example `*.csv`", error.msg),
        );
    }
    Some(pattern)
}

/// A text that stands within a file name, so it cannot hold a separator.
fn file_name_part(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.text()?;
    if text.contains(['/', '\\']) {
        report.problem(field.place, &field.path, "is about names of files in the folder; it cannot hold `/` or `\\`");
    }
    Some(text.to_owned())
}

fn aliases(field: &Field<'_>, report: &mut Report) -> Vec<(String, String)> {
    let entries = field.entries();
    for (spelling, name) in &entries {
        if name.text() == Some(spelling) {
            report.problem(name.place, &name.path, "stands for itself; remove it");
        }
    }
    entries.iter().filter_map(|(spelling, name)| Some(((*spelling).to_owned(), name.text()?.to_owned()))).collect()
}
