//! Random rows of random values, with PostgreSQL itself as the oracle.

use arrow::array::AsArray;
use arrow::datatypes::{Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use convoke_testkit::postgres::{PostgresServer, TestDatabase};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;

use crate::test_source::{Contents, Sourced, literal};

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

async fn check(database: &TestDatabase, rows: &[Vec<String>]) -> Result<(), TestCaseError> {
    let values = rows.iter().map(|row| format!("({})", row.join(", "))).collect::<Vec<_>>();
    database.execute(&format!("TRUNCATE any_rows; INSERT INTO any_rows VALUES {}", values.join(", "))).await;
    let contents = database.table("any_rows").read().await;
    prop_assert_eq!(contents.records.num_rows(), rows.len());
    let questions = COLUMNS.iter().map(|(_, _, question)| *question).collect::<Vec<_>>().join(", ");
    let expected = database.rows(&format!("SELECT {questions} FROM any_rows")).await;
    for (index, (name, _, _)) in COLUMNS.iter().enumerate() {
        for (ours, theirs) in said(&contents, name).into_iter().zip(expected.iter().map(|row| row[index].clone())) {
            let same = match (&ours, &theirs) {
                (Some(ours), Some(theirs)) => agree(name, ours, theirs),
                (ours, theirs) => ours == theirs,
            };
            prop_assert!(same, "column `{}`: {:?} and {:?}", name, ours, theirs);
        }
    }
    Ok(())
}

#[test]
fn whatever_stands_in_a_table_is_read_as_postgresql_writes_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let columns = COLUMNS.iter().map(|(name, column_type, _)| format!("{name} {column_type}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let database = runtime.block_on(async {
        let database = PostgresServer::shared().create_database("any_rows").await;
        database.execute(&format!("CREATE TABLE any_rows ({columns})")).await;
        database
    });
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let rows = proptest::collection::vec(row(), 1..20);
    TestRunner::new(config).run(&rows, |rows| runtime.block_on(check(&database, &rows))).unwrap();
}
