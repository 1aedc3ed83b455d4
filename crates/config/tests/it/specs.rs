//! Good files and what becomes of them.

use std::path::Path;
use std::time::Duration;

use convoke_config::{LogFormat, System, load};
use convoke_core::spec::{
    DropMode, ExistingRows, Expression, Filter, GtmEndpoint, Keep, Limit, ProcessedFiles, RateLimits, RemovedRows,
    SourceSpec, SyncMode,
};
use convoke_core::{ConnectionName, DataType, SyncName};

use crate::directory::{Directory, SYNC};

#[test]
fn the_shipped_configuration_loads_from_the_root_of_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let config = load(&root.join("config"), &System).unwrap_or_else(|problems| panic!("{problems}"));
    let newsletter = &config.syncs[&SyncName::new("newsletter")];
    assert_eq!(newsletter.spec.mode, SyncMode::Mirror);
    assert!(newsletter.warnings.is_empty() && config.warnings.is_empty());
    let SourceSpec::CsvDrop(drop) = &newsletter.spec.source else { panic!("a drop folder") };
    assert_eq!(drop.path(), Some(config.base_dir.join("demo/drop").as_path()));
}

#[test]
fn what_a_sync_does_not_say_takes_its_default() {
    let config = Directory::new().sync("people", SYNC).loaded();
    assert_eq!(config.base_dir, Path::new("/project"));
    assert_eq!(config.settings.state_dir, Path::new("/project/state"));
    assert_eq!(config.settings.memory_limit, 512_000_000);
    assert_eq!((config.settings.threads, config.settings.spill_dir.clone()), (None, None));
    assert_eq!(config.settings.log.format, LogFormat::Text);
    let spec = &config.syncs[&SyncName::new("people")].spec;
    let SourceSpec::CsvDrop(drop) = &spec.source else { panic!("a drop folder") };
    assert_eq!((drop.path(), drop.pattern.as_str()), (Some(Path::new("/project/drop")), "*.csv"));
    assert_eq!((drop.drop_mode, drop.processed, drop.delimiter), (DropMode::Snapshot, ProcessedFiles::Move, Some(',')));
    assert_eq!((drop.settle, drop.max_malformed), (Duration::from_secs(10), 0.05));
    assert_eq!(spec.columns[0].data_type, DataType::Email);
    assert_eq!(spec.columns[1].data_type, DataType::Text);
    assert_eq!(spec.columns[1].expression, Expression::Column("company".to_owned()));
    assert_eq!((spec.dedupe.keep, spec.dedupe.by.len()), (Keep::Latest, 0));
    assert_eq!((spec.mode, spec.shared, spec.filter.is_none()), (SyncMode::Upsert, false, true));
    assert_eq!(spec.guards.max_delete, Limit { percent: Some(10.0), records: Some(50) });
    assert_eq!(spec.guards.max_unreadable, Limit::records(0));
    assert_eq!(spec.removed_at_destination, RemovedRows::Respect);
}

