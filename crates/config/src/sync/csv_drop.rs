//! Decodes `csv_drop`.

use convoke_core::spec::{CsvDropSpec, DropMode, DropPlace, ProcessedFiles};

use super::Surroundings;
use crate::connection;
use crate::field::Field;
use crate::object_url::{self, Names, Scheme};
use crate::report::Report;
use crate::scalar;

const MODES: &[(&str, DropMode)] = &[("snapshot", DropMode::Snapshot), ("append", DropMode::Append)];

const PROCESSED: &[(&str, ProcessedFiles)] = &[("move", ProcessedFiles::Move), ("keep", ProcessedFiles::Keep)];

pub(super) fn decode(block: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<CsvDropSpec> {
    let name_pattern = pattern(&block.field("pattern"), report);
    let done_suffix = file_name_part(&block.field("done_marker"), report);
    let manifest_field = block.field("manifest");
    let manifest = pattern(&manifest_field, report);
    if done_suffix.is_some() && manifest.is_some() {
        let message = "says when a file is complete, as `done_marker` does; leave one of them out";
        report.problem(manifest_field.place, &manifest_field.path, message);
    }
    if let (Some(names), Some(of_manifests)) = (&name_pattern, &manifest)
        && glob::Pattern::new(of_manifests).is_ok_and(|of_manifests| of_manifests.matches(names))
    {
        let message = "is the name of files with records, too, as `pattern` has it; give manifests a name of their own";
        report.problem(manifest_field.place, &manifest_field.path, message);
    }
    let place = place(block, surroundings, report);
    let encoding = encoding(&block.field("encoding"), report);
    let columns = columns(&block.field("columns"), report);
    Some(CsvDropSpec {
        place: place?,
        pattern: name_pattern?,
        drop_mode: block.field("mode").choice(MODES)?,
        settle: block.field("settle").duration()?,
        done_suffix,
        manifest,
        processed: block.field("processed").choice(PROCESSED)?,
        delimiter: match block.field("delimiter").text()? {
            scalar::DETECTED => None,
            given => Some(scalar::delimiter(given)?),
        },
        encoding: encoding?,
        columns,
        aliases: aliases(&block.field("aliases"), report),
        max_malformed: block.field("max_malformed").percent()? / 100.0,
    })
}

fn place(block: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<DropPlace> {
    let (path, url, named) = (block.field("path"), block.field("url"), block.field("connection"));
    match (path.is_given(), url.is_given()) {
        (true, false) => {
            if named.is_given() {
                report.problem(
                    named.place,
                    &named.path,
                    "is for a `url`, and files are dropped into a folder; remove it",
                );
            }
            let text = path.text()?;
            if text.contains('*') {
                let message = "is a folder; say by `pattern` which of its files count";
                report.problem(path.place, &path.path, message);
            }
            Some(DropPlace::Folder { path: surroundings.base_dir.join(text) })
        }
        (false, true) => {
            let decoded = object_url::decode(&url, Names::Prefix, surroundings.base_dir, report);
            if decoded.as_ref().is_some_and(|decoded| decoded.scheme == Scheme::File) {
                report.problem(url.place, &url.path, "is a folder of this machine; give it as `path`");
            }
            let takers = "`s3://`, `gs://` and `az://`";
            let connection =
                connection::object_store(&named, takers, decoded.as_ref(), surroundings.connections, report);
            Some(DropPlace::Prefix { url: decoded?.text, connection: connection? })
        }
        (true, true) => {
            report.problem(url.place, &url.path, "give either `path` or `url`, not both");
            None
        }
        (false, false) => {
            report.problem(block.place, &block.path, "does not say where files are dropped; give `path` or `url`");
            None
        }
    }
}

fn columns(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in field.items() {
        let Some(name) = item.text() else { continue };
        if names.iter().any(|earlier| earlier == name) {
            report.problem(item.place, &item.path, "names a column that is named before it; give each its own name");
        }
        names.push(name.to_owned());
    }
    names
}

/// The inner value is none if each file tells it.
fn encoding(field: &Field<'_>, report: &mut Report) -> Option<Option<String>> {
    let name = field.text()?.trim();
    if name.eq_ignore_ascii_case(scalar::DETECTED) {
        return Some(None);
    }
    let known = encoding_rs::Encoding::for_label(name.as_bytes());
    if known.is_none_or(|known| known == encoding_rs::REPLACEMENT || known == encoding_rs::X_USER_DEFINED) {
        let message =
            format!("`{}` is no encoding that is known; write for example `windows-1252`, or `auto`", field.shown());
        report.problem(field.place, &field.path, message);
    }
    Some(Some(name.to_owned()))
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

pub(super) fn aliases(field: &Field<'_>, report: &mut Report) -> Vec<(String, String)> {
    let entries = field.entries();
    for (spelling, name) in &entries {
        if name.text() == Some(spelling) {
            report.problem(name.place, &name.path, "stands for itself; remove it");
        }
    }
    entries.iter().filter_map(|(spelling, name)| Some(((*spelling).to_owned(), name.text()?.to_owned()))).collect()
}
