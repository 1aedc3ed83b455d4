//! Decodes one file of `syncs/`, and checks what the table of keys cannot say.

mod after;
mod audience;
mod csv_drop;
mod dedupe;
mod guards;
mod mapping;
mod objects;
mod relation;
mod schedule;
mod source;
mod suppression;

use std::path::{Path, PathBuf};

use convoke_core::SyncName;
use convoke_core::spec::{
    AudienceSpec, CsvDropSpec, Dedupe, DropPlace, ObjectsMode, ProcessedFiles, RemovedRows, SourceSpec, SyncMode,
    SyncSpec,
};

use crate::connection::Connections;
use crate::field::Field;
use crate::report::Report;
use crate::yaml::Place;

use mapping::Mapping;

/// What a sync is checked against besides its own file.
pub(crate) struct Surroundings<'a> {
    pub(crate) file: &'a Path,
    pub(crate) base_dir: &'a Path,
    pub(crate) connections: &'a Connections,
}

/// A decoded sync, with the places that problems between syncs are about.
pub(crate) struct Draft {
    pub(crate) spec: SyncSpec,
    audience_place: Place,
    folder_place: Place,
}

/// The syncs' files with what became of each.
pub(crate) type Drafts = Vec<(PathBuf, Option<Draft>, Report)>;

const MODES: &[(&str, SyncMode)] = &[
    ("upsert", SyncMode::Upsert),
    ("mirror", SyncMode::Mirror),
    ("insert_only", SyncMode::InsertOnly),
    ("update_only", SyncMode::UpdateOnly),
    ("delete_list", SyncMode::DeleteList),
];

const REMOVED_ROWS: &[(&str, RemovedRows)] = &[("respect", RemovedRows::Respect), ("restore", RemovedRows::Restore)];

