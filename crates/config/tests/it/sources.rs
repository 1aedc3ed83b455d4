//! Object stores and databases as sources, and the connections to them.

use std::path::Path;
use std::time::Duration;

use convoke_config::{Config, config_hash};
use convoke_core::spec::{
    AzureCredentials, ChangeSign, CsvDropSpec, CsvObjects, DropMode, DropPlace, GcsCredentials, Incremental,
    NullCursors, ObjectFormat, ObjectStoreConnection, ObjectsMode, ObjectsSpec, OutOfRange, PostgresSpec,
    ProcessedFiles, Relation, S3Connection, SchemaPolicy, SourceSpec, SyncMode, TlsMode, UnsupportedTypes,
};
use convoke_core::{ConnectionName, SyncName};
use secrecy::ExposeSecret;

use crate::directory::{Directory, SYNC};

const CONNECTIONS: &str = "\
local: { embedded: { data: store } }
lake: { s3: {} }
gcs: { gcs: {} }
house: { postgres: { host: db.example.com, database: d, user: u } }
";

const DROP: &str = "csv_drop: { path: drop, mode: snapshot }";

fn with_source(source: &str) -> Directory {
    Directory::default().file("config/connections.yaml", CONNECTIONS).sync("people", &SYNC.replacen(DROP, source, 1))
}

fn source(source: &str) -> SourceSpec {
    with_source(source).loaded().syncs.remove(&SyncName::new("people")).expect("the sync").spec.source
}

fn objects(text: &str) -> ObjectsSpec {
    match source(text) {
        SourceSpec::Objects(spec) => spec,
        other => panic!("objects, not {other:?}"),
    }
}

fn database(text: &str) -> PostgresSpec {
    match source(text) {
        SourceSpec::Postgres(spec) => spec,
        other => panic!("a database, not {other:?}"),
    }
}

#[test]
fn every_key_of_an_object_source_reaches_its_spec() {
    let spec = objects(
        "s3_parquet: { url: \"s3://b/x/**/*.parquet\", mode: append, hive_partitions: true, connection: lake }\n\
         dedupe: { by: updated_at }",
    );
    assert_eq!(
        (spec.url.as_str(), spec.mode, spec.hive_partitions),
        ("s3://b/x/**/*.parquet", ObjectsMode::Append, true)
    );
    assert_eq!(spec.connection, Some(ConnectionName::new("lake")));
    let spec = objects("s3_parquet: { url: data/*.parquet, mode: snapshot }");
    assert_eq!((spec.url.as_str(), spec.mode), ("file:///project/data/*.parquet", ObjectsMode::Snapshot));
    assert_eq!((spec.hive_partitions, spec.connection), (false, None));
}

#[test]
fn every_key_of_objects_in_general_reaches_its_spec() {
    let spec = objects(
        "objects: { url: \"gs://b/x/*.txt\", mode: snapshot, format: csv, connection: gcs, settle: 2m, schema: strict, \
         max_malformed: 1%, csv: { delimiter: tab, encoding: latin1, aliases: { E-Mail: email } } }",
    );
    assert_eq!((spec.url.as_str(), spec.connection), ("gs://b/x/*.txt", Some(ConnectionName::new("gcs"))));
    assert_eq!((spec.settle.as_secs(), spec.schema), (120, SchemaPolicy::Strict));
    let csv = CsvObjects {
        delimiter: Some('\t'),
        encoding: "latin1".to_owned(),
        aliases: vec![("E-Mail".to_owned(), "email".to_owned())],
        max_malformed: 0.01,
    };
    assert_eq!(spec.format, ObjectFormat::Csv(csv));
    let by_default = objects("objects: { url: \"s3://b/*.csv.gz\", mode: snapshot }");
    let csv = CsvObjects { delimiter: None, encoding: "auto".to_owned(), aliases: Vec::new(), max_malformed: 0.05 };
    assert_eq!((by_default.format, by_default.schema), (ObjectFormat::Csv(csv), SchemaPolicy::Widen));
    assert_eq!(by_default.settle.as_secs(), 0);
}

