//! SQLite admits the rows that the evaluator admits.

use chrono::NaiveDate;
use convoke_core::DataType;
use convoke_core::rule::{Condition, Literal, Operator, Rule};
use convoke_rules::compile::{Bind, ColumnAccess, sqlite};
use convoke_rules::{Cell, evaluate, operators_for, validate};
use proptest::prelude::*;
use serde_json::json;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

/// One column of each kind; the table's columns bear the same names.
const COLUMNS: &[(&str, DataType)] = &[
    ("words", DataType::Text),
    ("amount", DataType::Decimal),
    ("day", DataType::Date),
    ("flag", DataType::Boolean),
    ("tags", DataType::StringList),
    ("sizes", DataType::NumberList),
    ("stage", DataType::Picklist),
    ("person", DataType::ZiContactId),
];

fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 20).unwrap()
}

fn access(column: &str) -> Option<ColumnAccess> {
    let (name, data_type) = COLUMNS.iter().find(|(name, _)| *name == column)?;
    Some(ColumnAccess { sql: format!("cells.{name}"), data_type: *data_type })
}

/// Few letters and many separators, so that matches and near misses are frequent.
fn some_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[aAbB äÄ_.*?\\[\\]^'\"-]{0,6}",
        1 => "[a-zA-ZäöüÄÖÜß0-9\n%-]{0,8}",
        1 => Just("2026-11-19".to_owned()),
    ]
}

fn some_number() -> impl Strategy<Value = f64> {
    prop_oneof![(-5i32..5).prop_map(f64::from), (-50i32..50).prop_map(|tenths| f64::from(tenths) / 10.0)]
}

fn some_day() -> impl Strategy<Value = String> {
    (0i64..60).prop_map(|offset| (today() - chrono::Duration::days(offset - 10)).format("%Y-%m-%d").to_string())
}

fn some_cell(data_type: DataType) -> BoxedStrategy<Cell> {
    let text = some_text().prop_map(Cell::Text);
    let filled = match data_type {
        DataType::Decimal => some_number().prop_map(Cell::Number).boxed(),
        DataType::Date => {
            let timed = some_day().prop_map(|day| Cell::Text(format!("{day}T10:00:00Z")));
            prop_oneof![4 => some_day().prop_map(Cell::Text), 1 => timed, 1 => text].boxed()
        }
        DataType::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
        DataType::StringList => proptest::collection::vec(some_text(), 0..4).prop_map(Cell::TextList).boxed(),
        DataType::NumberList => proptest::collection::vec(some_number(), 0..4).prop_map(Cell::NumberList).boxed(),
        _ => text.boxed(),
    };
    prop_oneof![1 => Just(Cell::Null), 6 => filled].boxed()
}

fn some_values(data_type: DataType, operator: Operator) -> BoxedStrategy<Vec<Literal>> {
    let text = some_text().prop_filter("no empty text in a rule", |text| !text.is_empty()).prop_map(Literal::Text);
    let number = some_number().prop_map(Literal::Number);
    let day = some_day().prop_map(Literal::Text);
    let sorted_numbers = (some_number(), some_number())
        .prop_map(|(one, other)| vec![Literal::Number(one.min(other)), Literal::Number(one.max(other))]);
    let sorted_days = (some_day(), some_day())
        .prop_map(|(one, other)| vec![Literal::Text(one.clone().min(other.clone())), Literal::Text(one.max(other))]);
    let is_numeric = matches!(data_type, DataType::Decimal | DataType::NumberList);
    match operator {
        Operator::Empty | Operator::NotEmpty | Operator::IsTrue | Operator::IsFalse => Just(vec![]).boxed(),
        Operator::InRange => sorted_numbers.boxed(),
        Operator::Within => sorted_days.boxed(),
        Operator::RollingRange => (0u8..40).prop_map(|days| vec![Literal::Number(f64::from(days))]).boxed(),
        Operator::IsExactDate | Operator::Before | Operator::After => day.prop_map(|day| vec![day]).boxed(),
        Operator::Equals | Operator::NotEquals | Operator::HasOneOf | Operator::HasNoneOf | Operator::HasAllOf
            if is_numeric =>
        {
            proptest::collection::vec(number, 1..4).boxed()
        }
        _ if is_numeric => number.prop_map(|number| vec![number]).boxed(),
        _ => proptest::collection::vec(text, 1..4).boxed(),
    }
}

fn some_condition() -> impl Strategy<Value = Rule> {
    (0..COLUMNS.len(), any::<prop::sample::Index>()).prop_flat_map(|(index, choice)| {
        let (column, data_type) = COLUMNS[index];
        let operators = operators_for(data_type);
        let operator = operators[choice.index(operators.len())].operator;
        some_values(data_type, operator)
            .prop_map(move |values| Rule::Condition(Condition { column: column.to_owned(), operator, values }))
    })
}

fn some_rule() -> impl Strategy<Value = Rule> {
    some_condition().prop_recursive(3, 12, 4, |part| {
        prop_oneof![
            proptest::collection::vec(part.clone(), 0..4).prop_map(Rule::All),
            proptest::collection::vec(part, 0..4).prop_map(Rule::Any),
        ]
    })
}