#[test]
fn every_key_of_a_sync_reaches_its_spec() {
    let text = "\
sync: people
source:
  csv_drop:
    path: /drop
    mode: append
    pattern: people-*.csv
    settle: 1m
    done_marker: .done
    processed: keep
    delimiter: tab
    aliases: { E-Mail: email }
    max_malformed: 2.5%
where: { sql: \"country = 'DE'\" }
map:
  Email: email
  Rank: { column: rank, type: INTEGER }
key: Email
dedupe: { keep: rule, by: [ updated_at, { column: rank, descending: true }, { sql: \"length(email)\" } ] }
audience:
  gtm:
    connection: local
    name: People
    id: 4f1c
    type: CONTACT
    folder: Events
    description: Everybody
    match: { Email: CONTACT_EMAIL }
    columns: { ZoomInfo Contact: { match: ZI_CONTACT_ID } }
mode: insert_only
guards:
  max_delete: 5%
  max_update: 100
  max_create: unlimited
  max_invalid: { percent: 2% }
  max_unreadable: 1%
  max_reject: { records: 7 }
  max_shrink: { percent: 1%, records: 0 }
  allow_empty: true
suppress:
  - { csv: lists/no.csv, column: email, existing: remove, max_age: 1d }
  - { csv: lists/rank.csv, column: r, audience_column: Rank }
shared: true
removed_at_destination: restore
";
    let config = Directory::new().sync("people", text).loaded();
    let spec = &config.syncs[&SyncName::new("people")].spec;
    let SourceSpec::CsvDrop(drop) = &spec.source else { panic!("a drop folder") };
    assert_eq!(
        (drop.path(), drop.pattern.as_str(), drop.settle.as_secs()),
        (Some(Path::new("/drop")), "people-*.csv", 60)
    );
    assert_eq!(
        (drop.done_suffix.as_deref(), drop.processed, drop.delimiter),
        (Some(".done"), ProcessedFiles::Keep, Some('\t'))
    );
    assert_eq!(drop.aliases, [("E-Mail".to_owned(), "email".to_owned())]);
    assert_eq!((drop.drop_mode, drop.max_malformed), (DropMode::Append, 0.025));
    assert!(matches!(&spec.filter, Some(Filter::Sql(sql)) if sql == "country = 'DE'"));
    assert_eq!(spec.key, ["Email"]);
    let criteria: Vec<_> = spec.dedupe.by.iter().map(|by| (by.expression.clone(), by.descending)).collect();
    let column = |name: &str| Expression::Column(name.to_owned());
    let expected =
        [(column("updated_at"), false), (column("rank"), true), (Expression::Sql("length(email)".to_owned()), false)];
    assert_eq!(criteria, expected);
    let audience = &spec.audience;
    assert_eq!((audience.id.as_deref(), audience.folder.as_deref()), (Some("4f1c"), Some("Events")));
    assert_eq!(audience.description.as_deref(), Some("Everybody"));
    assert_eq!(audience.match_criteria, [("Email".to_owned(), "CONTACT_EMAIL".to_owned())]);
    assert_eq!(audience.match_columns, [("ZoomInfo Contact".to_owned(), DataType::ZiContactId)]);
    assert_eq!((spec.mode, spec.shared, spec.guards.allow_empty), (SyncMode::InsertOnly, true, true));
    assert_eq!(spec.removed_at_destination, RemovedRows::Restore);
    let limit = |percent, records| Limit { percent, records };
    assert_eq!((spec.guards.max_delete, spec.guards.max_update), (limit(Some(5.0), None), limit(None, Some(100))));
    assert_eq!((spec.guards.max_create, spec.guards.max_invalid), (Limit::unlimited(), limit(Some(2.0), None)));
    assert_eq!(spec.guards.max_unreadable, limit(Some(1.0), None));
    assert_eq!((spec.guards.max_reject, spec.guards.max_shrink), (limit(None, Some(7)), limit(Some(1.0), Some(0))));
    let [first, second] = spec.suppressions.as_slice() else { panic!("two lists") };
    assert_eq!((first.path.as_path(), first.audience_column.as_str()), (Path::new("/project/lists/no.csv"), "Email"));
    assert_eq!((first.existing, first.max_age.as_secs()), (ExistingRows::Remove, 86_400));
    assert_eq!((second.audience_column.as_str(), second.existing), ("Rank", ExistingRows::Leave));
}

#[test]
fn connections_take_presets_own_limits_and_defaults() {
    let text = "\
local: { embedded: { data: store } }
far:
  gtm:
    base_url: http://127.0.0.1:9/gtm/studio/v1/
    client_id: c
    client_secret: ${env:S}
    rate: { per_second: 3 }
    requests_in_flight: 2
    max_commit_delay: 1m
    settle: 1s
    allow_blind_creates: true
    http: { request_timeout: 7s, proxy: http://proxy:3128, ca_file: ca.pem }
";
    let config = Directory::default().variable("S", "s").file("config/connections.yaml", text).loaded();
    let local = &config.connections[&ConnectionName::new("local")];
    assert!(matches!(&local.endpoint, GtmEndpoint::Embedded { data } if data.as_path() == Path::new("/project/store")));
    assert_eq!((local.max_commit_delay.as_secs(), local.settle.as_secs()), (2, 0));
    assert_eq!(local.rate, RateLimits { per_second: None, per_hour: None, per_day: None });
    let far = &config.connections[&ConnectionName::new("far")];
    assert_eq!(far.rate, RateLimits { per_second: Some(3), per_hour: None, per_day: None });
    assert_eq!((far.requests_in_flight, far.max_commit_delay.as_secs(), far.settle.as_secs()), (2, 60, 1));
    assert_eq!((far.http.connect_timeout.as_secs(), far.http.request_timeout.as_secs()), (10, 7));
    assert_eq!(far.http.proxy.as_deref(), Some("http://proxy:3128"));
    assert_eq!(far.http.ca_file.as_deref(), Some(Path::new("/project/ca.pem")));
    assert!(far.allow_blind_creates && config.warnings.len() == 1);
    let GtmEndpoint::Remote { base_url, token_url, .. } = &far.endpoint else { panic!("a remote endpoint") };
    assert_eq!(base_url, "http://127.0.0.1:9/gtm/studio/v1");
    assert_eq!(token_url, "http://127.0.0.1:9/gtm/oauth/v1/token");
}

#[test]
fn settings_are_read_from_their_file() {
    let text = "\
state_dir: /var/lib/convoke
memory_limit: 2GiB
threads: 3
spill_dir: /tmp/spill
log: { format: json, level: debug }
retention: { plans_settled: 1d, plans_waiting: 2d, rejects: 3d }
";
    let settings = Directory::default().file("config/convoke.yaml", text).loaded().settings;
    assert_eq!((settings.state_dir.as_path(), settings.memory_limit), (Path::new("/var/lib/convoke"), 2 << 30));
    assert_eq!((settings.threads, settings.spill_dir.as_deref()), (Some(3), Some(Path::new("/tmp/spill"))));
    assert_eq!((settings.log.format, settings.log.level.as_str()), (LogFormat::Json, "debug"));
    let days = |duration: Duration| duration.as_secs() / 86_400;
    let retention = settings.retention;
    assert_eq!((days(retention.plans_settled), days(retention.plans_waiting), days(retention.rejects)), (1, 2, 3));
}

#[test]
fn a_delete_list_warns_about_columns_it_does_not_use() {
    let config = Directory::new().sync("people", &format!("{SYNC}mode: delete_list\n")).loaded();
    let warnings: Vec<String> =
        config.syncs[&SyncName::new("people")].warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["config/syncs/people.yaml:6: `map.Company`: is not used: a `delete_list` finds rows by their key alone"]
    );
}

#[test]
fn rules_written_in_yaml_become_filters() {
    let text = format!(
        "{SYNC}where: {{ any: [ {{ column: country, in: [DE, FR] }}, {{ column: email, not_empty: true }} ] }}\n"
    );
    let config = Directory::new().sync("people", &text).loaded();
    let spec = &config.syncs[&SyncName::new("people")].spec;
    assert!(matches!(&spec.filter, Some(Filter::Rule(convoke_core::rule::Rule::Any(parts))) if parts.len() == 2));
}