#[test]
fn the_format_of_objects_is_told_by_the_end_of_their_names_and_files_are_given_time_to_settle() {
    let cases = [
        ("data/*.parquet", ObjectFormat::Parquet),
        ("data/*.AVRO", ObjectFormat::Avro { max_malformed: 0.05 }),
        ("data/**/part-*.jsonl.zst", ObjectFormat::Ndjson { max_malformed: 0.05 }),
        ("data/*.ndjson", ObjectFormat::Ndjson { max_malformed: 0.05 }),
    ];
    for (url, expected) in cases {
        let spec = objects(&format!("objects: {{ url: \"{url}\", mode: snapshot }}"));
        assert_eq!((spec.format, spec.settle.as_secs()), (expected, 10), "{url}");
    }
    let spec = objects("objects: { url: data/*, mode: snapshot, format: parquet, schema: ignore_new, settle: 0s }");
    assert_eq!((spec.schema, spec.settle.as_secs()), (SchemaPolicy::IgnoreNew, 0));
}

fn drop_folder(text: &str) -> CsvDropSpec {
    match source(text) {
        SourceSpec::CsvDrop(spec) => spec,
        other => panic!("a drop folder, not {other:?}"),
    }
}

#[test]
fn every_key_of_a_drop_folder_reaches_its_spec() {
    let spec = drop_folder(
        "csv_drop: { url: \"s3://inbox/crm/\", connection: lake, mode: append, pattern: \"p-*.csv\", settle: 1m, \
         manifest: \"*.manifest\", processed: keep, delimiter: auto, encoding: Windows-1252, columns: [email, name], \
         max_malformed: 1% }",
    );
    let url = "s3://inbox/crm/".to_owned();
    assert_eq!(spec.place, DropPlace::Prefix { url, connection: Some(ConnectionName::new("lake")) });
    assert_eq!((spec.pattern.as_str(), spec.drop_mode), ("p-*.csv", DropMode::Append));
    assert_eq!((spec.settle.as_secs(), spec.processed), (60, ProcessedFiles::Keep));
    assert_eq!((spec.manifest.as_deref(), spec.done_suffix), (Some("*.manifest"), None));
    assert_eq!((spec.delimiter, spec.encoding.as_deref()), (None, Some("Windows-1252")));
    assert_eq!(spec.columns, ["email", "name"]);
    let spec = drop_folder("csv_drop: { path: drop, mode: snapshot, done_marker: .done, columns: email }");
    assert_eq!(spec.path(), Some(Path::new("/project/drop")));
    assert_eq!((spec.done_suffix.as_deref(), spec.manifest), (Some(".done"), None));
    assert_eq!((spec.delimiter, spec.encoding), (Some(','), None));
    assert_eq!(spec.columns, ["email"]);
}

#[test]
fn what_a_drop_folder_cannot_be_is_refused_at_its_place() {
    let cases = [
        ("mode: append", "does not say where files are dropped; give `path` or `url`"),
        (
            "path: drop, url: \"s3://b/x/\", mode: append",
            "`source.csv_drop.url`: give either `path` or `url`, not both",
        ),
        ("path: drop, connection: lake, mode: append", "`source.csv_drop.connection`: is for a `url`"),
        (
            "url: \"file:///inbox/\", mode: append",
            "`source.csv_drop.url`: is a folder of this machine; give it as `path`",
        ),
        ("url: \"s3://inbox/crm*/\", mode: append", "`source.csv_drop.url`: holds wildcards"),
        ("url: \"s3://inbox//crm/\", mode: append", "`source.csv_drop.url`: has an empty part"),
        (
            "path: drop, mode: append, done_marker: .done, manifest: \"*.m\"",
            "`source.csv_drop.manifest`: says when a file",
        ),
        (
            "path: drop, mode: append, encoding: klingon",
            "`source.csv_drop.encoding`: `klingon` is no encoding that is known",
        ),
        (
            "path: drop, mode: append, columns: [email, name, email]",
            "`source.csv_drop.columns[2]`: names a column that is named before it",
        ),
        ("path: \"drop/*.csv\", mode: append", "`source.csv_drop.path`: is a folder; say by `pattern`"),
        (
            "path: drop, mode: append, pattern: \"*.csv\", manifest: \"*\"",
            "`source.csv_drop.manifest`: is the name of files with records, too",
        ),
    ];
    for (keys, expected) in cases {
        let problems = with_source(&format!("csv_drop: {{ {keys} }}")).refused();
        assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}\n{problems:#?}");
    }
}

