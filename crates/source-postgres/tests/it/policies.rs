//! What is declared about types and values that have no place.

use arrow::datatypes::DataType;
use convoke_core::Origin;
use convoke_core::source::Source;
use convoke_core::spec::{OutOfRange, PostgresSpec, Relation, UnsupportedTypes};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};

use crate::test_source::{TestSource, chain, table};

/// A value of every type that is not read by itself, and what the server writes of it.
const UNSUPPORTED: &[(&str, &str, &str)] = &[
    ("money", "'$1,234.50'", "1234.50"),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("tstzrange", "'[2026-01-02 03:00+01,)'", "[\"2026-01-02 02:00:00+00\",)"),
    ("point", "'(1,2)'", "(1,2)"),
    ("box", "'(1,2),(0,0)'", "(1,2),(0,0)"),
    ("circle", "'<(1,2),3>'", "<(1,2),3>"),
    ("tsvector", "'cat sat'", "'cat' 'sat'"),
    ("hstore", "'a=>1'", "\"a\"=>\"1\""),
    ("pair", "ROW(1, 'x y')", "(1,\"x y\")"),
    ("pair[]", "ARRAY[ROW(1, 'x')::pair]", "{\"(1,x)\"}"),
    ("pg_lsn", "'16/B374D848'", "16/B374D848"),
    ("money[]", "NULL", ""),
];

async fn database() -> TestDatabase {
    let database = PostgresServer::shared().create_database("policies").await;
    let columns = UNSUPPORTED.iter().enumerate().map(|(number, (name, ..))| format!("c{number} {name}"));
    let values = UNSUPPORTED.iter().map(|(_, value, _)| *value).collect::<Vec<_>>().join(", ");
    database
        .execute(&format!(
            "CREATE EXTENSION hstore; CREATE TYPE pair AS (a int, b text); CREATE TABLE odd (id int, {}); INSERT INTO odd \
             VALUES (1, {values}); INSERT INTO odd VALUES (2)",
            columns.collect::<Vec<_>>().join(", ")
        ))
        .await;
    database
}

fn odd(database: &TestDatabase, change: impl FnOnce(&mut PostgresSpec)) -> TestSource {
    TestSource::with(database.connection(), table("odd"), change)
}

#[tokio::test]
async fn a_column_that_cannot_be_read_is_refused_only_if_it_is_read() {
    let database = database().await;
    let error = odd(&database, |_| ()).error().await;
    assert_eq!(error.origin, Origin::User);
    let message = error.to_string();
    assert!(message.contains("`c0`") && message.contains("`\"c0\"::text AS \"c0\"`"), "{message}");
    assert!(message.contains("`unsupported: text`"), "{message}");
    let source = TestSource::reading(database.connection(), table("odd"), &["id"], |_| ());
    assert_eq!(source.read().await.texts("id").len(), 2);
    let source = TestSource::reading(database.connection(), table("odd"), &["id", "c3"], |_| ());
    assert!(source.error().await.to_string().contains("`c3`"));
}

#[tokio::test]
async fn columns_that_cannot_be_read_are_skipped_and_told_where_that_is_asked_for() {
    let database = database().await;
    for relation in [table("odd"), Relation::Query("SELECT * FROM odd".to_owned())] {
        let source = TestSource::with(database.connection(), relation, |spec| {
            spec.unsupported = UnsupportedTypes::Skip;
        });
        let discovery = source.try_discover().await.unwrap();
        assert!(discovery.notices[0].contains("`c0` (money), `c1` (int4range)"), "{:?}", discovery.notices);
        let contents = source.try_read(&discovery.splits[0]).await.unwrap();
        assert_eq!(contents.records.num_columns(), 1);
        assert_eq!(contents.texts("id").len(), 2);
    }
}

#[tokio::test]
async fn the_server_writes_other_types_as_text_where_that_is_asked_for() {
    let database = database().await;
    for relation in [table("odd"), Relation::Query("SELECT * FROM odd".to_owned())] {
        let source = TestSource::with(database.connection(), relation, |spec| {
            spec.unsupported = UnsupportedTypes::Text;
        });
        let contents = source.read().await;
        for (number, (name, value, expected)) in UNSUPPORTED.iter().enumerate() {
            let expected = (*value != "NULL").then(|| (*expected).to_owned());
            assert_eq!(contents.texts(&format!("c{number}")), [expected, None], "{name}");
        }
    }
}

