//! Holds a file's tree against the table of keys, and reports every difference.

use std::net::SocketAddr;

use crate::report::Report;
use crate::scalar;
use crate::shape::{Key, MapKey, Presence, Shape, built, quoted};
use crate::yaml::{Entry, Node, Scalar, Value, join};

/// The nearest known name, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Jaro-Winkler similarity under which a suggestion would puzzle more than help.
    const NEAR: f64 = 0.8;
    let scored =
        known.map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate));
    scored
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|(one, _), (two, _)| one.total_cmp(two))
        .map(|(_, candidate)| candidate)
}

/// Reports what does not fit `shape`.
pub(crate) fn check(node: &Node, shape: &Shape, path: &str, report: &mut Report) {
    if node.is_null() {
        report.problem(node.place, path, format!("has no value; remove the key, or give {}", shape.expected()));
        return;
    }
    match (shape, &node.value) {
        (Shape::Object(keys), Value::Map(entries)) => check_object(node, keys, entries, path, report),
        (Shape::OneOf(keys), Value::Map(entries)) => check_one_of(node, keys, entries, path, report),
        (Shape::Map { key, value }, Value::Map(entries)) => check_map(*key, value, entries, path, report),
        (Shape::OneOrMany(shape), Value::List(items)) => check_list(node, shape, items, path, report),
        (Shape::OneOrMany(shape), _) => check(node, shape, path, report),
        (Shape::ScalarOrObject { object, .. }, Value::Map(entries)) => {
            check_object(node, object, entries, path, report)
        }
        (Shape::ScalarOrObject { scalar: wanted, .. }, Value::Scalar(scalar)) => {
            if let Some(message) = refuse_scalar(wanted, &shape.expected(), scalar) {
                report.problem(node.place, path, message);
            }
        }
        (Shape::Filter(keys), Value::Map(entries)) => {
            // A rule is checked by its own parser.
            if node.get("sql").is_some() {
                check_object(node, keys, entries, path, report);
            }
        }
        (shape, Value::Scalar(scalar)) if is_scalar(shape) => {
            if let Some(message) = refuse_scalar(shape, &shape.expected(), scalar) {
                report.problem(node.place, path, message);
            }
        }
        _ => report.problem(node.place, path, format!("expected {}, not {}", shape.expected(), node.kind())),
    }
}

fn is_scalar(shape: &Shape) -> bool {
    !matches!(
        shape,
        Shape::Object(_) | Shape::OneOf(_) | Shape::Map { .. } | Shape::ScalarOrObject { .. } | Shape::Filter(_)
    )
}

fn check_object(node: &Node, keys: &'static [Key], entries: &[Entry], path: &str, report: &mut Report) {
    check_entries(keys, entries, path, report);
    for key in keys.iter().filter(|key| key.presence == Presence::Required) {
        if node.get(key.name).is_none() {
            let message = format!("is missing; give {}", key.shape.expected());
            report.problem(node.place, &join(path, key.name), message);
        }
    }
}

fn check_entries(keys: &'static [Key], entries: &[Entry], path: &str, report: &mut Report) {
    for entry in entries {
        let entry_path = join(path, &entry.key);
        match keys.iter().find(|key| key.name == entry.key) {
            Some(key) if key.is_planned() => {
                let message = format!("`{}` is not built yet; remove it", key.name);
                report.problem(entry.key_place, &entry_path, message);
            }
            Some(key) => check(&entry.value, &key.shape, &entry_path, report),
            None => report.problem(entry.key_place, &entry_path, unknown_key(&entry.key, keys)),
        }
    }
}

fn unknown_key(name: &str, keys: &'static [Key]) -> String {
    let known = built(keys).map(|key| key.name);
    match nearest(name, known.clone()) {
        Some(meant) => format!("unknown key; did you mean `{meant}`?"),
        None => format!("unknown key; known here: {}", quoted(known)),
    }
}

fn check_one_of(node: &Node, keys: &'static [Key], entries: &[Entry], path: &str, report: &mut Report) {
    check_entries(keys, entries, path, report);
    let known = || quoted(built(keys).map(|key| key.name));
    if entries.is_empty() {
        report.problem(node.place, path, format!("is empty; give one of {}", known()));
    }
    for surplus in entries.iter().skip(1) {
        let message = format!("`{}` is given already; give exactly one of {}", entries[0].key, known());
        report.problem(surplus.key_place, &join(path, &surplus.key), message);
    }
}

fn check_map(key: MapKey, value: &Shape, entries: &[Entry], path: &str, report: &mut Report) {
    for entry in entries {
        let entry_path = join(path, &entry.key);
        match key {
            MapKey::Connection if !scalar::is_name(&entry.key) => {
                report.problem(entry.key_place, &entry_path, format!("expected {}", Shape::Name.expected()));
            }
            MapKey::Text if entry.key.trim().is_empty() => {
                report.problem(entry.key_place, path, "holds an empty name; write one");
            }
            MapKey::Connection | MapKey::Text => {}
        }
        check(&entry.value, value, &entry_path, report);
    }
}

fn check_list(node: &Node, shape: &Shape, items: &[Node], path: &str, report: &mut Report) {
    if items.is_empty() {
        report.problem(node.place, path, format!("is empty; give {}", shape.expected()));
    }
    for (index, item) in items.iter().enumerate() {
        check(item, shape, &format!("{path}[{index}]"), report);
    }
}

/// Why a scalar does not fit, or none. Shows the text as it was written, and a secret not at all.
fn refuse_scalar(shape: &Shape, expected: &str, scalar: &Scalar) -> Option<String> {
    let text = scalar.text.as_str();
    if text.trim().is_empty() {
        return Some(format!("is empty; give {expected}"));
    }
    let fits = match shape {
        Shape::Boolean => scalar::boolean(text).is_some(),
        Shape::Duration => scalar::duration(text).is_some(),
        Shape::Timeout => scalar::duration(text).is_some_and(|timeout| !timeout.is_zero()),
        Shape::Size => scalar::size(text).is_some_and(|bytes| bytes > 0),
        Shape::Percent => scalar::percent(text).is_some(),
        Shape::Limit => scalar::limit(text).is_some(),
        Shape::Count { min, max } => scalar::count(text).is_some_and(|count| (*min..=*max).contains(&count)),
        Shape::Delimiter => text == scalar::DETECTED || scalar::delimiter(text).is_some(),
        Shape::Name => scalar::is_name(text),
        Shape::Choice(words) => words.contains(&text),
        Shape::Listen => text.parse::<SocketAddr>().is_ok(),
        Shape::Url => return refuse_url(text),
        _ => true,
    };
    if fits {
        return None;
    }
    let written = scalar.shown();
    if let Shape::Choice(words) = shape
        && let Some(meant) = nearest(written, words.iter().copied())
    {
        return Some(format!("expected {expected}, not `{written}`; did you mean `{meant}`?"));
    }
    Some(format!("expected {expected}, not `{written}`"))
}

/// A URL's text is never shown: it may hold credentials.
fn refuse_url(text: &str) -> Option<String> {
    let is_web = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let refused = match url::Url::parse(text) {
        Ok(url) if !is_web(&url) => "is not an `http` or `https` URL",
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "holds credentials, which do not belong in a URL"
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => "has a query or fragment",
        Ok(_) => return None,
        Err(_) => "is not a URL",
    };
    Some(format!("{refused}; expected {}", Shape::Url.expected()))
}
