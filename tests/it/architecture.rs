//! Holds the direction of dependence between the crates (ARCHITECTURE.md, "Code map").

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Which workspace crates each crate may use outside its tests. `convoke`, the binary, may use all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("convoke-core", &[]),
    ("convoke-clients", &["convoke-core"]),
    ("convoke-rules", &["convoke-core"]),
    ("convoke-config", &["convoke-core", "convoke-rules", "convoke-schedule"]),
    ("convoke-engine", &["convoke-core", "convoke-formats", "convoke-rules"]),
    ("convoke-formats", &["convoke-core"]),
    ("convoke-objects", &["convoke-core", "convoke-clients"]),
    ("convoke-source-drop", &["convoke-core", "convoke-formats", "convoke-objects"]),
    ("convoke-source-object", &["convoke-core", "convoke-formats", "convoke-objects", "convoke-rules"]),
    ("convoke-source-postgres", &["convoke-core", "convoke-clients"]),
    ("convoke-delivery", &["convoke-core"]),
    ("convoke-sink-gtm", &["convoke-core", "convoke-rules"]),
    ("convoke-state", &["convoke-core", "convoke-clients"]),
    ("convoke-schedule", &["convoke-core"]),
    ("convoke-server", &["convoke-core", "convoke-schedule"]),
    ("convoke-pipeline", &["convoke-core", "convoke-engine", "convoke-delivery"]),
    ("convoke-store", &["convoke-core", "convoke-rules"]),
    ("convoke-store-api", &["convoke-core", "convoke-store"]),
    ("convoke-fault-proxy", &[]),
    ("convoke-testkit", &["convoke-core", "convoke-fault-proxy"]),
];

/// Crates that may depend on DataFusion: it is most of the build time.
const MAY_USE_DATAFUSION: &[&str] = &["convoke-engine"];

/// What must not stand in `core`: it performs no I/O and reads no clock.
const NOT_IN_CORE: &[&str] = &["tokio", "reqwest", "sqlx", "datafusion", "parquet"];

#[test]
fn crates_depend_in_one_direction_only() {
    let graph = normal_dependencies();
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ALLOWED.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    for (name, dependencies) in &graph {
        if name == "convoke" {
            assert!(!dependencies.contains("convoke-testkit"), "the binary ships no test code");
            continue;
        }
        let may_use = allowed.get(name.as_str()).unwrap_or_else(|| panic!("`{name}` is missing in ALLOWED"));
        let used: BTreeSet<_> =
            dependencies.iter().filter(|used| used.starts_with("convoke")).map(String::as_str).collect();
        assert!(used.is_subset(may_use), "`{name}` uses {used:?}, and may use {may_use:?} only");
    }
}

#[test]
fn heavy_and_impure_dependencies_stay_where_they_belong() {
    let graph = normal_dependencies();
    for (name, dependencies) in &graph {
        let may = MAY_USE_DATAFUSION.contains(&name.as_str());
        assert!(may || !dependencies.contains("datafusion"), "`{name}` must not depend on DataFusion");
    }
    for forbidden in NOT_IN_CORE {
        assert!(!graph["convoke-core"].contains(*forbidden), "`core` must not depend on `{forbidden}`");
    }
}

/// Direct, non-development dependencies of each workspace crate.
fn normal_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let normal = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| text(&dependency["name"]))
                .collect();
            (text(&package["name"]), normal)
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
