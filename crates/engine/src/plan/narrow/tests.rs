//! The shape of the physical plan, on which memory and speed depend.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use convoke_core::source::{Coverage, SourceBatch, Split, SplitContent, SplitItem};
use convoke_core::spec::{ColumnSpec, Dedupe, Expression, Keep, OrderBy, SyncSpec};
use convoke_core::{DataType, HashKey, Timestamp};
use datafusion::physical_plan::displayable;
use futures::StreamExt;

use super::{diff_of, register_records};
use crate::digest::Recipe;
use crate::ledger::segment::{self, Entries};
use crate::plan::PlanRequest;
use crate::rank::Ranking;
use crate::refusals::Refusals;
use crate::spool::SpoolWriter;
use crate::{Engine, EngineSettings};

fn spec() -> SyncSpec {
    let column = |name: &str, sql: &str| ColumnSpec {
        name: name.to_owned(),
        expression: Expression::Sql(sql.to_owned()),
        data_type: DataType::Text,
    };
    let by = vec![OrderBy { expression: Expression::Column("at".to_owned()), descending: false }];
    crate::mapping::test_spec(
        vec![column("Email", "lower(email)"), column("At", "at")],
        Dedupe { keep: Keep::Latest, by },
    )
}

/// The physical plan of the diff of an empty source with these segments, which are empty.
async fn diff_plan(segments: &[&str], compares_order: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let spill_dir = folder.path().join("spill");
    let engine = Engine::new(EngineSettings { memory_limit_bytes: 64 << 20, threads: 1, spill_dir }).unwrap();
    let fields = ["email", "at"].map(|name| Field::new(name, ArrowType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let mut writer = SpoolWriter::create(&folder.path().join("spool"), Arc::clone(&schema)).unwrap();
    let records = SourceBatch { records: RecordBatch::new_empty(schema), positions: vec![], bytes_read: 0 };
    let items = [SplitItem::Records(records), SplitItem::End { fingerprint: String::new() }];
    let split = Split { name: "a.csv".to_owned(), detail: serde_json::Value::Null, bytes: None };
    writer.split(&split, SplitContent::Stream(futures::stream::iter(items.map(Ok)).boxed()), &|_| {}).await.unwrap();
    let spool = writer.finish().await.unwrap();
    let (spec, hash_key) = (spec(), HashKey::from_bytes([1; 32]));
    let segments: Vec<PathBuf> = segments.iter().map(|name| folder.path().join(name)).collect();
    for path in &segments {
        segment::SegmentWriter::create(path).unwrap().finish().unwrap();
    }
    let request = PlanRequest {
        spec: &spec,
        spool: &spool,
        coverage: Coverage::Snapshot,
        complete: true,
        segments: &segments,
        hash_key: &hash_key,
        suppressions: &[],
        refusals: &Refusals::default(),
        limit: None,
        folder: folder.path(),
        keeps_unknown: false,
        now: Timestamp(0),
    };
    let prepared = engine.prepare(&spec, spool.schema(), Timestamp(0)).unwrap();
    let recipe = Recipe::new(&prepared.mapping.active, &hash_key, Ranking::new(&spec.dedupe), vec![]);
    register_records(&prepared.context, &request, &prepared, recipe).unwrap();
    let entries = if compares_order { Entries::WithDeleted } else { Entries::Standing };
    segment::register_ledger(&prepared.context, &segments, "x", entries).await.unwrap();
    let diff = prepared.context.sql(&diff_of(compares_order)).await.unwrap();
    displayable(diff.create_physical_plan().await.unwrap().as_ref()).indent(false).to_string()
}

#[tokio::test]
async fn the_diff_digests_each_record_once_and_only_spilling_operators_work_on_it() {
    let plan = diff_plan(&["base", "delta"], false).await;
    assert_eq!(plan.matches("digest_record(").count(), 1, "{plan}");
    assert_eq!(plan.matches("SortMergeJoin").count(), 2, "{plan}");
    assert!(!plan.contains("HashJoin") && !plan.contains("NestedLoopJoin"), "{plan}");
}

#[tokio::test]
async fn records_are_sorted_and_the_ledger_is_not_sorted_again() {
    for compares_order in [false, true] {
        let plan = diff_plan(&["base"], compares_order).await;
        assert_eq!(plan.matches("SortExec").count(), 1, "{plan}");
    }
}

/// Records are brought together by their order.
#[tokio::test]
async fn records_are_sorted_by_key_also_without_a_ledger() {
    let plan = diff_plan(&[], false).await;
    assert!(plan.contains("SortMergeJoin") && plan.contains("SortExec"), "{plan}");
}

#[tokio::test]
async fn the_ledgers_order_values_are_read_only_to_be_compared() {
    assert!(!diff_plan(&["base", "delta"], false).await.contains("order_value"));
    assert!(diff_plan(&["base", "delta"], true).await.contains("order_value"));
}
