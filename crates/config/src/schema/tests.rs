//! The schema held against the shipped files and against the check, by a validator of the keywords it uses.

use serde_json::{Value, json};

use super::*;

/// Holds a value against the keywords that our schema uses. Patterns are left to the check they mirror.
fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.strip_prefix("#/$defs/").expect("references stay within the definitions");
        return accepts(root, &root["$defs"][name], value);
    }
    let known = [
        "anyOf",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "propertyNames",
        "items",
        "enum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "minLength",
        "pattern",
        "description",
        "default",
        "title",
    ];
    let members = schema.as_object().expect("a schema is an object");
    assert!(members.keys().all(|key| known.contains(&key.as_str())), "unknown keyword in {schema}");
    let any_of = schema["anyOf"].as_array();
    let words = schema["enum"].as_array();
    any_of.is_none_or(|schemas| schemas.iter().any(|schema| accepts(root, schema, value)))
        && words.is_none_or(|words| words.contains(value))
        && accepts_type(&schema["type"], value)
        && accepts_bounds(schema, value)
        && accepts_pattern(&schema["pattern"], value)
        && accepts_object(root, schema, value)
        && accepts_list(root, schema, value)
}

fn accepts_type(expected: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        other => panic!("unknown type {other}"),
    };
    match expected {
        Value::Null => true,
        Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
        name => is(name.as_str().unwrap()),
    }
}

fn accepts_bounds(schema: &Value, value: &Value) -> bool {
    let Some(number) = value.as_f64() else { return true };
    schema["minimum"].as_f64().is_none_or(|least| number >= least)
        && schema["maximum"].as_f64().is_none_or(|most| number <= most)
}

/// Only the one pattern that decides between alternatives is needed here.
fn accepts_pattern(pattern: &Value, value: &Value) -> bool {
    match (pattern.as_str(), value.as_str()) {
        (Some(pattern), Some(text)) if pattern.contains("(env|file)") => {
            text.contains("${env:") || text.contains("${file:")
        }
        (Some(pattern), Some(text)) if pattern.ends_with("(ms|s|m|h|d)$") => crate::scalar::duration(text).is_some(),
        _ => true,
    }
}

fn accepts_object(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(members) = value.as_object() else { return true };
    let count = members.len() as u64;
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    if !required.iter().all(|name| members.contains_key(name.as_str().unwrap()))
        || schema["minProperties"].as_u64().is_some_and(|least| count < least)
        || schema["maxProperties"].as_u64().is_some_and(|most| count > most)
    {
        return false;
    }
    members.iter().all(|(name, member)| match (&schema["properties"][name], &schema["additionalProperties"]) {
        (Value::Null, Value::Bool(allowed)) => *allowed,
        (Value::Null, Value::Null) => true,
        (Value::Null, other) => accepts(root, other, member),
        (property, _) => accepts(root, property, member),
    })
}

fn accepts_list(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(items) = value.as_array() else { return true };
    let count = items.len() as u64;
    schema["minItems"].as_u64().is_none_or(|least| count >= least)
        && schema["maxItems"].as_u64().is_none_or(|most| count <= most)
        && (schema["items"].is_null() || items.iter().all(|item| accepts(root, &schema["items"], item)))
}

fn file_is_accepted(kind: &str, text: &str) -> bool {
    let root = json_schema();
    let value = yaml::parse(text.as_bytes()).expect("valid YAML").to_json();
    accepts(&root, &root["$defs"][kind], &value)
}

