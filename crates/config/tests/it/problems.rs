//! Wrong files and what is said about them.

use proptest::prelude::*;

use crate::directory::{Directory, SYNC};

#[test]
fn a_wrong_sync_is_refused_with_line_key_and_remedy() {
    let cases = [
        ("mode: snapshot", "modee: snapshot", "3: `source.csv_drop.modee`: unknown key; did you mean `mode`?"),
        ("key: [Email]", "key: [Emial]", "7: `key[0]`: `Emial` is not a mapped column; did you mean `Email`?"),
        ("key: [Email]", "key: [Email, Email]", "7: `key[1]`: `Email` stands in the key twice"),
        ("key: [Email]", "key: []", "7: `key`: is empty; give a text"),
        ("type: EMAIL", "type: PICKLIST", "5: `map.Email.type`: expected one of"),
        (
            "type: CONTACT",
            "type: contact",
            "9: `audience.gtm.type`: expected one of `CONTACT`, `COMPANY`, not `contact`; did you mean",
        ),
        (
            "connection: local",
            "connection: lokal",
            "9: `audience.gtm.connection`: there is no connection `lokal`; did you mean `local`?",
        ),
        (
            "sync: people",
            "sync: persons",
            "1: `sync`: the file of this sync must be called `persons.yaml`; rename the file or the sync",
        ),
        (
            "sync: people",
            "sync: People_1",
            "1: `sync`: expected a name of lower-case letters, digits and `-`, at most 64, not `People_1`",
        ),
        (
            "key: [Email]",
            "after: { enrich: some }\nkey: [Email]",
            "7: `after.enrich`: expected one of `changed`, `all`, not `some`",
        ),
        ("key: [Email]", "after: { wait: 1m }\nkey: [Email]", "7: `after.enrich`: is missing"),
        (
            "key: [Email]",
            "after: { enrich: all }\nmode: delete_list\nkey: [Email]",
            "7: `after`: `mode: delete_list` leaves no row to enrich; leave it out",
        ),
        (
            "mode: snapshot",
            "mode: snapshot, encoding: latin-99",
            "3: `source.csv_drop.encoding`: `latin-99` is no encoding that is known",
        ),
        (
            "  Company: company",
            "  Company: company\n  Company: x",
            "7: `map.Company`: is given twice; it stands in line 6 already",
        ),
        (
            "  Company: company",
            "  EMAIL: company",
            "6: `map.EMAIL`: differs from column `Email` in case only; choose another name",
        ),
        (
            "  Company: company",
            "  Convoke_Key: company",
            "6: `map.Convoke_Key`: `convoke_key` is kept for Convoke's own key; choose another name",
        ),
        (
            "  Company: company",
            "  Company: { column: a, sql: b }",
            "6: `map.Company.sql`: give either `column` or `sql`, not both",
        ),
        (
            "  Company: company",
            "  Company: { type: TEXT }",
            "6: `map.Company`: says nothing about where the value comes from; give `column` or `sql`",
        ),
        (
            "  Company: company",
            "  Company:",
            "6: `map.Company`: has no value; remove the key, or give a text, or a block with",
        ),
        ("mode: snapshot", "mode: append", "10: `mode`: `mirror` deletes what the source no longer holds"),
        (
            "mode: snapshot",
            "mode: snapshot, delimiter: ab",
            "3: `source.csv_drop.delimiter`: expected one punctuation character, `tab` or `auto`",
        ),
        (
            "mode: snapshot",
            "mode: snapshot, settle: 10",
            "3: `source.csv_drop.settle`: expected a duration such as `30s`, `5m`, `2h` or `7d`, not `10`",
        ),
        (
            "mode: snapshot",
            "mode: snapshot, pattern: \"[a\"",
            "3: `source.csv_drop.pattern`: is not a file name pattern:",
        ),
        (
            "mode: snapshot",
            "mode: snapshot, pattern: a/*.csv",
            "3: `source.csv_drop.pattern`: is about names of files in the folder",
        ),
        ("path: drop, ", "", "3: `source.csv_drop`: does not say where files are dropped; give `path` or `url`"),
        (
            "name: People",
            "name: People, match: { Mail: CONTACT_EMAIL }",
            "9: `audience.gtm.match.Mail`: `Mail` is not a mapped column; did you mean `Email`?",
        ),
        (
            "name: People",
            "name: People, match: { Email: CONTACT_MAIL }",
            "9: `audience.gtm.match.Email`: `CONTACT_MAIL` is not a match field; did you mean `CONTACT_EMAIL`?",
        ),
        (
            "name: People",
            "name: People, match: { Email: COMPANY_CITY }",
            "9: `audience.gtm.match.Email`: `COMPANY_CITY` does not match in a CONTACT audience",
        ),
        (
            "name: People",
            "name: People, columns: { Email: { match: ZI_CONTACT_ID } }",
            "9: `audience.gtm.columns.Email`: another column has this name; choose another",
        ),
    ];
    for (from, to, expected) in cases {
        let sync_mode = if to == "mode: append" { format!("{SYNC}mode: mirror\n") } else { SYNC.to_owned() };
        let text = sync_mode.replacen(from, to, 1);
        let problems = Directory::new().sync("people", &text).refused();
        let expected = format!("config/syncs/people.yaml:{expected}");
        assert!(problems.iter().any(|problem| problem.starts_with(&expected)), "{expected}\n{problems:#?}");
    }
}