#[test]
fn every_key_of_a_database_source_reaches_its_spec() {
    let spec = database("postgres: { connection: house, table: \"crm.\\\"Odd Name\\\"\", time_column: updated_at }");
    assert_eq!(spec.connection, ConnectionName::new("house"));
    assert_eq!(spec.relation, Relation::Table { schema: Some("crm".to_owned()), name: "Odd Name".to_owned() });
    assert_eq!(spec.time_column.as_deref(), Some("updated_at"));
    let spec = database("postgres: { connection: house, query: \" SELECT ';' FROM people ; \" }");
    assert_eq!((spec.relation, spec.time_column), (Relation::Query("SELECT ';' FROM people".to_owned()), None));
}

#[test]
fn every_key_about_changes_of_a_database_reaches_its_spec() {
    let spec = database("postgres: { connection: house, table: people }");
    assert_eq!((spec.unsupported, spec.out_of_range), (UnsupportedTypes::Error, OutOfRange::Error));
    assert_eq!((spec.parallel.get(), spec.max_snapshot), (1, PostgresSpec::MAX_SNAPSHOT));
    assert_eq!(spec.incremental, None);
    let spec = database(
        "postgres: { connection: house, table: people, unsupported: text, out_of_range: empty, parallel: 4, \
         max_snapshot: 30m, incremental: { column: updated_at, overlap: 10m, nulls: refuse, full_every: 7d } }",
    );
    assert_eq!((spec.unsupported, spec.out_of_range), (UnsupportedTypes::Text, OutOfRange::Empty));
    assert_eq!((spec.parallel.get(), spec.max_snapshot), (4, Duration::from_secs(1800)));
    let by = ChangeSign::Column {
        name: "updated_at".to_owned(),
        overlap: Duration::from_secs(600),
        nulls: NullCursors::Refuse,
    };
    assert_eq!(spec.incremental, Some(Incremental { by, full_every: Some(Duration::from_secs(7 * 86_400)) }));
    let spec = database("postgres: { connection: house, table: people, incremental: { row_versions: true } }");
    assert_eq!(spec.incremental, Some(Incremental { by: ChangeSign::RowVersions, full_every: None }));
    let spec = database("postgres: { connection: house, query: SELECT 1, incremental: { column: at } }");
    let Some(Incremental { by: ChangeSign::Column { overlap, nulls, .. }, .. }) = spec.incremental else {
        panic!("a column tells changes")
    };
    assert_eq!((overlap, nulls), (Duration::from_secs(60), NullCursors::Read));
}

#[test]
fn what_cannot_tell_changes_or_deletes_is_refused_with_line_key_and_remedy() {
    let cases = [
        ("query: SELECT 1, incremental: { row_versions: true }", "incremental.row_versions`: is for tables"),
        ("table: people, incremental: { full_every: 1d }", "incremental`: does not say what tells changes"),
        ("table: people, incremental: { column: a, row_versions: true }", "give either `column` or `row_versions`"),
        ("table: people, incremental: { row_versions: true, overlap: 1m }", "incremental.overlap`: is about `column`"),
        ("table: people, parallel: 0", "parallel`: expected a whole number from 1 to 32"),
        ("table: people, unsupported: ignore", "unsupported`:"),
    ];
    for (keys, expected) in cases {
        let problems = with_source(&format!("postgres: {{ connection: house, {keys} }}")).refused();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{keys}: {problems:?}");
    }
    let incremental = "postgres: { connection: house, table: people, incremental: { column: at } }";
    let problems = with_source(&format!("{incremental}\nmode: mirror")).refused();
    assert!(
        problems.iter().any(|problem| problem.contains("`source.postgres.incremental.full_every: 7d`")),
        "{problems:?}"
    );
    let soft = format!("{incremental}\nmode: mirror\ndeleted: {{ column: gone, not_empty: true }}");
    with_source(&soft).loaded();
    for mode in ["insert_only", "update_only", "delete_list"] {
        let problems = with_source(&format!("{incremental}\nmode: {mode}\ndeleted: {{ sql: gone }}")).refused();
        assert!(problems.iter().any(|problem| problem.contains("`deleted`: deletes rows")), "{problems:?}");
    }
}

