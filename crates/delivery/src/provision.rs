//! Finds or makes what rows need before they can be sent: folder, audience, columns, match criteria.
//!
//! Names are not unique at the destination and making a thing is not idempotent, so every step is journalled first,
//! and a step whose answer was lost is surveyed again before it is taken once more. What was made is known by the id
//! that the answer told, where it told one. [`next_step`] decides and is pure; [`ensure`] does.

mod setup;
#[cfg(test)]
mod tests;

use convoke_core::ids::AudienceKey;
use convoke_core::sink::{
    AudienceBinding, AudienceTarget, BoundColumn, KEY_COLUMN, NewColumn, Provision, RemoteAudience, RemoteColumn,
    RemoteFolder, Survey,
};
use convoke_core::{DataType, SinkError, StateError};
use thiserror::Error;

pub use setup::{SetupPorts, ensure};

/// What stands between a survey and a ready audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make this, then survey again.
    Make(Provision),
    /// Nothing is missing.
    Ready(AudienceBinding),
}

/// Why an audience cannot be used as it is; all of these are the user's to solve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetupProblem {
    #[error("{count} folders are named `{name}`; rename one of them")]
    ManyFolders { name: String, count: usize },
    #[error("{count} audiences are named `{name}` ({ids}); set `id` under `audience` to the one that is meant")]
    ManyAudiences { name: String, count: usize, ids: String },
    #[error("audience `{name}` ({id}) was deleted at the destination; restore it, or give the sync another audience")]
    AudienceGone { name: String, id: String },
    #[error("audience `{name}` is of type {found}, and the sync wants {wanted}; name another audience")]
    WrongKind { name: String, id: String, found: String, wanted: String },
    #[error(
        "column `{column}` of audience `{audience}` has type {found}, and the mapping wants {wanted}; map it under another name"
    )]
    WrongColumnType { audience: String, column: String, found: String, wanted: String },
    #[error("audience `{audience}` has {count} columns named `{column}`; rename one of them")]
    ManyColumns { audience: String, column: String, count: usize },
    #[error(
        "column `{column}` of audience `{audience}` is of kind {found} and cannot be written; map it under another name"
    )]
    NotWritable { audience: String, column: String, found: String },
    #[error("audience `{audience}` has no column `{column}` to match by; map a column of that name")]
    UnknownColumn { audience: String, column: String },
    #[error("the destination does not take {what}: {reason}; change in the configuration what it refuses")]
    Refused { what: String, reason: String },
}