#[test]
fn the_schema_accepts_the_shipped_examples() {
    let examples = [
        ("convoke", include_str!("../../../../config/convoke.yaml")),
        ("connections", include_str!("../../../../config/connections.yaml")),
        ("sync", include_str!("../../../../config/syncs/newsletter.yaml")),
        ("sync", include_str!("../../../../config/examples/booth-scans.yaml")),
        ("sync", include_str!("../../../../config/examples/customers.yaml")),
        ("sync", include_str!("../../../../config/examples/members.yaml")),
        ("sync", include_str!("../../../../config/examples/partner-leads.yaml")),
        ("sync", include_str!("../../../../config/examples/signups.yaml")),
        ("convoke", "serve: { listen: \"[::1]:0\", drain: 0s }\nstate: { lease: 5s }"),
        ("connections", "lake: { s3: {} }\nhouse: { postgres: { host: h, database: d, user: u, tls: verify-ca } }"),
    ];
    for (kind, text) in examples {
        assert!(file_is_accepted(kind, text), "{kind}");
    }
}

#[test]
fn the_schema_refuses_what_the_check_refuses() {
    let cases = [
        ("convoke", "state_dri: x"),
        ("convoke", "log: { level: loud }"),
        ("convoke", "threads: 0.5"),
        ("convoke", "retention: { rejects: 30 }"),
        ("connections", "local: { embedded: {} }"),
        ("connections", "local: { embedded: { data: x }, gtm: { base_url: x, client_id: x, client_secret: x } }"),
        ("connections", "local: { sonarly: x }"),
        ("sync", "sync: only-a-name"),
        ("connections", "house: { postgres: { host: h, database: d } }"),
        ("connections", "house: { postgres: { host: h, database: d, user: u, port: 0 } }"),
        ("connections", "house: { postgres: { host: h, database: d, user: u, tls: always } }"),
        ("connections", "lake: { s3: { path_style: maybe } }"),
        ("convoke", "serve: { concurrency: 0 }"),
        ("convoke", "state: { ledger: {} }"),
        ("sync", "schedule: { cron: x }"),
    ];
    for (kind, text) in cases {
        assert!(!file_is_accepted(kind, text), "the schema: {text}");
        let shape = match kind {
            "convoke" => keys::CONVOKE,
            "connections" => keys::CONNECTIONS,
            _ => keys::SYNC,
        };
        let mut report = crate::report::Report::new("file.yaml".into());
        crate::check::check(&yaml::parse(text.as_bytes()).unwrap(), &shape, "", &mut report);
        assert!(!report.problems.is_empty(), "the check: {text}");
    }
}

#[test]
fn a_schedule_is_a_preset_or_a_block() {
    let root = json_schema();
    let schedule = &root["$defs"]["sync"]["properties"]["schedule"];
    let cron = json!({ "cron": "0 2 * * *", "overlap": "skip" });
    for value in [json!("weekly"), json!("arrival"), cron, json!({ "arrival": true }), json!("${env:WHEN}")] {
        assert!(accepts(&root, schedule, &value), "{value}");
    }
    for value in [json!("hourly"), json!({ "arrival": "yes" }), json!({ "cron": "0 2 * * *", "overlap": "allow" })] {
        assert!(!accepts(&root, schedule, &value), "{value}");
    }
}

#[test]
fn every_built_key_is_described_and_no_planned_key_is_offered() {
    let sync = &json_schema()["$defs"]["sync"]["properties"];
    assert_eq!(sync["mode"]["default"], json!("upsert"));
    assert!(sync["suppress"]["description"].is_string());
    assert_eq!(sync["schedule"]["anyOf"][1]["properties"]["timezone"]["default"], json!("UTC"));
    assert_eq!(sync["after"]["properties"]["wait"]["default"], json!("10m"));
}

#[test]
fn only_types_that_a_column_of_ours_may_have_are_offered() {
    let mapped = &json_schema()["$defs"]["sync"]["properties"]["map"]["additionalProperties"]["anyOf"][1];
    let offered = &mapped["properties"]["type"]["anyOf"][0]["enum"];
    let custom: Vec<&str> = convoke_core::DataType::ALL
        .iter()
        .filter(|data_type| data_type.is_custom())
        .map(|data_type| data_type.as_str())
        .collect();
    assert_eq!(*offered, json!(custom));
}