#[test]
fn a_wrong_source_is_refused_with_line_key_and_remedy() {
    let cases = [
        ("s3_parquet: { mode: snapshot }", "s3_parquet.url`: is missing; give a URL such as `s3://bucket/folder`"),
        ("s3_parquet: { url: a.parquet }", "s3_parquet.mode`: is missing; give one of `snapshot`, `append`"),
        (
            "s3_parquet: { url: \"abfss://b/*.parquet\", mode: snapshot }",
            "s3_parquet.url`: has another program's name for such a store; write `az://BUCKET/",
        ),
        (
            "objects: { url: \"gs://b/*.parquet\", mode: snapshot, connection: lake }",
            "objects.connection`: `lake` is a connection of kind `s3`; name one of kind `gcs`",
        ),
        (
            "objects: { url: \"https://b.example/a.csv\", mode: snapshot, connection: lake }",
            "objects.connection`: is for `s3://`, `gs://` and `az://` only, and the URL is that of a web server",
        ),
        (
            "objects: { url: \"s3://b/x/*\", mode: snapshot }",
            "objects.format`: is missing, and the end of `url` does not tell it",
        ),
        (
            "objects: { url: \"s3://b/*.avro\", mode: snapshot, csv: {} }",
            "objects.csv`: is about objects in CSV, and these are not; remove it",
        ),
        (
            "objects: { url: \"s3://b/*.parquet\", mode: snapshot, max_malformed: 1% }",
            "objects.max_malformed`: is about records that cannot be carried",
        ),
        (
            "s3_parquet: { url: \"file://data/*.parquet\", mode: snapshot }",
            "s3_parquet.url`: a `file:` URL is absolute and has three slashes",
        ),
        (
            "s3_parquet: { url: a.parquet, mode: snapshot, connection: lake }",
            "s3_parquet.connection`: is for `s3://`, `gs://` and `az://` only, and the URL is a path; remove it",
        ),
        (
            "s3_parquet: { url: \"s3://b/a.parquet\", mode: snapshot, connection: house }",
            "s3_parquet.connection`: `house` is a connection of kind `postgres`; name one of kind `s3`",
        ),
        (
            "s3_parquet: { url: \"s3://b/a.parquet\", mode: snapshot, connection: lka }",
            "s3_parquet.connection`: there is no connection `lka`; did you mean `lake`?",
        ),
        (
            "s3_parquet: { url: \"s3://b/a.parquet\", mode: snapshot, connection: house2 }",
            "s3_parquet.connection`: there is no connection `house2`; add it to `connections.yaml`, as `s3`",
        ),
        (
            "postgres: { connection: lake, table: t }",
            "postgres.connection`: `lake` is a connection of kind `s3`; name one of kind `postgres`",
        ),
        ("postgres: { table: t }", "postgres.connection`: is missing; give a name"),
        ("postgres: { connection: house }", "postgres`: says nothing about what is read; give `table` or `query`"),
        (
            "postgres: { connection: house, table: t, query: q }",
            "postgres.query`: give either `table` or `query`, not both",
        ),
        (
            "postgres: { connection: house, table: a.b.c }",
            "postgres.table`: has more parts than `schema.name`; the database stands in the connection",
        ),
        ("postgres: { connection: house, table: select 1 }", "postgres.table`: is not `name` or `schema.name`"),
        ("postgres: { connection: house, query: \";\" }", "postgres.query`: is no query; give one SELECT"),
        ("postgres: { connection: house, query: SELECT 1, parallel: 2 }", "postgres.parallel`: is for a `table`"),
    ];
    for (source, expected) in cases {
        let problems = with_source(source).refused();
        let expected = format!("config/syncs/people.yaml:3: `source.{expected}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{expected}\n{problems:#?}");
    }
}

#[test]
fn an_audience_is_in_no_object_store() {
    let problems = with_source(DROP).sync("people", &SYNC.replace("connection: local", "connection: lake")).refused();
    let expected = "config/syncs/people.yaml:9: `audience.gtm.connection`: `lake` is a connection of kind `s3`; name one of kind `gtm` or `embedded`";
    assert_eq!(problems, [expected]);
}