/// Why an audience could not be made ready.
#[derive(Debug, Error)]
pub enum ProvisionError {
    #[error(transparent)]
    Problem(#[from] SetupProblem),
    #[error("could not set up audience `{audience}`")]
    Sink {
        audience: String,
        #[source]
        source: SinkError,
    },
    #[error("could not note the set-up of audience `{audience}`")]
    State {
        audience: String,
        #[source]
        source: StateError,
    },
    #[error("gave up making {what} after {attempts} attempts: {reason}")]
    GaveUp { what: String, attempts: u32, reason: String },
    #[error("interrupted while setting up audience `{audience}`")]
    Interrupted { audience: String },
}

/// Kind of a column that we fill.
const CUSTOM: &str = "CUSTOM";

/// Decides what is to be done next, from what exists.
///
/// `known_id` is the id the sync is bound to, if any: an audience's identity is its id, whatever its name is now.
pub fn next_step(target: &AudienceTarget, survey: &Survey, known_id: Option<&str>) -> Result<Step, SetupProblem> {
    let Some(audience) = existing_audience(target, survey, known_id)? else {
        return Ok(Step::Make(match existing_folder(target, survey)? {
            None => Provision::Folder { name: folder_name(target).to_owned() },
            Some(folder) => new_audience(target, &folder.id),
        }));
    };
    let missing = missing_columns(target, audience, survey)?;
    if !missing.is_empty() {
        return Ok(Step::Make(Provision::Columns { audience_id: audience.id.clone(), columns: missing }));
    }
    let columns = Columns { audience, survey };
    let key_column = columns.named(KEY_COLUMN)?.ok_or_else(|| columns.gone(KEY_COLUMN))?;
    if !key_column.hidden {
        let column_id = key_column.id.clone();
        return Ok(Step::Make(Provision::HideColumn { audience_id: audience.id.clone(), column_id }));
    }
    let criteria = wanted_criteria(target, &columns)?;
    if !criteria.is_empty() && !has_criteria(survey, &criteria) {
        return Ok(Step::Make(Provision::MatchCriteria { audience_id: audience.id.clone(), criteria }));
    }
    Ok(Step::Ready(AudienceBinding {
        key: AudienceKey { connection: target.spec.connection.clone(), audience_id: audience.id.clone() },
        name: audience.name.clone(),
        columns: bound_columns(target, &columns)?,
        key_column_id: key_column.id.clone(),
        key_look_up: survey.key_look_up,
    }))
}

/// Whether something that this provision makes is still missing, going by the step that is next.
///
/// An audience comes with columns, and columns are made together: where only some show yet, the others are on their way.
fn lacks(step: &Step, provision: &Provision) -> bool {
    let Step::Make(next) = step else { return false };
    match (next, provision) {
        (Provision::Folder { .. }, Provision::Folder { .. }) => true,
        (
            Provision::Folder { .. } | Provision::Audience { .. },
            Provision::Audience { .. } | Provision::Columns { .. },
        ) => true,
        (
            Provision::Columns { columns: missing, .. },
            Provision::Audience { columns: made, .. } | Provision::Columns { columns: made, .. },
        ) => made.iter().any(|made| missing.iter().any(|missing| missing.name == made.name)),
        _ => next == provision,
    }
}

/// Says in words what [`ensure`] would make, for plans; empty: nothing.
pub fn outlook(target: &AudienceTarget, survey: &Survey, known_id: Option<&str>) -> Result<Vec<String>, SetupProblem> {
    let mut words = Vec::new();
    let Some(audience) = existing_audience(target, survey, known_id)? else {
        if existing_folder(target, survey)?.is_none() {
            words.push(format!("make folder `{}`", folder_name(target)));
        }
        let kind = target.spec.kind.as_str();
        let columns = names_of(target.columns.iter().map(|(name, _)| name.as_str()));
        words.push(format!("make audience `{}` of type {kind} with columns {columns}", target.spec.name));
        words.push(format!("add hidden column `{KEY_COLUMN}`"));
        for (name, data_type) in &target.spec.match_columns {
            words.push(format!("add column `{name}` ({data_type}), filled by matching"));
        }
        if !target.spec.match_criteria.is_empty() {
            words.push(criteria_in_words(target));
        }
        return Ok(words);
    };
    for column in missing_columns(target, audience, survey)? {
        words.push(format!("add column `{}` ({}) to audience `{}`", column.name, column.data_type, audience.name));
    }
    let columns = Columns { audience, survey };
    if columns.named(KEY_COLUMN)?.is_none_or(|column| !column.hidden) {
        words.push(format!("hide column `{KEY_COLUMN}`"));
    }
    let is_met = wanted_criteria(target, &columns).is_ok_and(|criteria| has_criteria(survey, &criteria));
    if !target.spec.match_criteria.is_empty() && !is_met {
        words.push(criteria_in_words(target));
    }
    Ok(words)
}

fn criteria_in_words(target: &AudienceTarget) -> String {
    let pairs: Vec<String> =
        target.spec.match_criteria.iter().map(|(column, field)| format!("`{column}` as {field}")).collect();
    format!("match by {}", pairs.join(", "))
}

fn names_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn folder_name(target: &AudienceTarget) -> &str {
    target.spec.folder.as_deref().unwrap_or(&target.spec.name)
}

fn existing_folder<'a>(target: &AudienceTarget, survey: &'a Survey) -> Result<Option<&'a RemoteFolder>, SetupProblem> {
    match &survey.folders[..] {
        [] => Ok(None),
        [folder] => Ok(Some(folder)),
        many => Err(SetupProblem::ManyFolders { name: folder_name(target).to_owned(), count: many.len() }),
    }
}

fn existing_audience<'a>(
    target: &AudienceTarget,
    survey: &'a Survey,
    known_id: Option<&str>,
) -> Result<Option<&'a RemoteAudience>, SetupProblem> {
    let name = || target.spec.name.clone();
    let wanted_id = target.spec.id.as_deref().or(known_id);
    let audience = match (wanted_id, &survey.audiences[..]) {
        (Some(id), audiences) => {
            let hit = audiences.iter().find(|audience| audience.id == id);
            hit.ok_or_else(|| SetupProblem::AudienceGone { name: name(), id: id.to_owned() })?
        }
        (None, []) => return Ok(None),
        (None, [audience]) => audience,
        (None, many) => {
            let ids: Vec<&str> = many.iter().map(|audience| audience.id.as_str()).collect();
            return Err(SetupProblem::ManyAudiences { name: name(), count: many.len(), ids: ids.join(", ") });
        }
    };
    let wanted = target.spec.kind.as_str();
    if audience.kind != wanted {
        let (id, found) = (audience.id.clone(), audience.kind.clone());
        return Err(SetupProblem::WrongKind { name: audience.name.clone(), id, found, wanted: wanted.to_owned() });
    }
    Ok(Some(audience))
}

