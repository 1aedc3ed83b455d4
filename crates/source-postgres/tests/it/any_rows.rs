//! Random rows of random values, with PostgreSQL itself as the oracle.

use arrow::array::AsArray;
use arrow::datatypes::{Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use convoke_core::spec::{OutOfRange, UnsupportedTypes};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;

use crate::test_source::{Contents, TestSource, literal, table};

const CASES: u32 = 24;

/// Each column with its type and with what PostgreSQL shall say of it.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("whole", "int8", "whole::text"),
    ("single", "float4", "single::text"),
    ("double", "float8", "double::text"),
    ("exact", "numeric", "exact::text"),
    ("amount", "numeric(30,7)", "amount::text"),
    ("words", "text", "words"),
    ("bytes", "bytea", "bytes::text"),
    ("day", "date", "(day - date '1970-01-01')::text"),
    ("local", "timestamp", "(extract(epoch FROM local) * 1000000)::int8::text"),
    ("moment", "timestamptz", "(extract(epoch FROM moment) * 1000000)::int8::text"),
    ("at", "time", "at::text"),
    ("texts", "text[]", "array_to_json(texts)::text"),
    ("doubles", "float8[]", "array_to_json(doubles)::text"),
    ("exacts", "numeric[]", "array_to_json(exacts)::text"),
    ("moments", "timestamp[]", "array_to_json(moments)::text"),
    ("flags", "bool[]", "array_to_json(flags)::text"),
    ("period", "interval", "period::text"),
    ("periods", "interval[]", "array_to_json(periods)::text"),
    ("host", "inet", "CASE WHEN host IS NOT NULL THEN format('%s', host) END"),
    ("net", "cidr", "net::text"),
    ("card", "macaddr8", "card::text"),
    ("bits", "varbit", "bits::text"),
    ("zoned", "timetz", "zoned::text"),
    ("number", "oid", "number::text"),
    // What the server writes.
    ("range", "int4range", "range::text"),
    ("place", "point", "place::text"),
    ("cash", "money", "cash::numeric::text"),
    ("mixed", "pair", "mixed::text"),
];

/// Days and times of all years, as text, and what PostgreSQL shall say of them.
const FAR: &[(&str, &str, &str)] = &[
    ("day", "date", "day::text"),
    ("local", "timestamp", "regexp_replace(local::text, '^(\\S+) (\\d)', '\\1T\\2')"),
    (
        "moment",
        "timestamptz",
        "regexp_replace(regexp_replace(moment::text, '^(\\S+) (\\d)', '\\1T\\2'), '\\+00', '+00:00')",
    ),
    ("days", "date[]", "array_to_json(days)::text"),
];

fn nullable(value: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![1 => Just("NULL".to_owned()), 4 => value].boxed()
}

fn text() -> impl Strategy<Value = String> {
    "[^\\x00]{0,12}".prop_map(|text| literal(&text))
}

fn double() -> impl Strategy<Value = String> {
    let number = prop_oneof![proptest::num::f64::ANY, (-1000_i32..1000).prop_map(|number| f64::from(number) / 8.0)];
    number.prop_map(|number| format!("'{}'", number.to_string().replace("inf", "Infinity")))
}

fn single() -> impl Strategy<Value = String> {
    proptest::num::f32::ANY.prop_map(|number| format!("'{}'", number.to_string().replace("inf", "Infinity")))
}

fn exact() -> impl Strategy<Value = String> {
    prop_oneof![8 => "-?[0-9]{1,60}(\\.[0-9]{1,50})?", 1 => Just("'NaN'".to_owned())]
}

fn amount() -> impl Strategy<Value = String> {
    "-?[0-9]{1,23}\\.[0-9]{1,7}"
}

fn timestamp() -> impl Strategy<Value = String> {
    (1_u32..=9999, 1_u32..=12, 1_u32..=28, 0_u32..24, 0_u32..60, 0_u32..1_000_000).prop_map(
        |(year, month, day, hour, minute, micros)| {
            format!("'{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:07.{micros:06}'")
        },
    )
}