#[test]
fn a_mirror_needs_a_source_that_says_everything() {
    let mirror =
        |source: &str| with_source(DROP).sync("people", &format!("{}mode: mirror\n", SYNC.replacen(DROP, source, 1)));
    let problems = mirror("s3_parquet: { url: a.parquet, mode: append }\ndedupe: { by: updated_at }").refused();
    let expected = "config/syncs/people.yaml:11: `mode`: `mirror` deletes what the source no longer holds, so it needs \
                    `source.s3_parquet.mode: snapshot`";
    assert_eq!(problems, [expected]);
    for source in ["s3_parquet: { url: a.parquet, mode: snapshot }", "postgres: { connection: house, table: t }"] {
        assert_eq!(mirror(source).loaded().syncs[&SyncName::new("people")].spec.mode, SyncMode::Mirror);
    }
}

#[test]
fn objects_that_add_need_something_that_tells_older_values_from_newer_ones() {
    let adding = "s3_parquet: { url: a.parquet, mode: append }";
    let message = "`dedupe.by`: is missing; with `source.s3_parquet.mode: append` objects are read again after a failure \
                   or a change of the configuration, in whatever order they lie, so something must tell older values from \
                   newer ones; set `dedupe: { by: … }` to a column that grows with each change";
    assert_eq!(with_source(adding).refused(), [format!("config/syncs/people.yaml:1: {message}")]);
    let first = format!("{adding}\ndedupe: {{ keep: first }}");
    assert_eq!(with_source(&first).refused(), [format!("config/syncs/people.yaml:4: {message}")]);
    with_source(&format!("{adding}\ndedupe: {{ by: updated_at }}")).loaded();
    let list = format!("{}mode: delete_list\n", SYNC.replacen(DROP, adding, 1));
    with_source(DROP).sync("people", &list).loaded();
}

#[test]
fn two_syncs_may_read_the_same_objects_and_tables() {
    for source in ["s3_parquet: { url: a.parquet, mode: snapshot }", "postgres: { connection: house, table: t }"] {
        let one = SYNC.replacen(DROP, source, 1);
        let other = one.replace("sync: people", "sync: others").replace("name: People", "name: Others");
        let directory = with_source(source).sync("others", &other);
        assert_eq!(directory.loaded().syncs.len(), 2);
    }
}

fn connections(text: &str) -> Config {
    Directory::default().variable("S", "s").file("config/connections.yaml", text).loaded()
}

fn any_store(connection: &str) -> ObjectStoreConnection {
    let mut stores = connections(&format!("lake: {{ {connection} }}\n")).object_stores;
    stores.remove(&ConnectionName::new("lake")).expect("the store")
}

fn store(keys: &str) -> S3Connection {
    match any_store(&format!("s3: {{ {keys} }}")) {
        ObjectStoreConnection::S3(store) => store,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_key_of_an_object_store_reaches_its_connection() {
    let lake = store(
        "endpoint: http://127.0.0.1:9000/, region: r, access_key_id: id, secret_access_key: \"${env:S}\", \
         session_token: \"${env:S}\", http: { request_timeout: 7s, ca_file: ca.pem }",
    );
    assert_eq!((lake.endpoint.as_deref(), lake.region.as_deref()), (Some("http://127.0.0.1:9000"), Some("r")));
    assert!(lake.path_style && !lake.allow_plain_http);
    let credentials = lake.credentials.unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.secret_access_key.expose_secret()), ("id", "s"));
    assert_eq!(credentials.session_token.unwrap().expose_secret(), "s");
    let http = lake.http.unwrap();
    assert_eq!((http.connect_timeout.as_secs(), http.request_timeout.as_secs()), (10, 7));
    assert_eq!(http.ca_file.as_deref(), Some(Path::new("/project/ca.pem")));
    assert!(!store("endpoint: http://127.0.0.1:9000, path_style: false").path_style);
    let amazon = store("");
    assert!(!amazon.path_style && amazon.credentials.is_none() && amazon.endpoint.is_none());
}

#[test]
fn profiles_and_roles_reach_their_connection() {
    let directory = Directory::default().variable("HOME", "/home/me").variable("AWS_CONFIG_FILE", "/etc/aws");
    let text = "lake: { s3: { profile: analytics } }\nother: { s3: { role_arn: \"arn:x\", web_identity_token_file: token } }\n";
    let config = directory.file("config/connections.yaml", text).loaded();
    let store = |name| match &config.object_stores[&ConnectionName::new(name)] {
        ObjectStoreConnection::S3(store) => store.clone(),
        other => panic!("{other:?}"),
    };
    let profile = store("lake").profile.unwrap();
    assert_eq!(profile.name, "analytics");
    assert_eq!(profile.files, [Path::new("/home/me/.aws/credentials"), Path::new("/etc/aws")]);
    let role = store("other").web_identity.unwrap();
    assert_eq!((role.role_arn.as_str(), role.token_file.as_path()), ("arn:x", Path::new("/project/token")));
}