fn new_audience(target: &AudienceTarget, folder_id: &str) -> Provision {
    Provision::Audience {
        name: target.spec.name.clone(),
        kind: target.spec.kind.as_str().to_owned(),
        folder_id: folder_id.to_owned(),
        description: target.spec.description.clone(),
        columns: written_columns(target).collect(),
    }
}

/// Columns that we fill: the mapped ones and our key.
fn written_columns(target: &AudienceTarget) -> impl Iterator<Item = NewColumn> {
    let mapped = target.columns.iter().map(|(name, data_type)| (name.as_str(), *data_type));
    mapped.chain([(KEY_COLUMN, DataType::Text)]).map(|(name, data_type)| NewColumn {
        name: name.to_owned(),
        data_type,
        is_match: false,
    })
}

fn missing_columns(
    target: &AudienceTarget,
    audience: &RemoteAudience,
    survey: &Survey,
) -> Result<Vec<NewColumn>, SetupProblem> {
    let columns = Columns { audience, survey };
    let matched = target.spec.match_columns.iter().map(|(name, data_type)| NewColumn {
        name: name.clone(),
        data_type: *data_type,
        is_match: true,
    });
    let mut missing = Vec::new();
    for wanted in written_columns(target).chain(matched) {
        match columns.named(&wanted.name)? {
            None => missing.push(wanted),
            Some(found) => columns.check(&wanted, found)?,
        }
    }
    Ok(missing)
}

/// The columns of an audience that exists.
struct Columns<'a> {
    audience: &'a RemoteAudience,
    survey: &'a Survey,
}

impl<'a> Columns<'a> {
    fn named(&self, name: &str) -> Result<Option<&'a RemoteColumn>, SetupProblem> {
        let mut hits = self.survey.columns.iter().filter(|column| column.name == name);
        let first = hits.next();
        match hits.count() {
            0 => Ok(first),
            others => Err(SetupProblem::ManyColumns {
                audience: self.audience.name.clone(),
                column: name.to_owned(),
                count: others + 1,
            }),
        }
    }

    fn check(&self, wanted: &NewColumn, found: &RemoteColumn) -> Result<(), SetupProblem> {
        let (audience, column) = (self.audience.name.clone(), wanted.name.clone());
        if found.data_type != wanted.data_type.as_str() {
            let (found, wanted) = (found.data_type.clone(), wanted.data_type.to_string());
            return Err(SetupProblem::WrongColumnType { audience, column, found, wanted });
        }
        if !wanted.is_match && found.column_type != CUSTOM {
            return Err(SetupProblem::NotWritable { audience, column, found: found.column_type.clone() });
        }
        Ok(())
    }

    fn gone(&self, name: &str) -> SetupProblem {
        SetupProblem::UnknownColumn { audience: self.audience.name.clone(), column: name.to_owned() }
    }

    fn id_of(&self, name: &str) -> Result<String, SetupProblem> {
        Ok(self.named(name)?.ok_or_else(|| self.gone(name))?.id.clone())
    }
}

fn bound_columns(target: &AudienceTarget, columns: &Columns<'_>) -> Result<Vec<BoundColumn>, SetupProblem> {
    let bound = target.columns.iter().map(|(name, data_type)| {
        Ok(BoundColumn { id: columns.id_of(name)?, name: name.clone(), data_type: *data_type })
    });
    bound.collect()
}

fn wanted_criteria(target: &AudienceTarget, columns: &Columns<'_>) -> Result<Vec<(String, String)>, SetupProblem> {
    let criteria = &target.spec.match_criteria;
    criteria.iter().map(|(column, field)| Ok((columns.id_of(column)?, field.clone()))).collect()
}

/// Whether a match column has exactly these criteria, in any order.
fn has_criteria(survey: &Survey, wanted: &[(String, String)]) -> bool {
    survey.columns.iter().any(|column| {
        let found = &column.match_criteria;
        found.len() == wanted.len() && wanted.iter().all(|pair| found.contains(pair))
    })
}
