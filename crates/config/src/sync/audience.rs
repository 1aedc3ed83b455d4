//! Decodes `audience`.

use convoke_core::DataType;
use convoke_core::sink::KEY_COLUMN;
use convoke_core::spec::{AudienceKind, AudienceSpec};

use super::Surroundings;
use super::mapping::Mapping;
use crate::check::nearest;
use crate::connection::{self, DESTINATIONS};
use crate::field::Field;
use crate::report::Report;
use crate::shape::quoted;

const KINDS: &[(&str, AudienceKind)] = &[("CONTACT", AudienceKind::Contact), ("COMPANY", AudienceKind::Company)];

const MATCH_TYPES: &[(&str, DataType)] =
    &[("ZI_CONTACT_ID", DataType::ZiContactId), ("ZI_COMPANY_ID", DataType::ZiCompanyId)];

pub(super) fn decode(
    gtm: &Field<'_>,
    mapping: &Mapping,
    surroundings: &Surroundings<'_>,
    report: &mut Report,
) -> Option<AudienceSpec> {
    let connection = connection::reference(&gtm.field("connection"), DESTINATIONS, surroundings.connections, report);
    let kind = gtm.field("type").choice(KINDS);
    let match_criteria = match_criteria(&gtm.field("match"), mapping, kind, report);
    let match_columns = match_columns(&gtm.field("columns"), mapping, report);
    let text = |name: &str| gtm.field(name).text().map(str::to_owned);
    Some(AudienceSpec {
        connection: connection?,
        name: text("name")?,
        id: text("id"),
        kind: kind?,
        folder: text("folder"),
        description: text("description"),
        match_criteria: match_criteria?,
        match_columns: match_columns?,
    })
}

fn match_criteria(
    field: &Field<'_>,
    mapping: &Mapping,
    kind: Option<AudienceKind>,
    report: &mut Report,
) -> Option<Vec<(String, String)>> {
    let mut criteria = Vec::new();
    for (column, target) in field.entries() {
        if !mapping.has(column) {
            report.problem(target.place, &target.path, mapping.not_mapped(column));
        }
        let match_field = target.text()?;
        if let Some(kind) = kind {
            check_match_field(match_field, kind, &target, report);
        }
        criteria.push((column.to_owned(), match_field.to_owned()));
    }
    Some(criteria)
}

fn check_match_field(match_field: &str, kind: AudienceKind, target: &Field<'_>, report: &mut Report) {
    let own = kind.match_fields();
    if own.contains(&match_field) {
        return;
    }
    let shown = target.shown();
    let is_of_other_kind = AudienceKind::ALL.iter().any(|other| other.match_fields().contains(&match_field));
    let message = if is_of_other_kind {
        format!("`{shown}` does not match in a {kind} audience; known are {}", quoted(own.iter().copied()))
    } else if let Some(meant) = nearest(shown, own.iter().copied()) {
        format!("`{shown}` is not a match field; did you mean `{meant}`?")
    } else {
        format!("`{shown}` is not a match field; known are {}", quoted(own.iter().copied()))
    };
    report.problem(target.place, &target.path, message);
}

fn match_columns(field: &Field<'_>, mapping: &Mapping, report: &mut Report) -> Option<Vec<(String, DataType)>> {
    let mut columns: Vec<(String, DataType)> = Vec::new();
    for (name, column) in field.entries() {
        let folded = name.to_lowercase();
        let is_taken = columns.iter().any(|(earlier, _)| earlier.to_lowercase() == folded)
            || mapping.columns.iter().any(|mapped| mapped.spec.name.to_lowercase() == folded);
        if is_taken {
            report.problem(column.place, &column.path, "another column has this name; choose another");
        }
        if folded == KEY_COLUMN {
            let message = format!("`{KEY_COLUMN}` is kept for Convoke's own key; choose another name");
            report.problem(column.place, &column.path, message);
        }
        columns.push((name.to_owned(), column.field("match").choice(MATCH_TYPES)?));
    }
    Some(columns)
}