#[test]
fn every_key_of_google_cloud_storage_and_azure_reaches_its_connection() {
    let gcs = |keys: &str| match any_store(&format!("gcs: {{ {keys} }}")) {
        ObjectStoreConnection::Gcs(store) => store,
        other => panic!("{other:?}"),
    };
    assert!(matches!(gcs("").credentials, GcsCredentials::Environment));
    assert!(matches!(gcs("anonymous: true").credentials, GcsCredentials::Anonymous));
    let filed = gcs("service_account_file: key.json, endpoint: http://localhost:4443/, http: { request_timeout: 7s }");
    let GcsCredentials::KeyFile(file) = filed.credentials else { panic!("{filed:?}") };
    assert_eq!(
        (file.as_path(), filed.endpoint.as_deref()),
        (Path::new("/project/key.json"), Some("http://localhost:4443"))
    );
    assert_eq!(filed.http.unwrap().request_timeout.as_secs(), 7);
    let GcsCredentials::Key(key) = gcs("service_account_key: \"${env:S}\"").credentials else { panic!("a key") };
    assert_eq!(key.expose_secret(), "s");

    let azure = |keys: &str| match any_store(&format!("azure: {{ account: acme, {keys} }}")) {
        ObjectStoreConnection::Azure(store) => store,
        other => panic!("{other:?}"),
    };
    let plain = azure("endpoint: https://blob.example.com/acme/");
    assert!(matches!(plain.credentials, AzureCredentials::Environment));
    assert_eq!((plain.account.as_str(), plain.endpoint.as_deref()), ("acme", Some("https://blob.example.com/acme")));
    assert!(matches!(azure("access_key: \"${env:S}\"").credentials, AzureCredentials::AccessKey(_)));
    assert!(matches!(azure("sas_token: \"${env:S}\"").credentials, AzureCredentials::Sas(_)));
    assert!(matches!(azure("anonymous: true").credentials, AzureCredentials::Anonymous));
    let principal = azure("tenant_id: t, client_id: c, client_secret: \"${env:S}\"").credentials;
    assert!(matches!(principal, AzureCredentials::ServicePrincipal { tenant_id, .. } if tenant_id == "t"));
}

#[test]
fn a_database_is_trusted_without_tls_only_on_this_machine() {
    let cases = [
        ("db.example.com", "", TlsMode::VerifyFull, 0),
        ("10.0.0.7", "", TlsMode::VerifyFull, 0),
        ("2001:db8::7", "", TlsMode::VerifyFull, 0),
        ("localhost", "", TlsMode::Prefer, 0),
        ("127.0.0.1", "", TlsMode::Prefer, 0),
        ("::1", "", TlsMode::Prefer, 0),
        ("/run/postgresql", "", TlsMode::Prefer, 0),
        ("localhost", ", tls: verify-ca, ca_file: ca.pem", TlsMode::VerifyCa, 0),
        ("db.example.com", ", tls: require", TlsMode::Require, 0),
        ("db.example.com", ", tls: prefer", TlsMode::Prefer, 1),
        ("db.example.com", ", tls: disable", TlsMode::Disable, 1),
    ];
    for (host, keys, tls, warnings) in cases {
        let text = format!("house: {{ postgres: {{ host: \"{host}\", database: d, user: u{keys} }} }}\n");
        let config = connections(&text);
        let house = &config.databases[&ConnectionName::new("house")];
        assert_eq!((house.host.as_str(), house.tls, config.warnings.len()), (host, tls, warnings), "{text}");
        assert_eq!((house.port, house.password.is_none()), (5432, true));
        assert_eq!((house.connect_timeout.as_secs(), house.statement_timeout.as_secs()), (10, 3600));
    }
}