#[test]
fn later_keys_are_checked_for_what_only_the_whole_sync_tells() {
    let cases = [
        (
            "guards: { max_delete: 5 percent }",
            "10: `guards.max_delete`: expected a share such as `5%`, a number of records such as `100`",
        ),
        (
            "guards: { max_delete: {} }",
            "10: `guards.max_delete`: sets no limit; give `percent` or `records`, or write `unlimited`",
        ),
        ("dedupe: { keep: rule }", "10: `dedupe.by`: is missing; `keep: rule` needs the criteria that decide"),
        ("dedupe: { by: { column: a, descending: true } }", "10: `dedupe.by.descending`: is for `keep: rule` only"),
        (
            "suppress: { csv: no.csv, column: mail }",
            "10: `suppress.column`: no mapped column reads `mail` or is called so; name the one meant in `audience_column`",
        ),
        (
            "suppress: { csv: no.csv, column: company, existing: remove }",
            "10: `suppress.existing`: rows can only be removed when the compared column `Company` is the whole key",
        ),
        ("suppress:", "10: `suppress`: has no value; remove the key, or give a block of keys, or a list of such"),
        ("where: { all: [ { column: email, is_nice: true } ] }", "10: `where.all[0]"),
        (
            "where: ${env:NOWHERE}",
            "10: `where`: environment variable `NOWHERE` is not set; set it, or write `${env:NOWHERE:-default}`",
        ),
        (
            "removed_at_destination: bring back",
            "10: `removed_at_destination`: expected one of `respect`, `restore`, not `bring back`",
        ),
        (
            "mode: update_only\nremoved_at_destination: restore",
            "11: `removed_at_destination`: `restore` creates rows again, and `mode: update_only` creates none; leave it out",
        ),
        ("shared: yes", "10: `shared`: expected `true` or `false`, not `yes`"),
    ];
    for (line, expected) in cases {
        let problems = Directory::new().sync("people", &format!("{SYNC}{line}\n")).refused();
        let expected = format!("config/syncs/people.yaml:{expected}");
        assert!(problems.iter().any(|problem| problem.starts_with(&expected)), "{expected}\n{problems:#?}");
    }
}

