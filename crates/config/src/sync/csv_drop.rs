//! Decodes `csv_drop`.

use std::path::Path;

use convoke_core::spec::{CsvDropSpec, DropMode, ProcessedFiles};

use crate::field::Field;
use crate::report::Report;
use crate::scalar;

const MODES: &[(&str, DropMode)] = &[("snapshot", DropMode::Snapshot), ("append", DropMode::Append)];

const PROCESSED: &[(&str, ProcessedFiles)] = &[("move", ProcessedFiles::Move), ("keep", ProcessedFiles::Keep)];

pub(super) fn decode(block: &Field<'_>, base_dir: &Path, report: &mut Report) -> Option<CsvDropSpec> {
    let pattern = pattern(&block.field("pattern"), report);
    let done_suffix = file_name_part(&block.field("done_marker"), report);
    Some(CsvDropSpec {
        path: base_dir.join(block.field("path").text()?),
        pattern: pattern?,
        drop_mode: block.field("mode").choice(MODES)?,
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