fn some_row() -> impl Strategy<Value = Vec<Cell>> {
    COLUMNS.iter().map(|(_, data_type)| some_cell(*data_type)).collect::<Vec<_>>()
}

fn judged(rule: &Rule, row: &[Cell]) -> bool {
    let columns: Vec<(String, DataType)> =
        COLUMNS.iter().map(|(name, data_type)| ((*name).to_owned(), *data_type)).collect();
    let valid = validate(rule, &columns).unwrap();
    let cell = |column: &str| {
        let index = COLUMNS.iter().position(|(name, _)| *name == column).unwrap();
        row[index].clone()
    };
    evaluate(&valid, &cell, today())
}

async fn table_with(rows: &[Vec<Cell>]) -> SqliteConnection {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let create = format!("CREATE TABLE cells (id INTEGER PRIMARY KEY, {})", names.join(", "));
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    let insert = format!("INSERT INTO cells VALUES (?{})", ", ?".repeat(names.len()));
    for (id, row) in rows.iter().enumerate() {
        let mut query = sqlx::query(sqlx::AssertSqlSafe(insert.clone())).bind(id as i64);
        for cell in row {
            query = match cell {
                Cell::Null => query.bind(None::<String>),
                Cell::Text(text) => query.bind(text.clone()),
                Cell::Number(number) => query.bind(*number),
                Cell::Boolean(value) => query.bind(*value),
                Cell::TextList(items) => query.bind(json!(items).to_string()),
                Cell::NumberList(items) => query.bind(json!(items).to_string()),
            };
        }
        query.execute(&mut connection).await.unwrap();
    }
    connection
}

async fn found(rule: &Rule, connection: &mut SqliteConnection) -> Vec<usize> {
    let (predicate, binds) = sqlite(rule, &access, today()).unwrap();
    let select = format!("SELECT id FROM cells WHERE {predicate} ORDER BY id");
    let mut query = sqlx::query(sqlx::AssertSqlSafe(select));
    for bind in binds {
        query = match bind {
            Bind::Text(text) => query.bind(text),
            Bind::Number(number) => query.bind(number),
        };
    }
    let rows = query.fetch_all(connection).await.unwrap();
    rows.iter().map(|row: &SqliteRow| row.get::<i64, _>(0) as usize).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn sqlite_finds_the_rows_that_the_evaluator_admits(
        rows in proptest::collection::vec(some_row(), 1..25),
        rules in proptest::collection::vec(some_rule(), 1..12),
    ) {
        let disagreements = runtime().block_on(async {
            let mut connection = table_with(&rows).await;
            let mut disagreements = Vec::new();
            for rule in &rules {
                let expected: Vec<usize> = (0..rows.len()).filter(|&id| judged(rule, &rows[id])).collect();
                let found = found(rule, &mut connection).await;
                if found != expected {
                    disagreements.push((rule.clone(), found, expected));
                }
            }
            disagreements
        });
        prop_assert!(disagreements.is_empty(), "{disagreements:?} over {rows:?}");
    }
}

#[test]
fn sqlite_admits_what_the_documented_meaning_says() {
    let text = |text: &str| Literal::Text(text.to_owned());
    let cases = [
        ("words", Cell::Text("VP, Sales".into()), Operator::ContainsWord, vec![text("SALES")], true),
        ("words", Cell::Text("SVP".into()), Operator::ContainsWord, vec![text("vp")], false),
        ("words", Cell::Text("MÜLLER".into()), Operator::Equals, vec![text("müller")], false),
        ("words", Cell::Text("MÜLLER".into()), Operator::Equals, vec![text("mÜller")], true),
        ("words", Cell::Text("50% off".into()), Operator::Contains, vec![text("%")], true),
        ("words", Cell::Null, Operator::NotEquals, vec![text("a")], true),
        ("day", Cell::Text("2026-11-13".into()), Operator::RollingRange, vec![Literal::Number(7.0)], true),
        ("day", Cell::Text("2026-11-12".into()), Operator::RollingRange, vec![Literal::Number(7.0)], false),
        ("amount", Cell::Number(2.0), Operator::InRange, vec![Literal::Number(1.0), text("2")], true),
        ("tags", Cell::TextList(vec![]), Operator::Empty, vec![], true),
        ("tags", Cell::TextList(vec!["Gold".into()]), Operator::HasAllOf, vec![text("gold")], true),
        ("sizes", Cell::NumberList(vec![7.0]), Operator::HasNoneOf, vec![text("7")], false),
        ("flag", Cell::Boolean(false), Operator::IsFalse, vec![], true),
    ];
    runtime().block_on(async {
        for (column, cell, operator, values, expected) in cases {
            let rule = Rule::Condition(Condition { column: column.to_owned(), operator, values });
            let row: Vec<Cell> =
                COLUMNS.iter().map(|(name, _)| if *name == column { cell.clone() } else { Cell::Null }).collect();
            let mut connection = table_with(std::slice::from_ref(&row)).await;
            assert_eq!(judged(&rule, &row), expected, "evaluator: {rule:?} on {cell:?}");
            assert_eq!(found(&rule, &mut connection).await, if expected { vec![0] } else { vec![] }, "{rule:?}");
        }
    });
}
