//! Decodes `where`, `map` and `key`.

use convoke_core::DataType;
use convoke_core::sink::KEY_COLUMN;
use convoke_core::spec::{ColumnSpec, Expression, Filter};

use crate::check::nearest;
use crate::field::Field;
use crate::report::Report;
use crate::shape::quoted;
use crate::yaml::{Node, Place, Value, join};

/// The mapped columns as far as they were understood.
pub(super) struct Mapping {
    pub(super) columns: Vec<MappedColumn>,
    /// Every name that the user gave, also of columns that were refused.
    names: Vec<String>,
}

pub(super) struct MappedColumn {
    pub(super) spec: ColumnSpec,
    pub(super) place: Place,
    pub(super) path: String,
}

impl Mapping {
    /// All columns; none if one was refused.
    pub(super) fn complete(self) -> Option<Vec<ColumnSpec>> {
        let is_complete = !self.names.is_empty() && self.columns.len() == self.names.len();
        is_complete.then(|| self.columns.into_iter().map(|column| column.spec).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Says that a column is not mapped, with the nearest that is.
    pub(super) fn not_mapped(&self, name: &str) -> String {
        let names = || self.names.iter().map(String::as_str);
        match nearest(name, names()) {
            Some(meant) => format!("`{name}` is not a mapped column; did you mean `{meant}`?"),
            None if self.names.is_empty() => format!("`{name}` is not a mapped column; add it to `map`"),
            None => format!("`{name}` is not a mapped column; mapped are {}", quoted(names())),
        }
    }
}

pub(super) fn columns(map: &Field<'_>, report: &mut Report) -> Mapping {
    let mut mapping = Mapping { columns: Vec::new(), names: Vec::new() };
    for (name, field) in map.entries() {
        let is_refused = refuse_name(name, &field, &mapping, report);
        mapping.names.push(name.to_owned());
        let expression = expression(&field, report);
        let data_type = field.field("type").text().and_then(|word| word.parse::<DataType>().ok());
        let (false, Some(expression), Some(data_type)) = (is_refused, expression, data_type) else { continue };
        let spec = ColumnSpec { name: name.to_owned(), expression, data_type };
        mapping.columns.push(MappedColumn { spec, place: field.place, path: field.path });
    }
    if map.is_given() && mapping.names.is_empty() {
        report.problem(map.place, &map.path, "is empty; map at least one column");
    }
    mapping
}

fn refuse_name(name: &str, field: &Field<'_>, mapping: &Mapping, report: &mut Report) -> bool {
    if name.trim() != name {
        report.problem(field.place, &field.path, "the column's name begins or ends with a space; remove it");
        return true;
    }
    if name.eq_ignore_ascii_case(KEY_COLUMN) {
        report.problem(
            field.place,
            &field.path,
            format!("`{KEY_COLUMN}` is kept for Convoke's own key; choose another name"),
        );
        return true;
    }
    let folded = name.to_lowercase();
    let twin = mapping.names.iter().find(|earlier| earlier.to_lowercase() == folded);
    if let Some(twin) = twin {
        let message = format!("differs from column `{twin}` in case only; choose another name");
        report.problem(field.place, &field.path, message);
    }
    twin.is_some()
}

/// Reads `column`, `{ column: … }` or `{ sql: … }`.
pub(super) fn expression(field: &Field<'_>, report: &mut Report) -> Option<Expression> {
    let node = field.given()?;
    if matches!(node.value, Value::Scalar(_)) {
        return field.text().map(|column| Expression::Column(column.to_owned()));
    }
    let Value::Map(_) = node.value else { return None };
    let (column, sql) = (field.field("column"), field.field("sql"));
    match (column.is_given(), sql.is_given()) {
        (true, false) => column.text().map(|column| Expression::Column(column.to_owned())),
        (false, true) => sql.text().map(|sql| Expression::Sql(sql.to_owned())),
        (true, true) => {
            report.problem(sql.place, &sql.path, "give either `column` or `sql`, not both");
            None
        }
        (false, false) => {
            report.problem(
                field.place,
                &field.path,
                "says nothing about where the value comes from; give `column` or `sql`",
            );
            None
        }
    }
}

pub(super) fn key(field: &Field<'_>, mapping: &Mapping, report: &mut Report) -> Option<Vec<String>> {
    let mut key: Vec<String> = Vec::new();
    for item in field.items() {
        let Some(name) = item.text() else { continue };
        if key.iter().any(|earlier| earlier == name) {
            report.problem(item.place, &item.path, format!("`{}` stands in the key twice", item.shown()));
        }
        if !mapping.has(name) {
            report.problem(item.place, &item.path, mapping.not_mapped(item.shown()));
        }
        key.push(name.to_owned());
    }
    (!key.is_empty()).then_some(key)
}

/// The filter; the outer `None` means that it was refused.
pub(super) fn filter(field: &Field<'_>, report: &mut Report) -> Option<Option<Filter>> {
    let Some(node) = field.given() else { return Some(None) };
    if node.get("sql").is_some() {
        return field.field("sql").text().map(|sql| Some(Filter::Sql(sql.to_owned())));
    }
    let Value::Map(_) = node.value else { return None };
    match convoke_rules::parse::yaml(&node.to_json()) {
        Ok(rule) => Some(Some(Filter::Rule(rule))),
        Err(problems) => {
            for problem in problems {
                let (place, path) = locate(node, &field.path, &problem.path);
                report.problem(place, &path, problem.message);
            }
            None
        }
    }
}

/// Finds the place in a tree that a path leads to, or the nearest around it.
fn locate(root: &Node, root_path: &str, steps: &[String]) -> (Place, String) {
    let (mut node, mut place, mut path) = (Some(root), root.place, root_path.to_owned());
    for step in steps {
        let next = match node.map(|node| &node.value) {
            Some(Value::List(items)) => {
                path = format!("{path}[{step}]");
                step.parse::<usize>().ok().and_then(|index| items.get(index))
            }
            Some(Value::Map(entries)) => {
                path = join(&path, step);
                let entry = entries.iter().find(|entry| entry.key == *step);
                place = entry.map_or(place, |entry| entry.key_place);
                entry.map(|entry| &entry.value)
            }
            _ => None,
        };
        if let Some(Node { value: Value::Scalar(_) | Value::Null, .. }) | None = next {
            break;
        }
        node = next;
        place = next.map_or(place, |node| node.place);
    }
    (place, path)
}
