//! What a filter lets through does not depend on what a file tells of its row groups.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use convoke_core::DataType;
use convoke_core::source::{PinnedParquet, SplitContent};
use convoke_core::spec::{Filter, SyncMode};
use convoke_engine::*;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::*;
use crate::pinned::memory_file;

const ROWS: usize = 60;
const GROUP_ROWS: usize = 7;

/// One record: a number that may be missing, and what else is made of it.
fn table(numbers: &[Option<i64>]) -> RecordBatch {
    let emails: StringArray = (0..numbers.len()).map(|row| Some(format!("p{row}@x.co"))).collect();
    let texts: StringArray = numbers.iter().map(|number| number.map(|number| format!("t{number:+}"))).collect();
    let floats: Float64Array = numbers
        .iter()
        .map(|number| number.map(|number| if number == 3 { f64::NAN } else { number as f64 / 2.0 }))
        .collect();
    let flags: BooleanArray = numbers.iter().map(|number| number.map(|number| number % 2 == 0)).collect();
    let days: Date32Array = numbers.iter().map(|number| number.map(|number| number as i32)).collect();
    let times: TimestampMicrosecondArray =
        numbers.iter().map(|number| number.map(|number| number * 86_400_000_000)).collect();
    let decimals: Decimal128Array = numbers.iter().map(|number| number.map(i128::from)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("email", Arc::new(emails) as ArrayRef, true),
        ("number", Arc::new(numbers.iter().copied().collect::<Int64Array>()), true),
        ("text", Arc::new(texts), true),
        ("float", Arc::new(floats), true),
        ("flag", Arc::new(flags), true),
        ("day", Arc::new(days), true),
        ("time", Arc::new(times), true),
        ("amount", Arc::new(decimals.with_precision_and_scale(10, 2).unwrap()), true),
    ])
    .unwrap()
}

fn file_of(batch: &RecordBatch, statistics: EnabledStatistics) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS));
    let properties = properties.set_statistics_enabled(statistics).build();
    let mut contents = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut contents, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    contents
}

fn condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let compared = (0..7_usize, operator, -12_i64..12).prop_map(|(column, operator, value)| match column {
        0 => format!("number {operator} {value}"),
        1 => format!("text {operator} 't{value:+}'"),
        2 => format!("float {operator} {value}.5"),
        3 => format!("day {operator} DATE '1970-01-{:02}'", value.unsigned_abs() + 1),
        4 => format!("time {operator} TIMESTAMP '1970-01-{:02}T00:00:00'", value.unsigned_abs() + 1),
        5 => format!("amount {operator} {value}.01"),
        _ => format!("CAST(text AS BIGINT) {operator} {value}"),
    });
    let other = prop::sample::select(vec![
        "number IS NULL",
        "number IS NOT NULL",
        "flag",
        "NOT flag",
        "text LIKE 't+1%'",
        "number IN (1, 5, 7)",
        "number NOT IN (1, 2)",
        "number BETWEEN -2 AND 4",
        "coalesce(number, 0) = 0",
        "abs(number) > 5",
    ]);
    prop_oneof![3 => compared, 2 => other.prop_map(str::to_owned)]
}

fn filter() -> impl Strategy<Value = String> {
    let joined = (condition(), prop::sample::select(vec!["AND", "OR", "AND NOT", "OR NOT"]), condition());
    prop_oneof![condition(), joined.prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})"))]
}

#[test]
fn files_with_and_without_statistics_give_the_same_plan_for_any_filter() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = World::new();
    let numbers = prop::collection::vec(prop::option::weighted(0.85, -10_i64..10), 1..ROWS);
    let sorted = (numbers, any::<bool>()).prop_map(|(mut numbers, sorted)| {
        if sorted {
            numbers.sort_unstable();
        }
        numbers
    });
    let planned = async |batch: &RecordBatch, statistics, sql: &str| {
        let mut writer = SpoolWriter::create(&world.fresh("spool"), batch.schema()).unwrap();
        let file = memory_file(file_of(batch, statistics));
        let content = SplitContent::Parquet(PinnedParquet { file, constants: vec![] });
        writer.split(&split("x.parquet"), content, &|_| {}).await.unwrap();
        let mut sync = spec(SyncMode::Upsert);
        sync.columns = vec![column("Email", "email", DataType::Email)];
        sync.filter = Some(Filter::Sql(sql.to_owned()));
        let (planned, folder) = world.plan(&sync, &writer.finish().await.unwrap(), None).await;
        (planned.counts, crate::pinned::changes(&folder, &planned))
    };
    TestRunner::new(Config::with_cases(120))
        .run(&(sorted, filter()), |(numbers, sql)| {
            let batch = table(&numbers);
            let (pruned, whole) = runtime.block_on(async {
                (
                    planned(&batch, EnabledStatistics::Page, &sql).await,
                    planned(&batch, EnabledStatistics::None, &sql).await,
                )
            });
            prop_assert_eq!(pruned, whole, "{}", sql);
            Ok(())
        })
        .unwrap();
}