fn array(element: impl Strategy<Value = String> + 'static, of: &'static str) -> BoxedStrategy<String> {
    let elements = proptest::collection::vec(nullable(element), 0..4);
    let array = (elements, 0_usize..3).prop_map(move |(elements, copies)| {
        let inner = format!("ARRAY[{}]::{of}[]", elements.join(","));
        if elements.is_empty() || copies == 0 { inner } else { format!("ARRAY[{}]", vec![inner; copies].join(",")) }
    });
    nullable(array)
}

fn interval() -> impl Strategy<Value = String> {
    (-2400_i32..2400, -500_i32..500, -100_000_000_000_i64..100_000_000_000).prop_map(|(months, days, micros)| {
        format!("make_interval(months => {months}, days => {days}) + interval '{micros} microseconds'")
    })
}

fn address() -> impl Strategy<Value = String> {
    let four = (any::<u32>(), 0_u8..=32).prop_map(|(bits, mask)| (std::net::Ipv4Addr::from(bits).to_string(), mask));
    let words = prop_oneof![Just(0_u16), any::<u16>()];
    let six = (proptest::array::uniform8(words), 0_u8..=128)
        .prop_map(|(words, mask)| (std::net::Ipv6Addr::from(words).to_string(), mask));
    prop_oneof![four, six].prop_map(|(address, mask)| format!("'{address}/{mask}'::inet"))
}

/// A day of any year that PostgreSQL has times for, or none.
fn far_day() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("'infinity'".to_owned()),
        1 => Just("'-infinity'".to_owned()),
        8 => (-2_400_000_i32..105_000_000).prop_map(|days| format!("(date '2000-01-01' + {days})")),
    ]
}

fn far_row() -> impl Strategy<Value = Vec<String>> {
    let times = |of: &'static str| {
        let time = (far_day(), 0_u64..86_400_000_000);
        time.prop_map(move |(day, micros)| format!("{day}::timestamp::{of} + interval '{micros} microseconds'"))
    };
    let cells: Vec<BoxedStrategy<String>> = vec![
        nullable(far_day()),
        nullable(times("timestamp")),
        nullable(times("timestamptz")),
        array(far_day(), "date"),
    ];
    cells
}

fn row() -> impl Strategy<Value = Vec<String>> {
    let cells: Vec<BoxedStrategy<String>> = vec![
        nullable(any::<i64>().prop_map(|number| format!("'{number}'"))),
        nullable(single()),
        nullable(double()),
        nullable(exact()),
        nullable(amount()),
        nullable(text()),
        nullable("([0-9a-f]{2}){0,20}".prop_map(|hex| format!("'\\x{hex}'"))),
        nullable(timestamp()),
        nullable(timestamp()),
        nullable(timestamp()),
        nullable((0_u64..86_400_000_000).prop_map(|micros| format!("time '00:00' + interval '{micros} microseconds'"))),
        array(text(), "text"),
        array(double(), "float8"),
        array(exact(), "numeric"),
        array(timestamp(), "timestamp"),
        array(any::<bool>().prop_map(|flag| flag.to_string()), "bool"),
        nullable(interval()),
        array(interval(), "interval"),
        nullable(address()),
        nullable(address().prop_map(|address| format!("network({address})"))),
        nullable("([0-9a-f]{2}:){7}[0-9a-f]{2}".prop_map(|card| format!("'{card}'"))),
        nullable("[01]{0,20}".prop_map(|bits| format!("B'{bits}'"))),
        nullable((0_u32..86_400, -15_i32..=15).prop_map(|(seconds, hours)| {
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            format!("'{hour:02}:{minute:02}:{second:02}{hours:+03}:30'")
        })),
        nullable(any::<u32>().prop_map(|number| number.to_string())),
        nullable((-99_i32..0, 0_i32..99).prop_map(|(from, to)| format!("int4range({from}, {to})"))),
        nullable((-99_i32..99, -99_i32..99).prop_map(|(x, y)| format!("point({x}, {y}.5)"))),
        nullable((-99_999_i32..99_999).prop_map(|cents| format!("({cents} / 100.0)::numeric::money"))),
        nullable((any::<i32>(), text()).prop_map(|(number, text)| format!("ROW({number}, {text})::pair"))),
    ];
    cells
}

