//! Every type, with its extremes, and what cannot be read.

use arrow::datatypes::{DataType, TimeUnit};
use convoke_core::spec::{OutOfRange, Relation};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};

use crate::test_source::{Contents, Sourced, TestSource, chain, table};

/// A value in SQL, and the text that the engine makes of it.
type Value = (&'static str, Option<&'static str>);

const VALUES: &[(&str, &[Value])] = &[
    ("bool", &[("true", Some("true")), ("false", Some("false"))]),
    ("int2", &[("-32768", Some("-32768")), ("32767", Some("32767"))]),
    ("int4", &[("-2147483648", Some("-2147483648")), ("2147483647", Some("2147483647"))]),
    ("int8", &[("-9223372036854775808", Some("-9223372036854775808")), ("7", Some("7"))]),
    ("float4", &[("0.1", Some("0.1")), ("'NaN'", Some("NaN")), ("'-Infinity'", Some("-inf"))]),
    ("float8", &[("0.1", Some("0.1")), ("'Infinity'", Some("inf")), ("5e-324", Some("5e-324"))]),
    (
        "numeric",
        &[
            ("0", Some("0")),
            ("0.000", Some("0.000")),
            ("-0.00000123", Some("-0.00000123")),
            ("10000", Some("10000")),
            ("123456789012345678901234567890123456789012.5", Some("123456789012345678901234567890123456789012.5")),
            ("1e-20", Some("0.00000000000000000001")),
            ("'NaN'", Some("NaN")),
            ("'-Infinity'", Some("-Infinity")),
        ],
    ),
    (
        "numeric(12,2)",
        &[("1234567890.12", Some("1234567890.12")), ("-0.05", Some("-0.05")), ("7", Some("7.00")), ("'NaN'", None)],
    ),
    (
        "numeric(38,37)",
        &[("-9.9999999999999999999999999999999999999", Some("-9.9999999999999999999999999999999999999"))],
    ),
    ("numeric(38,0)", &[("99999999999999999999999999999999999999", Some("99999999999999999999999999999999999999"))]),
    ("numeric(2,-3)", &[("98765", Some("99000"))]),
    ("numeric(40,1)", &[("1.5", Some("1.5"))]),
    ("text", &[("''", Some("")), ("' é \u{1f600} '", Some(" é \u{1f600} ")), ("E'a\\nb'", Some("a\nb"))]),
    ("varchar(5)", &[("'abc'", Some("abc"))]),
    ("char(5)", &[("'abc'", Some("abc")), ("''", Some(""))]),
    ("name", &[("'pg_class'", Some("pg_class"))]),
    ("citext", &[("'Mixed'", Some("Mixed"))]),
    ("mood", &[("'so so'", Some("so so"))]),
    ("uuid", &[("'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'", Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))]),
    ("json", &[(r#"'{"b":  1, "a": [] }'"#, Some(r#"{"b":  1, "a": [] }"#))]),
    ("jsonb", &[(r#"'{"b":  1, "a": [] }'"#, Some(r#"{"a": [], "b": 1}"#))]),
    ("bytea", &[(r"'\x00ff10'", Some(r"\x00ff10")), ("''", Some(r"\x"))]),
    (
        "date",
        &[
            ("'2024-02-29'", Some("2024-02-29")),
            ("'0001-01-01'", Some("0001-01-01")),
            ("'9999-12-31'", Some("9999-12-31")),
            ("'10000-01-01'", None),
            ("'0001-12-31 BC'", None),
            ("'infinity'", None),
            ("'5874897-12-31'", None),
        ],
    ),
    (
        "time",
        &[("'00:00'", Some("00:00:00")), ("'23:59:59.000100'", Some("23:59:59.0001")), ("'24:00'", Some("24:00:00"))],
    ),
    (
        "timestamp",
        &[
            ("'1969-12-31 23:59:59.999999'", Some("1969-12-31T23:59:59.999999")),
            ("'9999-12-31 23:59:59.999999'", Some("9999-12-31T23:59:59.999999")),
            ("'10000-01-01'", None),
            ("'294276-12-31'", None),
            ("'-infinity'", None),
            ("'4713-01-01 BC'", None),
        ],
    ),
    ("timestamptz", &[("'2026-03-29 02:30+01'", Some("2026-03-29T01:30:00Z")), ("'infinity'", None)]),
    ("timetz", &[("'12:34:56.7+02:30'", Some("12:34:56.7+02:30")), ("'00:00-08'", Some("00:00:00-08:00"))]),
    (
        "interval",
        &[
            ("'1 year 2 months -3 days 04:05:06.7'", Some("P1Y2M-3DT4H5M6.7S")),
            ("'0'", Some("PT0S")),
            ("'-00:00:00.000001'", Some("PT-0.000001S")),
        ],
    ),
    (
        "inet",
        &[("'10.0.0.1'", Some("10.0.0.1")), ("'10.1.2.3/8'", Some("10.1.2.3/8")), ("'::1.2.3.4'", Some("::1.2.3.4"))],
    ),
    ("cidr", &[("'10.0.0.1'", Some("10.0.0.1/32")), ("'2001:db8::/32'", Some("2001:db8::/32"))]),
    ("macaddr", &[("'08:00:2b:01:02:03'", Some("08:00:2b:01:02:03"))]),
    ("macaddr8", &[("'08:00:2b:01:02:03:04:05'", Some("08:00:2b:01:02:03:04:05"))]),
    ("bit(5)", &[("B'10110'", Some("10110"))]),
    ("varbit", &[("B''", Some("")), ("B'1011001110'", Some("1011001110"))]),
    ("xml", &[("'<a b=\"1\"/>'", Some("<a b=\"1\"/>"))]),
    ("oid", &[("4294967295", Some("4294967295"))]),
    (r#""char""#, &[("'x'", Some("x"))]),
    ("postal_district", &[("'10115'", Some("10115"))]),
    ("inet[]", &[("'{10.0.0.1,NULL}'", Some(r#"["10.0.0.1",null]"#))]),
    ("interval[]", &[("'{1 day}'", Some(r#"["P1D"]"#))]),
    ("bit(2)[]", &[("'{10,01}'", Some(r#"["10","01"]"#))]),
    ("oid[]", &[("'{1,4294967295}'", Some("[1,4294967295]"))]),
    ("postal_district[]", &[("'{10115}'", Some(r#"["10115"]"#))]),
    ("postal_code", &[("'10115'", Some("10115"))]),
    ("price", &[("12.5", Some("12.50"))]),
    (
        "int4[]",
        &[("'{}'", Some("[]")), ("'{1,NULL,-3}'", Some("[1,null,-3]")), ("'{{1,2},{3,4}}'", Some("[[1,2],[3,4]]"))],
    ),
    ("text[]", &[(r#"'{"a\"b",NULL,""}'"#, Some(r#"["a\"b",null,""]"#)), ("'[5:6]={x,y}'", Some(r#"["x","y"]"#))]),
    ("bool[]", &[("'{t,f}'", Some("[true,false]"))]),
    ("numeric[]", &[("'{1.50,NaN}'", Some(r#"[1.50,"NaN"]"#))]),
    ("float8[]", &[("'{0.1,-Infinity,1e300,7}'", Some(r#"[0.1,"-Infinity",1e300,7]"#))]),
    ("jsonb[]", &[(r#"ARRAY['{"a":1}','null']::jsonb[]"#, Some(r#"[{"a": 1},null]"#))]),
    ("date[]", &[("'{2026-01-02,infinity}'", Some(r#"["2026-01-02",null]"#))]),
    ("timestamptz[]", &[("'{2026-01-02 03:04:05.6+00}'", Some(r#"["2026-01-02T03:04:05.6+00:00"]"#))]),
    ("char(3)[]", &[("'{a,bcd}'", Some(r#"["a","bcd"]"#))]),
    ("bytea[]", &[(r"ARRAY['\x01ff'::bytea]", Some(r#"["\\x01ff"]"#))]),
    ("uuid[]", &[("'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'", Some(r#"["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]"#))]),
    ("mood[]", &[("'{happy}'", Some(r#"["happy"]"#))]),
    ("postal_code[]", &[("'{10115}'", Some(r#"["10115"]"#))]),
    ("tags", &[("'{a,b}'", Some(r#"["a","b"]"#))]),
];

async fn database() -> TestDatabase {
    let database = PostgresServer::shared().create_database("types").await;
    database
        .execute(
            "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('happy', 'so so'); \
             CREATE DOMAIN postal_code AS varchar(10) CHECK (VALUE <> ''); CREATE DOMAIN price AS numeric(10, 2); \
             CREATE DOMAIN tags AS text[]; CREATE DOMAIN postal_district AS postal_code CHECK (length(VALUE) > 1)",
        )
        .await;
    database
}

/// A table with a column per type and the values below each other, NULL where a type has fewer, and a row of NULLs.
async fn table_of_all_types() -> (TestDatabase, usize) {
    let database = database().await;
    let rows = VALUES.iter().map(|(_, values)| values.len()).max().unwrap() + 1;
    let columns = VALUES.iter().enumerate().map(|(index, (column_type, _))| format!("c{index} {column_type}"));
    let mut sql = format!("CREATE TABLE everything ({});", columns.collect::<Vec<_>>().join(", "));
    for row in 0..rows {
        let cells = VALUES.iter().map(|(_, values)| values.get(row).map_or("NULL", |(value, _)| value));
        sql.push_str(&format!("INSERT INTO everything VALUES ({});", cells.collect::<Vec<_>>().join(", ")));
    }
    database.execute(&sql).await;
    (database, rows)
}

fn assert_all(contents: &Contents, rows: usize) {
    for (index, (column_type, values)) in VALUES.iter().enumerate() {
        let mut expected: Vec<Option<String>> = values.iter().map(|(_, text)| text.map(str::to_owned)).collect();
        expected.resize(rows, None);
        assert_eq!(contents.texts(&format!("c{index}")), expected, "{column_type}");
    }
}

#[tokio::test]
async fn every_type_is_read_with_its_extremes_and_nulls() {
    let (database, rows) = table_of_all_types().await;
    for relation in [table("everything"), Relation::Query("SELECT * FROM everything".to_owned())] {
        let source = TestSource::with(database.connection(), relation, |spec| spec.out_of_range = OutOfRange::Empty);
        assert_all(&source.read().await, rows);
    }
}

#[tokio::test]
async fn columns_have_the_arrow_types_that_fit() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE typed (flag bool, small int2, medium int4, large int8, single float4, double float8, amount \
             numeric(12, 2), exact numeric, price price, day date, local timestamp, moment timestamptz, at time, id \
             uuid, document jsonb, list int4[], mood mood)",
        )
        .await;
    let schema = convoke_core::source::Source::describe(&database.table("typed").source).await.unwrap().schema;
    let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let expected = [
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(12, 2),
        DataType::Utf8,
        DataType::Decimal128(10, 2),
        DataType::Date32,
        micros(None),
        micros(Some("+00:00")),
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
    ];
    assert_eq!(types, expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn other_types_are_refused_with_the_cast_that_helps() {
    let database = database().await;
    database.execute("CREATE TABLE hosts (id int, \"Address\" point); INSERT INTO hosts VALUES (1, '(1,2)')").await;
    let error = database.table("hosts").error().await.to_string();
    assert!(error.contains("column `Address` of table `hosts`") && error.contains("`point`"), "{error}");
    assert!(error.contains("`\"Address\"::text AS \"Address\"`"), "{error}");
    let cast = database.query("SELECT id, \"Address\"::text AS \"Address\" FROM hosts").read().await;
    assert_eq!(cast.texts("Address"), [Some("(1,2)".to_owned())]);
    for column_type in ["int4range", "point[]", "money", "tsvector", "pg_lsn"] {
        let error = database.query(&format!("SELECT NULL::{column_type} AS odd")).error().await;
        assert!(chain(&error).contains(&format!("the type `{column_type}`")), "{error}");
    }
}

#[tokio::test]
async fn one_column_and_one_row_wider_than_a_batch_are_read() {
    let database = database().await;
    let contents = database.query("SELECT repeat('x', 5000000) AS wide, 1 AS one UNION ALL SELECT 'y', 2").read().await;
    let lengths: Vec<usize> = contents.texts("wide").iter().map(|text| text.as_ref().unwrap().len()).collect();
    assert_eq!(lengths, [5_000_000, 1]);
}

#[tokio::test]
async fn a_table_without_rows_is_read_as_one() {
    let database = database().await;
    database.execute("CREATE TABLE nothing (id int)").await;
    assert_eq!(database.table("nothing").read().await.records.num_rows(), 0);
}

#[tokio::test]
async fn names_are_taken_as_they_stand() {
    let database = database().await;
    database
        .execute(
            "CREATE SCHEMA \"Odd \"\"schema\"; CREATE TABLE \"Odd \"\"schema\".\"My Table\" (\"Id, or so\" int, \
             \"select\" int); INSERT INTO \"Odd \"\"schema\".\"My Table\" VALUES (1, 2)",
        )
        .await;
    let contents = database.table("Odd \"schema.My Table").read().await;
    assert_eq!(contents.texts("Id, or so"), [Some("1".to_owned())]);
    assert_eq!(contents.texts("select"), [Some("2".to_owned())]);
}

#[tokio::test]
async fn views_partitions_and_materialized_views_are_read_as_tables() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE parts (id int, price numeric(6, 2)) PARTITION BY LIST (id); \
             CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE part_2 PARTITION OF parts DEFAULT; \
             INSERT INTO parts VALUES (1, 1.5), (2, 2); CREATE VIEW seen AS SELECT id, price * 2 AS price FROM parts; \
             CREATE MATERIALIZED VIEW kept AS SELECT * FROM parts",
        )
        .await;
    let two = |first: &str, second: &str| vec![Some(first.to_owned()), Some(second.to_owned())];
    assert_eq!(database.table("parts").read().await.texts("price"), two("1.50", "2.00"));
    assert_eq!(database.table("seen").read().await.texts("price"), two("3.00", "4.00"));
    assert_eq!(database.table("public.kept").read().await.texts("price"), two("1.50", "2.00"));
}