#[test]
fn all_problems_of_all_files_are_reported_at_once_and_in_order() {
    let problems = Directory::new()
        .file("config/convoke.yaml", "memory_limt: 1GB\nlog: { level: loud }\n")
        .file("config/connections.yaml", "local: { embedded: { data: x, settle: soon } }\nfar: { sonarly: {} }\n")
        .sync("people", &SYNC.replace("key: [Email]", "key: [E-Mail, Firm]"))
        .refused();
    let starts = [
        "config/convoke.yaml:1: `memory_limt`: unknown key; did you mean `memory_limit`?",
        "config/convoke.yaml:2: `log.level`: expected one of",
        "config/connections.yaml:1: `local.embedded.settle`: expected a duration",
        "config/connections.yaml:2: `far.sonarly`: `sonarly` is not built yet; remove it",
        "config/syncs/people.yaml:7: `key[0]`: `E-Mail` is not a mapped column; did you mean `Email`?",
        "config/syncs/people.yaml:7: `key[1]`: `Firm` is not a mapped column",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
}

#[test]
fn a_wrong_connection_is_refused() {
    let good = "base_url: https://api.example.com/gtm/studio/v1, client_id: c, client_secret: \"${env:S}\"";
    let cases = [
        (
            "https://api.example.com/gtm/studio/v1",
            "http://api.example.com/gtm/studio/v1",
            "base_url`: `http://` to another machine",
        ),
        (
            "https://api.example.com/gtm/studio/v1",
            "https://api.example.com/v2",
            "base_url`: does not end in `/studio/v1`",
        ),
        ("https://", "https://user:pass@", "base_url`: holds credentials"),
        ("https://", "ftp://", "base_url`: is not an `http` or `https` URL"),
        ("client_id: c", "client_id: c, rate: fast", "rate`: expected one of `builder`"),
        ("client_id: c", "client_id: c, rate: {}", "rate`: sets no limit"),
        (
            "client_id: c",
            "client_id: c, http: { request_timeout: 0s }",
            "http.request_timeout`: expected a duration above zero",
        ),
        ("client_id: c, ", "", "client_id`: is missing"),
    ];
    for (from, to, expected) in cases {
        let text = format!("far: {{ gtm: {{ {} }} }}\n", good.replacen(from, to, 1));
        let problems = Directory::default().variable("S", "s").file("config/connections.yaml", text).refused();
        let expected = format!("config/connections.yaml:1: `far.gtm.{expected}");
        assert!(problems.iter().any(|problem| problem.starts_with(&expected)), "{expected}\n{problems:#?}");
        assert!(problems.iter().all(|problem| !problem.contains("pass")), "{problems:#?}");
    }
}

#[test]
fn two_syncs_share_an_audience_only_if_both_say_so() {
    let other = SYNC.replace("sync: people", "sync: others").replace("path: drop", "path: other-drop");
    let both = |one: &str, two: &str| {
        Directory::new().sync("people", &format!("{SYNC}{one}")).sync("others", &format!("{other}{two}"))
    };
    let problems = both("shared: true\n", "").refused();
    assert_eq!(
        problems,
        [
            "config/syncs/others.yaml:8: `audience`: sync `people` writes the same audience; name another, or set `shared: true` in both files"
        ]
    );
    assert_eq!(both("", "").refused().len(), 2);
    assert_eq!(both("shared: true\n", "shared: true\n").loaded().syncs.len(), 2);
}

#[test]
fn two_syncs_read_the_same_files_only_if_neither_moves_them_away() {
    let other = SYNC.replace("sync: people", "sync: others").replace("name: People", "name: Others");
    let both = |one: &str, two: &str| {
        let with = |sync: &str, drop: &str| sync.replace("path: drop, mode: snapshot", drop);
        Directory::new().sync("people", &with(SYNC, one)).sync("others", &with(&other, two))
    };
    let (moves, keeps) = ("path: drop, mode: snapshot", "path: ./drop/, mode: append, processed: keep");
    let problems = both(keeps, moves).refused();
    assert_eq!(
        problems,
        [
            "config/syncs/others.yaml:3: `source.csv_drop.path`: sync `people` reads the same files, and this one would move them away from it; set `processed: keep` in both files, or give each its own folder or `pattern`"
        ]
    );
    assert_eq!(both(moves, moves).refused().len(), 2);
    for other in ["path: other, mode: snapshot", "path: drop, mode: snapshot, pattern: \"others-*.csv\""] {
        assert_eq!(both(moves, other).loaded().syncs.len(), 2);
    }
    assert_eq!(both(keeps, keeps).loaded().syncs.len(), 2);
    let problems =
        both("url: \"gs://b/in\", mode: append", "url: \"gs://b/in/\", mode: append, processed: keep").refused();
    assert!(
        problems.len() == 1 && problems[0].contains("people.yaml:3: `source.csv_drop.url`: sync `others`"),
        "{problems:?}"
    );
}

#[test]
fn files_that_nothing_would_read_are_refused() {
    let problems = Directory::new()
        .file("config/connection.yaml", "")
        .file("config/people.yaml", "")
        .file("config/syncs/people.yml", "")
        .file("config/syncs/.people.yaml", "hidden: true")
        .file("config/README.md", "")
        .refused();
    assert_eq!(
        problems,
        [
            "config/connection.yaml: would not be read; did you mean `connections.yaml`?",
            "config/people.yaml: would not be read; syncs belong into `syncs/`",
            "config/syncs/people.yml: would not be read; rename it to `.yaml`",
        ]
    );
    let missing = Directory::default().refused();
    assert_eq!(missing, ["config: the configuration directory does not exist; name another with `--config`"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let directory = Directory::new().file("config/convoke.yaml", bytes.clone()).file("config/syncs/people.yaml", bytes);
        let _ = directory.load();
    }

    #[test]
    fn no_yaml_like_text_makes_the_loader_panic(text in "[a-c:\\-{}\\[\\],&*!|>'\"#%@ \n~$0-2?]{0,120}") {
        let directory = Directory::new().file("config/connections.yaml", text.clone()).sync("people", &text);
        let _ = directory.load();
    }

    #[test]
    fn no_value_in_any_place_makes_the_loader_panic(line in 0_usize..9, value in "[ -~]{0,20}") {
        let mut lines: Vec<String> = SYNC.lines().map(str::to_owned).collect();
        let key = lines[line].split(':').next().unwrap_or_default().to_owned();
        lines[line] = format!("{key}: {value}");
        let _ = Directory::new().sync("people", &lines.join("\n")).load();
    }

    #[test]
    fn no_value_under_a_key_of_sources_and_schedules_makes_the_loader_panic(value in "[ -~]{0,20}") {
        let text = value.replace('\'', "''");
        for source in ["s3_parquet: { mode: snapshot, url: '@' }", "postgres: { connection: local, table: '@' }"] {
            let source = source.replace('@', &text);
            let sync = SYNC.replace("csv_drop: { path: drop, mode: snapshot }", &source);
            let _ = Directory::new().sync("people", &format!("{sync}schedule: {{ cron: '{text}', timezone: '{text}' }}\n")).load();
        }
        let connections = format!("house: {{ postgres: {{ host: '{text}', database: d, user: u }} }}\n");
        let _ = Directory::new().file("config/connections.yaml", connections).load();
    }
}