const FAR: &str = "CREATE TABLE far (id int, day date, local timestamp, moment timestamptz, amount numeric(9,2), days \
                   date[]); INSERT INTO far VALUES (1, 'infinity', '-infinity', '12026-01-02 03:04:05.5+00', 'NaN', \
                   '{infinity,2026-01-02}'), (2, '0044-03-15 BC', '294276-12-31 23:59:59.999999', '0001-12-31 12:00+00 \
                   BC', 1.5, NULL), (3, '2026-01-02', '2026-01-02 03:04', '2026-01-02 03:04+00', 2, '{}')";

#[tokio::test]
async fn a_value_without_a_place_ends_the_read_and_names_its_column() {
    let database = database().await;
    database.execute(FAR).await;
    for column in ["day", "local", "moment", "amount", "days"] {
        let source = TestSource::reading(database.connection(), table("far"), &["id", column], |_| ());
        let error = source.error().await;
        let message = error.to_string();
        assert!(message.contains(&format!("column `{column}` of")), "{}", chain(&error));
        assert!(message.contains("`out_of_range: empty`") && !message.contains("infinity"), "{message}");
        assert_eq!(error.origin, Origin::User);
    }
    let source = TestSource::reading(database.connection(), table("far"), &["id"], |_| ());
    assert_eq!(source.read().await.texts("id").len(), 3, "what nobody reads is in nobody's way");
}

#[tokio::test]
async fn values_without_a_place_are_null_or_text_where_that_is_asked_for() {
    let database = database().await;
    database.execute(FAR).await;
    let read = async |policy| {
        let source = TestSource::with(database.connection(), table("far"), |spec| spec.out_of_range = policy);
        let schema = source.source.describe().await.unwrap().schema;
        (source.read().await, schema)
    };
    let texts = |texts: [Option<&str>; 3]| texts.map(|text| text.map(str::to_owned)).to_vec();
    let (null, _) = read(OutOfRange::Empty).await;
    for column in ["day", "local", "moment"] {
        let read = null.texts(column);
        assert!(read[0].is_none() && read[1].is_none() && read[2].is_some(), "{column}");
    }
    assert_eq!(null.texts("amount"), texts([None, Some("1.50"), Some("2.00")]));
    assert_eq!(null.texts("days"), texts([Some(r#"[null,"2026-01-02"]"#), None, Some("[]")]));
    let (text, schema) = read(OutOfRange::Text).await;
    assert!(schema.fields().iter().skip(1).all(|field| *field.data_type() == DataType::Utf8), "{schema:?}");
    assert_eq!(text.texts("day"), texts([Some("infinity"), Some("0044-03-15 BC"), Some("2026-01-02")]));
    let local = [Some("-infinity"), Some("294276-12-31T23:59:59.999999"), Some("2026-01-02T03:04:00")];
    assert_eq!(text.texts("local"), texts(local));
    let moments =
        [Some("12026-01-02T03:04:05.5+00:00"), Some("0001-12-31T12:00:00+00:00 BC"), Some("2026-01-02T03:04:00+00:00")];
    assert_eq!(text.texts("moment"), texts(moments));
    assert_eq!(text.texts("amount"), texts([Some("NaN"), Some("1.50"), Some("2.00")]));
    assert_eq!(text.texts("days"), texts([Some(r#"["infinity","2026-01-02"]"#), None, Some("[]")]));
}

#[tokio::test]
async fn only_what_is_read_is_asked_for() {
    let database = database().await;
    database.execute("CREATE VIEW costly AS SELECT 1 AS id, 1 / (id - 1) AS never FROM odd WHERE id = 1").await;
    let source = TestSource::reading(database.connection(), table("costly"), &["id"], |_| ());
    assert_eq!(source.read().await.texts("id"), [Some("1".to_owned())]);
    let query = Relation::Query("SELECT never, id FROM costly".to_owned());
    let source = TestSource::reading(database.connection(), query, &["id"], |_| ());
    assert_eq!(source.read().await.texts("id"), [Some("1".to_owned())]);
}
