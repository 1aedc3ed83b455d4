//! References are resolved, and what comes in by them stays out of sight.

use convoke_config::{config_hash, json_schema};
use convoke_core::spec::GtmEndpoint;
use secrecy::ExposeSecret;

use crate::directory::{Directory, SYNC};

const CANARY: &str = "canary-5f1d";

fn remote(secret: &str) -> Directory {
    let text = format!(
        "local:\n  gtm:\n    base_url: https://api.example.com/gtm/studio/v1\n    client_id: c\n    client_secret: {secret}\n"
    );
    Directory::default().file("config/connections.yaml", text)
}

#[test]
fn a_secret_is_read_from_environment_or_file_and_shown_nowhere() {
    let from_variable = remote("${env:SECRET}").variable("SECRET", CANARY);
    let from_file = remote("${file:secrets/gtm}").file("secrets/gtm", format!("{CANARY}\n"));
    for directory in [from_variable, from_file] {
        let config = directory.sync("people", SYNC).loaded();
        let connection = config.connections.values().next().unwrap();
        let GtmEndpoint::Remote { client_secret, token_url, .. } = &connection.endpoint else {
            panic!("a remote endpoint")
        };
        assert_eq!(client_secret.expose_secret(), CANARY);
        assert_eq!(token_url, "https://api.example.com/gtm/oauth/v1/token");
        assert!(!format!("{config:?}").contains(CANARY));
        assert!(config.warnings.is_empty());
    }
}

#[test]
fn secrets_of_stores_and_databases_are_shown_nowhere() {
    let of = |secret: &str| {
        let connections = format!(
            "lake: {{ s3: {{ access_key_id: id, secret_access_key: \"{secret}\", session_token: \"{secret}\" }} }}\n\
             house: {{ postgres: {{ host: h, database: d, user: u, password: \"{secret}\" }} }}\n"
        );
        let convoke = format!(
            "state:\n  postgres: {{ host: h, database: d, user: u, password: \"{secret}\" }}\n  ledger: {{ url: \"s3://b\", connection: lake }}\n"
        );
        let directory = Directory::default().file("config/convoke.yaml", convoke);
        directory.file("config/connections.yaml", connections).variable("SECRET", CANARY).loaded()
    };
    let (by_reference, in_plain_text) = (of("${env:SECRET}"), of(CANARY));
    assert_eq!((by_reference.warnings.len(), in_plain_text.warnings.len()), (0, 4));
    for config in [by_reference, in_plain_text] {
        let password = config.settings.state.postgres.as_ref().and_then(|database| database.password.as_ref());
        assert_eq!(password.map(ExposeSecret::expose_secret), Some(CANARY));
        assert!(!format!("{config:?}").contains(CANARY));
    }
}

#[test]
fn no_message_shows_the_text_of_a_url() {
    for url in ["s3://id:canary-5f1d@b/*.parquet", "canary-5f1d://b", "s3://canary-5f1d", "file:canary-5f1d"] {
        let source = format!("s3_parquet: {{ url: \"{url}\", mode: snapshot }}");
        let sync = SYNC.replacen("csv_drop: { path: drop, mode: snapshot }", &source, 1);
        let problems = Directory::new().sync("people", &sync).load().expect_err(url);
        assert!(!problems.to_string().contains(CANARY), "{problems}");
    }
}

#[test]
fn a_secret_in_plain_text_is_taken_with_a_warning_that_does_not_repeat_it() {
    let config = remote(CANARY).loaded();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "config/connections.yaml:5: `local.gtm.client_secret`: the secret stands here in plain text; write `${env:NAME}` or \
          `${file:path}` instead"
        ]
    );
}

#[test]
fn no_message_shows_a_value_that_came_by_reference() {
    let lines = [
        "mode: ${env:SECRET}",
        "shared: ${env:SECRET}",
        "guards: { max_delete: \"${env:SECRET}\" }",
        "where: ${env:SECRET}",
        "dedupe: { keep: \"x${env:SECRET}\" }",
        "suppress: { csv: a, column: Email, max_age: \"${env:SECRET}\" }",
    ];
    for line in lines {
        let directory = Directory::new().variable("SECRET", CANARY).sync("people", &format!("{SYNC}{line}\n"));
        let problems = directory.load().expect_err(line);
        assert!(!problems.to_string().contains(CANARY), "{problems}");
        assert!(!format!("{problems:?}").contains(CANARY), "{problems:?}");
    }
    for name in ["sync: people", "[Email]", "connection: local"] {
        let (key, _) = name.split_once(": ").unwrap_or(("", name));
        let reference =
            if key.is_empty() { "[\"${env:SECRET}\"]".to_owned() } else { format!("{key}: \"${{env:SECRET}}\"") };
        let directory = Directory::new().variable("SECRET", CANARY).sync("people", &SYNC.replacen(name, &reference, 1));
        let problems = directory.load().expect_err(name);
        assert!(!problems.to_string().contains(CANARY), "{problems}");
    }
    assert!(!json_schema().to_string().contains(CANARY));
}

#[test]
fn references_that_lead_nowhere_name_the_key_and_what_is_missing() {
    let cases = [
        ("${env:NONE}", "environment variable `NONE` is not set; set it, or write `${env:NONE:-default}`"),
        ("${file:none}", "file `/project/none` cannot be read:"),
        ("${vault:x}", "unknown reference `${vault:x}`; write `${env:NAME}`"),
        ("${env:NONE", "a reference `${` has no closing `}`"),
    ];
    for (reference, expected) in cases {
        let problems = remote(&format!("'{reference}'")).refused();
        let start = format!("config/connections.yaml:5: `local.gtm.client_secret`: {expected}");
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with(&start), "{problems:#?}");
    }
}

#[test]
fn references_have_defaults_and_can_be_escaped() {
    let sync = SYNC.replace("name: People", "name: \"${env:STAGE:-test} $${x} ${env:WHO}\"");
    let config = Directory::new().variable("WHO", "people").sync("people", &sync).loaded();
    let spec = &config.syncs.values().next().unwrap().spec;
    assert_eq!(spec.audience.name, "test ${x} people");
}

#[test]
fn the_hash_follows_the_spec_and_its_lists_and_not_the_secret() {
    let hash = |directory: Directory, digests: &[String]| {
        let config = directory.loaded();
        config_hash(&config.syncs.values().next().unwrap().spec, digests)
    };
    let with_secret = |secret: &str| remote("${env:SECRET}").variable("SECRET", secret).sync("people", SYNC);
    let base = hash(with_secret("one"), &[]);
    assert_eq!(base, hash(with_secret("two"), &[]));
    assert_ne!(base, hash(with_secret("one"), &["digest".to_owned()]));
    let other = SYNC.replace("Company: company", "Company: firm");
    assert_ne!(base, hash(remote("${env:SECRET}").variable("SECRET", "one").sync("people", &other), &[]));
}