/// What was read, in the words of the oracle.
fn said(contents: &Contents, name: &str) -> Vec<Option<String>> {
    let column = contents.column(name);
    match name {
        "day" => column.as_primitive::<Date32Type>().iter().map(|day| day.map(|day| day.to_string())).collect(),
        "local" | "moment" => {
            let times = column.as_primitive::<TimestampMicrosecondType>();
            times.iter().map(|time| time.map(|time| time.to_string())).collect()
        }
        "whole" => {
            column.as_primitive::<Int64Type>().iter().map(|whole| whole.map(|whole| whole.to_string())).collect()
        }
        "single" => {
            let singles = column.as_primitive::<Float32Type>();
            singles.iter().map(|single| single.map(|single| single.to_string())).collect()
        }
        "double" => {
            let doubles = column.as_primitive::<Float64Type>();
            doubles.iter().map(|double| double.map(|double| double.to_string())).collect()
        }
        _ => contents.texts(name),
    }
}

/// Whether two texts of a column mean the same.
fn agree(name: &str, ours: &str, theirs: &str) -> bool {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    match name {
        "single" => ours.parse::<f32>().unwrap().to_bits() == theirs.parse::<f32>().unwrap().to_bits(),
        "double" => ours.parse::<f64>().unwrap().to_bits() == theirs.parse::<f64>().unwrap().to_bits(),
        "texts" => json(ours) == json(theirs),
        "doubles" => same_numbers(&json(ours), &json(theirs)),
        _ => ours == theirs,
    }
}

/// Whether two documents are the same, in whatever spelling their numbers are.
fn same_numbers(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same_numbers(ours, theirs))
        }
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        (ours, theirs) => ours == theirs,
    }
}

type Question = (&'static str, &'static str, &'static str);

async fn check(database: &TestDatabase, columns: &[Question], rows: &[Vec<String>]) -> Result<(), TestCaseError> {
    let values = rows.iter().map(|row| format!("({})", row.join(", "))).collect::<Vec<_>>();
    database.execute(&format!("TRUNCATE any_rows; INSERT INTO any_rows VALUES {}", values.join(", "))).await;
    let is_far = columns.len() == FAR.len();
    let source = TestSource::with(database.connection(), table("any_rows"), |spec| {
        spec.unsupported = UnsupportedTypes::Text;
        spec.out_of_range = if is_far { OutOfRange::Text } else { OutOfRange::Error };
    });
    let contents = source.read().await;
    prop_assert_eq!(contents.records.num_rows(), rows.len());
    let questions = columns.iter().map(|(_, _, question)| *question).collect::<Vec<_>>().join(", ");
    let expected = database.rows(&format!("SELECT {questions} FROM any_rows")).await;
    for (index, (name, _, _)) in columns.iter().enumerate() {
        let said = if is_far { contents.texts(name) } else { said(&contents, name) };
        for (ours, theirs) in said.into_iter().zip(expected.iter().map(|row| row[index].clone())) {
            let same = match (&ours, &theirs) {
                (Some(ours), Some(theirs)) => agree(name, ours, theirs),
                (ours, theirs) => ours == theirs,
            };
            prop_assert!(same, "column `{}`: {:?} and {:?}", name, ours, theirs);
        }
    }
    Ok(())
}

fn check_all(columns: &'static [Question], row: impl Strategy<Value = Vec<String>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let definitions = columns.iter().map(|(name, column_type, _)| format!("{name} {column_type}"));
    let definitions = definitions.collect::<Vec<_>>().join(", ");
    let database = runtime.block_on(async {
        let database = PostgresServer::shared().create_database("any_rows").await;
        let name = database.connection().database;
        let styles = format!(
            "ALTER DATABASE \"{name}\" SET IntervalStyle = 'iso_8601'; ALTER DATABASE \"{name}\" SET TimeZone = 'UTC'; \
             CREATE TYPE pair AS (a int, b text)"
        );
        database.execute(&styles).await;
        database.execute(&format!("CREATE TABLE any_rows ({definitions})")).await;
        database
    });
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let rows = proptest::collection::vec(row, 1..20);
    TestRunner::new(config).run(&rows, |rows| runtime.block_on(check(&database, columns, &rows))).unwrap();
}

#[test]
fn whatever_stands_in_a_table_is_read_as_postgresql_writes_it() {
    check_all(COLUMNS, row());
}

#[test]
fn days_and_times_of_all_years_are_read_as_text_where_that_is_asked_for() {
    check_all(FAR, far_row());
}