#[test]
fn a_wrong_connection_is_refused_and_not_shown() {
    let cases = [
        ("s3: { endpoint: http://canary.example.com }", "s3.endpoint`: `http://` to another machine"),
        ("s3: { access_key_id: canary }", "s3.secret_access_key`: is missing; a key has both"),
        ("s3: { secret_access_key: \"${env:S}\" }", "s3.access_key_id`: is missing; a key has both"),
        (
            "s3: { session_token: \"${env:S}\", access_key_id: canary }",
            "s3.secret_access_key`: is missing; a key has both",
        ),
        (
            "s3: { access_key_id: canary, secret_access_key: \"${env:S}\", profile: p }",
            "s3.profile`: stands beside `far.s3.acc",
        ),
        ("s3: { role_arn: canary }", "s3.web_identity_token_file`: is missing"),
        ("s3: { web_identity_token_file: canary }", "s3.role_arn`: is missing"),
        ("gcs: { endpoint: http://canary.example.com }", "gcs.endpoint`: `http://` to another machine"),
        (
            "gcs: { anonymous: true, service_account_file: canary }",
            "gcs.anonymous`: stands beside `far.gcs.service_account_file`",
        ),
        ("azure: { endpoint: https://canary.example.com }", "azure.account`: is missing"),
        ("azure: { account: canary.blob.core.windows.net }", "azure.account`: is no name of a storage account"),
        ("azure: { account: a, client_secret: \"${env:S}\", client_id: c }", "azure.tenant_id`: belongs together with"),
        ("s3: { url: canary }", "s3.url`: unknown key; known here: `endpoint`, `region`"),
        ("postgres: { host: h, database: d, user: u, port: 65536 }", "postgres.port`: expected a whole number from 1"),
        ("postgres: { host: h, user: u }", "postgres.database`: is missing"),
        (
            "postgres: { host: \"postgres://u:canary@h/d\", database: d, user: u }",
            "postgres.host`: is neither the name nor the address of a server",
        ),
        ("postgres: { host: \"canary:5432\", database: d, user: u }", "postgres.host`: is neither the name nor"),
        (
            "postgres: { host: /run/canary, database: d, user: u, tls: require }",
            "postgres.tls`: a socket has no TLS; remove `tls`",
        ),
        (
            "postgres: { host: h, database: d, user: u, tls: require, ca_file: canary }",
            "postgres.ca_file`: is used by `tls: verify-ca` and `tls: verify-full` only",
        ),
        ("postgres: { host: h, database: d, user: u, tls: off }", "postgres.tls`: expected one of `disable`, `prefer`"),
        (
            "postgres: { host: h, database: d, user: u, statement_timeout: 0s }",
            "postgres.statement_timeout`: expected a duration above zero",
        ),
    ];
    for (connection, expected) in cases {
        let directory = Directory::default().variable("S", "canary");
        let problems = directory.file("config/connections.yaml", format!("far: {{ {connection} }}\n")).refused();
        let expected = format!("config/connections.yaml:1: `far.{expected}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{expected}\n{problems:#?}");
        assert!(!problems[0].contains("canary"), "{problems:#?}");
    }
}

#[test]
fn the_hash_follows_what_is_read_and_not_how_it_is_reached() {
    let hash = |connections: &str, source: &str| {
        let config = with_source(source).file("config/connections.yaml", connections).loaded();
        config_hash(&config.syncs[&SyncName::new("people")].spec, &[])
    };
    let elsewhere = CONNECTIONS
        .replace("s3: {}", "s3: { endpoint: https://s3.example.com, region: r }")
        .replace("host: db.example.com", "host: replica.example.com, port: 6432");
    let objects = "s3_parquet: { url: \"s3://b/*.parquet\", mode: snapshot, connection: lake }";
    let rows = "postgres: { connection: house, query: SELECT 1 }";
    let ordered =
        "s3_parquet: { url: \"s3://b/*.parquet\", mode: snapshot, connection: lake }\ndedupe: { by: updated_at }";
    for source in [objects, rows] {
        assert_eq!(hash(CONNECTIONS, source), hash(&elsewhere, source));
    }
    let changes = [
        (objects, "s3://b/*", "s3://c/*"),
        (ordered, "mode: snapshot", "mode: append"),
        (objects, "mode: snapshot", "mode: snapshot, hive_partitions: true"),
        (rows, "SELECT 1", "SELECT 2"),
        (rows, "query: SELECT 1", "table: people"),
    ];
    for (source, from, to) in changes {
        assert_ne!(hash(CONNECTIONS, source), hash(CONNECTIONS, &source.replace(from, to)), "{to}");
    }
}
