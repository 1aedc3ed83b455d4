//! The JSON Schema of the configuration files, for editors; it follows from the table of keys.
//!
//! A schema cannot say all that the check does (key columns, names across files), so what it accepts may still be
//! refused. What it refuses is refused by the check too.

use convoke_rules::operators::{Argument, CONDITION_KEYS};
use serde_json::{Map, Value, json};

use crate::shape::{Key, MapKey, Presence, Shape, built};
use crate::yaml::{self, Node};
use crate::{defaults, keys};

/// JSON Schema (2020-12) with one definition per kind of file: `$defs/convoke`, `$defs/connections`, `$defs/sync`.
pub fn json_schema() -> Value {
    let file = |title: &str, shape: &Shape, section: &str| {
        let mut schema = of_shape(shape, defaults::section(section));
        schema.insert("title".to_owned(), title.into());
        Value::Object(schema)
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Convoke configuration",
        "anyOf": [
            { "$ref": "#/$defs/sync" },
            { "$ref": "#/$defs/connections" },
            { "$ref": "#/$defs/convoke" },
        ],
        "$defs": {
            "convoke": file("convoke.yaml: the process", &keys::CONVOKE, "convoke"),
            "connections": file("connections.yaml: destinations, object stores and databases by name", &keys::CONNECTIONS, "connections"),
            "sync": file("syncs/<name>.yaml: one sync", &keys::SYNC, "sync"),
            "reference": {
                "type": "string",
                "pattern": "\\$\\{(env|file):",
                "description": "Replaced after parsing: `${env:NAME}`, `${env:NAME:-default}`, `${file:path}`.",
            },
            "rule": rule(),
            "condition": condition(),
        },
    })
}

type Object = Map<String, Value>;

fn object(value: Value) -> Object {
    match value {
        Value::Object(members) => members,
        other => Object::from_iter([("const".to_owned(), other)]),
    }
}

fn of_shape(shape: &Shape, default: Option<&Node>) -> Object {
    match shape {
        Shape::Object(keys) => of_object(keys, default),
        Shape::OneOf(keys) => {
            let mut schema = of_object(keys, default);
            schema.insert("minProperties".to_owned(), 1.into());
            schema.insert("maxProperties".to_owned(), 1.into());
            schema
        }
        Shape::Map { key, value } => of_map(*key, value, default),
        Shape::OneOrMany(item) => {
            let item = Value::Object(of_shape(item, default));
            object(json!({ "anyOf": [item, { "type": "array", "items": item, "minItems": 1 }] }))
        }
        Shape::ScalarOrObject { scalar, object: keys } => {
            object(json!({ "anyOf": [of_shape(scalar, None), of_object(keys, default)] }))
        }
        Shape::Filter(keys) => object(json!({ "anyOf": [of_object(keys, None), { "$ref": "#/$defs/rule" }] })),
        Shape::Text | Shape::Path | Shape::Secret | Shape::Url | Shape::ObjectUrl | Shape::Listen => {
            object(json!({ "type": "string", "minLength": 1 }))
        }
        Shape::Name => pattern("^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$"),
        Shape::Boolean => or_reference(json!({ "type": "boolean" })),
        Shape::Count { min, max } => or_reference(json!({ "type": "integer", "minimum": min, "maximum": max })),
        Shape::Duration => pattern("^[0-9]+ *(ms|s|m|h|d)$"),
        Shape::Timeout => pattern("^0*[1-9][0-9]* *(ms|s|m|h|d)$"),
        Shape::Size => pattern("^0*[1-9][0-9]* *([KMGT]i?)?B$"),
        Shape::Percent => pattern(PERCENT),
        Shape::Limit => {
            let share = Value::Object(pattern(&format!("{PERCENT}|^unlimited$")));
            object(json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, share] }))
        }
        Shape::Delimiter => pattern("^([!#-/:-@\\[-`{-~\\t]|tab|auto)$"),
        Shape::Choice(words) => or_reference(json!({ "enum": words })),
    }
}

const PERCENT: &str = "^(100(\\.0*)?|[0-9]{1,2}(\\.[0-9]*)?) *%$";

fn pattern(pattern: &str) -> Object {
    or_reference(json!({ "type": "string", "pattern": pattern }))
}

fn or_reference(schema: Value) -> Object {
    object(json!({ "anyOf": [schema, { "$ref": "#/$defs/reference" }] }))
}

fn of_object(keys: &'static [Key], default: Option<&Node>) -> Object {
    let mut properties = Object::new();
    for key in built(keys) {
        let default = default.and_then(|node| node.get(key.name));
        let mut schema = of_shape(&key.shape, default);
        schema.insert("description".to_owned(), key.doc.into());
        if let Some(value @ Node { value: yaml::Value::Scalar(_), .. }) = default {
            schema.insert("default".to_owned(), value.to_json());
        }
        properties.insert(key.name.to_owned(), Value::Object(schema));
    }
    let required: Vec<&str> =
        keys.iter().filter(|key| key.presence == Presence::Required).map(|key| key.name).collect();
    object(json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false }))
}

fn of_map(key: MapKey, value: &Shape, default: Option<&Node>) -> Object {
    let default = default.and_then(Node::placeholder);
    let names = match key {
        MapKey::Connection => json!({ "pattern": "^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$" }),
        MapKey::Text => json!({ "minLength": 1 }),
    };
    object(json!({
        "type": "object",
        "propertyNames": names,
        "additionalProperties": of_shape(value, default),
    }))
}

fn rule() -> Value {
    let group = |name: &str, doc: &str| {
        json!({
            "type": "object",
            "properties": { name: { "type": "array", "items": { "$ref": "#/$defs/rule" }, "description": doc } },
            "required": [name],
            "additionalProperties": false,
        })
    };
    json!({ "anyOf": [
        group("all", "True if every part is true."),
        group("any", "True if at least one part is true."),
        { "$ref": "#/$defs/condition" },
    ] })
}

fn condition() -> Value {
    let mut properties = Object::new();
    properties
        .insert("column".to_owned(), json!({ "type": "string", "minLength": 1, "description": "The source column." }));
    for key in CONDITION_KEYS {
        let mut schema = object(argument(key.argument));
        schema.insert("description".to_owned(), key.doc.into());
        properties.insert(key.name.to_owned(), Value::Object(schema));
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": ["column"],
        "additionalProperties": false,
        "minProperties": 2,
    })
}

fn argument(argument: Argument) -> Value {
    let value = json!({ "type": ["string", "number", "boolean"] });
    match argument {
        Argument::Flag => json!({ "type": "boolean" }),
        Argument::Value => value,
        Argument::ValueOrList => json!({ "anyOf": [value, { "type": "array", "items": value }] }),
        Argument::List => json!({ "type": "array", "items": value }),
        Argument::Number | Argument::Days => json!({ "type": "number" }),
        Argument::NumberPair => json!({ "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 }),
        Argument::Day => json!({ "type": "string" }),
        Argument::DayPair => json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 }),
    }
}

#[cfg(test)]
mod tests;