/// Decodes a checked sync; none if anything about it was refused. Goes on after a problem to find all of them.
pub(crate) fn decode(root: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<Draft> {
    let name = name(&root.field("sync"), surroundings.file, report);
    let source_field = root.field("source");
    let source = source::decode(&source_field, surroundings, report);
    let described = (source::key_of(&source_field), source.as_ref());
    let filter = mapping::filter(&root.field("where"), report);
    let deleted = mapping::filter(&root.field("deleted"), report);
    let mapping = mapping::columns(&root.field("map"), report);
    let key = mapping::key(&root.field("key"), &mapping, report);
    let dedupe_field = root.field("dedupe");
    let dedupe = dedupe::decode(&dedupe_field, report);
    let audience = audience::decode(&root.field("audience").field("gtm"), &mapping, surroundings, report);
    let guards = guards::decode(&root.field("guards"), report);
    let subject = suppression::Subject { mapping: &mapping, key: key.as_deref(), base_dir: surroundings.base_dir };
    let suppressions = suppression::decode(&root.field("suppress"), &subject, report);
    let schedule = schedule::decode(&root.field("schedule"), report);
    let arrival = schedule::decode_arrival(&root.field("schedule"), source.as_ref(), report);
    let mode_field = root.field("mode");
    let mode = mode_field.choice(MODES);
    let tells_deletes = root.field("deleted").is_given();
    if !tells_deletes {
        check_mode(&mode_field, mode, described, report);
    }
    check_deleted(&root.field("deleted"), mode, report);
    if mode != Some(SyncMode::DeleteList) {
        check_order(&dedupe_field, dedupe.as_ref(), described, report);
    }
    if mode == Some(SyncMode::DeleteList) {
        warn_about_unused_columns(&mapping, key.as_deref(), report);
    }
    let after = after::decode(&root.field("after"), mode, report);
    let removed_field = root.field("removed_at_destination");
    let removed = removed_field.choice(REMOVED_ROWS);
    check_restoring(&removed_field, removed, mode, report);
    let spec = SyncSpec {
        name: name?,
        source: source?,
        filter: filter?,
        deleted: deleted?,
        columns: mapping.complete()?,
        key: key?,
        dedupe: dedupe?,
        audience: audience?,
        mode: mode?,
        guards: guards?,
        suppressions: suppressions?,
        resend_for: root.field("rejects").field("resend_for").duration()?,
        shared: root.field("shared").boolean()?,
        removed_at_destination: removed?,
        after: after?,
        schedule: schedule?,
        arrival: arrival?,
    };
    let drop = source_field.field("csv_drop");
    let (path, url) = (drop.field("path"), drop.field("url"));
    let folder_place = if url.is_given() { url.place } else { path.place };
    Some(Draft { spec, audience_place: root.field("audience").place, folder_place })
}

#[cfg(test)]
pub(crate) fn default_guards(root: &Field<'_>) -> Option<convoke_core::spec::Guards> {
    guards::decode(&root.field("guards"), &mut Report::new(PathBuf::new()))
}

fn name(field: &Field<'_>, file: &Path, report: &mut Report) -> Option<SyncName> {
    let name = field.text()?;
    if file.file_stem().is_none_or(|stem| stem != name) {
        let message =
            format!("the file of this sync must be called `{}.yaml`; rename the file or the sync", field.shown());
        report.problem(field.place, &field.path, message);
    }
    Some(SyncName::new(name))
}

/// A source, with the key under which it is described.
type Described<'a> = (&'static str, Option<&'a SourceSpec>);

fn check_mode(field: &Field<'_>, mode: Option<SyncMode>, source: Described<'_>, report: &mut Report) {
    let (key, Some(source)) = source else { return };
    if mode == Some(SyncMode::Mirror) && !source.is_snapshot() {
        let remedy = match source {
            SourceSpec::Postgres(_) => {
                "`source.postgres.incremental.full_every: 7d`, or `deleted`, a sign of the source's own".to_owned()
            }
            _ => format!("`source.{key}.mode: snapshot`"),
        };
        let message = format!("`mirror` deletes what the source no longer holds, so it needs {remedy}");
        report.problem(field.place, &field.path, message);
    }
}

/// Only some modes delete, and a delete list names in any case what is deleted.
fn check_deleted(field: &Field<'_>, mode: Option<SyncMode>, report: &mut Report) {
    if let (true, Some(mode @ (SyncMode::InsertOnly | SyncMode::UpdateOnly | SyncMode::DeleteList))) =
        (field.is_given(), mode)
    {
        let message = format!(
            "deletes rows, which `mode: {}` does not do by it; use `mirror` or `upsert`, or `where`",
            mode.as_str()
        );
        report.problem(field.place, &field.path, message);
    }
}

fn check_restoring(field: &Field<'_>, removed: Option<RemovedRows>, mode: Option<SyncMode>, report: &mut Report) {
    let creates_nothing = matches!(mode, Some(SyncMode::UpdateOnly | SyncMode::DeleteList));
    if removed == Some(RemovedRows::Restore) && creates_nothing {
        let mode = mode.map_or("", SyncMode::as_str);
        let message = format!("`restore` creates rows again, and `mode: {mode}` creates none; leave it out");
        report.problem(field.place, &field.path, message);
    }
}

/// A list of deletes is carried out in whatever order it comes; all else needs to know what is newer.
fn check_order(field: &Field<'_>, dedupe: Option<&Dedupe>, source: Described<'_>, report: &mut Report) {
    let (Some(dedupe), (key, Some(SourceSpec::Objects(objects)))) = (dedupe, source) else { return };
    if objects.mode == ObjectsMode::Append && dedupe.by.is_empty() {
        let message = format!(
            "is missing; with `source.{key}.mode: append` objects are read again after a failure or a change of the \
             configuration, in whatever order they lie, so something must tell older values from newer ones; set \
             `dedupe: {{ by: … }}` to a column that grows with each change"
        );
        report.problem(field.place, &field.field("by").path, message);
    }
}

fn warn_about_unused_columns(mapping: &Mapping, key: Option<&[String]>, report: &mut Report) {
    let Some(key) = key else { return };
    for column in mapping.columns.iter().filter(|column| !key.contains(&column.spec.name)) {
        let message = "is not used: a `delete_list` finds rows by their key alone";
        report.warning(column.place, &column.path, message);
    }
}

/// Reports syncs that write one audience without all of them saying `shared: true`.
pub(crate) fn check_sharing(drafts: &mut Drafts) {
    let wants_it_alone = |draft: &Draft| !draft.spec.shared;
    let is_same = |one: &Draft, other: &Draft| is_same_audience(&one.spec.audience, &other.spec.audience);
    for (index, other) in conflicts(drafts, wants_it_alone, is_same) {
        let (_, Some(draft), report) = &mut drafts[index] else { continue };
        let message =
            format!("sync `{other}` writes the same audience; name another, or set `shared: true` in both files");
        report.problem(draft.audience_place, "audience", message);
    }
}

/// Reports syncs that move files away which another sync reads too: it would never get them, and not know.
pub(crate) fn check_drop_folders(drafts: &mut Drafts) {
    let moves = |draft: &Draft| match &draft.spec.source {
        SourceSpec::CsvDrop(drop) => drop.processed == ProcessedFiles::Move,
        SourceSpec::Objects(_) | SourceSpec::Postgres(_) | SourceSpec::Retired => false,
    };
    let is_same = |one: &Draft, other: &Draft| match (&one.spec.source, &other.spec.source) {
        (SourceSpec::CsvDrop(one), SourceSpec::CsvDrop(other)) => {
            one.place == other.place && one.pattern == other.pattern
        }
        _ => false,
    };
    for (index, other) in conflicts(drafts, moves, is_same) {
        let (_, Some(draft), report) = &mut drafts[index] else { continue };
        let message = format!(
            "sync `{other}` reads the same files, and this one would move them away from it; set `processed: keep` in both files, or give each its own folder or `pattern`"
        );
        let key = match &draft.spec.source {
            SourceSpec::CsvDrop(CsvDropSpec { place: DropPlace::Prefix { .. }, .. }) => "source.csv_drop.url",
            _ => "source.csv_drop.path",
        };
        report.problem(draft.folder_place, key, message);
    }
}

/// The drafts that claim something for themselves alone which another draft has too, each with the first such other.
fn conflicts(
    drafts: &Drafts,
    claims: impl Fn(&Draft) -> bool,
    is_same: impl Fn(&Draft, &Draft) -> bool,
) -> Vec<(usize, SyncName)> {
    let decoded = || drafts.iter().enumerate().filter_map(|(index, (_, draft, _))| Some((index, draft.as_ref()?)));
    let conflict = |(index, draft): (usize, &Draft)| {
        let mut others = decoded().filter(|(other_index, _)| *other_index != index);
        let (_, other) = others.find(|(_, other)| is_same(draft, other))?;
        Some((index, other.spec.name.clone()))
    };
    decoded().filter(|(_, draft)| claims(draft)).filter_map(conflict).collect()
}

fn is_same_audience(one: &AudienceSpec, other: &AudienceSpec) -> bool {
    let same_target = match (&one.id, &other.id) {
        (Some(id), Some(other_id)) => id == other_id,
        _ => one.name == other.name,
    };
    one.connection == other.connection && same_target
}
