//! An engine, a spool and a ledger in a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use convoke_core::journal::{Entry, EntryId, Intent, IntentRow, Operation, RowOutcome};
use convoke_core::ledger::{LedgerManifest, SegmentStore, StagedSegment};
use convoke_core::plan::PlannedBatch;
use convoke_core::sink::AttemptTag;
use convoke_core::source::{Coverage, SourceBatch, Split, SplitContent, SplitItem};
use convoke_core::spec::*;
use convoke_core::{AudienceKey, ConnectionName, DataType, HashKey, PlanId, RowId, StateError, SyncName, Timestamp};
use convoke_engine::*;
use futures::StreamExt;
use tempfile::TempDir;

pub(crate) type Record = Vec<Option<String>>;

pub(crate) fn record(cells: &[&str]) -> Record {
    cells.iter().map(|cell| (!cell.is_empty()).then(|| (*cell).to_owned())).collect()
}

pub(crate) fn schema(columns: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|name| Field::new(*name, ArrowType::Utf8, true)).collect::<Vec<_>>()))
}

pub(crate) fn batch(schema: &SchemaRef, records: &[Record]) -> RecordBatch {
    let column = |index: usize| -> ArrayRef {
        Arc::new(records.iter().map(|record| record[index].as_deref()).collect::<StringArray>())
    };
    RecordBatch::try_new(Arc::clone(schema), (0..schema.fields().len()).map(column).collect()).unwrap()
}

pub(crate) fn split(name: &str) -> Split {
    Split { name: name.to_owned(), detail: serde_json::Value::Null, bytes: None }
}

pub(crate) fn items(schema: &SchemaRef, records: &[Record]) -> Vec<SplitItem> {
    let mut items = Vec::new();
    for (index, part) in records.chunks(10_000).enumerate() {
        let first = index as u64 * 10_000 + 2;
        items.push(SplitItem::Records(SourceBatch {
            records: batch(schema, part),
            positions: (first..first + part.len() as u64).collect(),
            bytes_read: 0,
        }));
    }
    items.push(SplitItem::End { fingerprint: "print".to_owned() });
    items
}

pub(crate) fn column(name: &str, sql: &str, data_type: DataType) -> ColumnSpec {
    ColumnSpec { name: name.to_owned(), expression: Expression::Sql(sql.to_owned()), data_type }
}

/// Source columns `email`, `name`, `updated_at`; key Email.
pub(crate) fn spec(mode: SyncMode) -> SyncSpec {
    SyncSpec {
        name: SyncName::new("booth-scans"),
        source: SourceSpec::CsvDrop(CsvDropSpec {
            place: DropPlace::Folder { path: PathBuf::new() },
            pattern: "*.csv".to_owned(),
            drop_mode: DropMode::Snapshot,
            settle: Duration::ZERO,
            done_suffix: None,
            manifest: None,
            processed: ProcessedFiles::Keep,
            delimiter: Some(','),
            encoding: None,
            columns: vec![],
            aliases: vec![],
            max_malformed: 1.0,
        }),
        filter: None,
        deleted: None,
        columns: vec![
            column("Email", "lower(trim(email))", DataType::Email),
            ColumnSpec {
                name: "Name".to_owned(),
                expression: Expression::Column("name".to_owned()),
                data_type: DataType::Text,
            },
        ],
        key: vec!["Email".to_owned()],
        dedupe: Dedupe { keep: Keep::Latest, by: vec![] },
        audience: AudienceSpec {
            connection: ConnectionName::new("zoominfo"),
            name: "Booth".to_owned(),
            id: None,
            kind: AudienceKind::Contact,
            folder: None,
            description: None,
            match_criteria: vec![],
            match_columns: vec![],
        },
        mode,
        guards: Guards::default(),
        suppressions: vec![],
        resend_for: Duration::ZERO,
        shared: false,
        removed_at_destination: Default::default(),
        after: None,
        schedule: ScheduleSpec::Manual,
        arrival: None,
    }
}

pub(crate) fn by(sql: &str) -> OrderBy {
    OrderBy { expression: Expression::Sql(sql.to_owned()), descending: false }
}

pub(crate) fn columns() -> SchemaRef {
    schema(&["email", "name", "updated_at"])
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) engine: Engine,
    pub(crate) hash_key: HashKey,
    pub(crate) store: FolderStore,
    pub(crate) manifest: Option<LedgerManifest>,
    /// A segment that plans take to be newer than the ledger's.
    pub(crate) overlay: Option<PathBuf>,
    pub(crate) suppressions: Vec<SuppressionList>,
    pub(crate) refusals: Refusals,
    /// Of what is planned next.
    pub(crate) coverage: Coverage,
    pub(crate) is_complete: bool,
    pub(crate) keeps_unknown: bool,
    next: AtomicUsize,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_memory(256 << 20)
    }

    pub(crate) fn with_memory(memory_limit_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = EngineSettings { memory_limit_bytes, threads: 2, spill_dir: folder.path().join("spill [1]") };
        let store = FolderStore { folder: folder.path().to_owned(), next: AtomicUsize::new(0) };
        Self {
            engine: Engine::new(settings).unwrap(),
            hash_key: HashKey::from_bytes([7; 32]),
            store,
            manifest: None,
            overlay: None,
            suppressions: vec![],
            refusals: Refusals::default(),
            coverage: Coverage::Snapshot,
            is_complete: true,
            keeps_unknown: false,
            next: AtomicUsize::new(0),
            folder,
        }
    }

    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name} [{}]", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) async fn spool(&self, schema: &SchemaRef, splits: &[&[Record]]) -> Spool {
        let mut writer = SpoolWriter::create(&self.fresh("spool"), Arc::clone(schema)).unwrap();
        for (index, records) in splits.iter().enumerate() {
            let stream = futures::stream::iter(items(schema, records).into_iter().map(Ok)).boxed();
            writer.split(&split(&format!("file-{index}.csv")), SplitContent::Stream(stream), &|_| {}).await.unwrap();
        }
        writer.finish().await.unwrap()
    }

    /// A spool of one split with these items.
    pub(crate) async fn spool_of(&self, items: Vec<SplitItem>) -> Spool {
        let mut writer = SpoolWriter::create(&self.fresh("spool"), columns()).unwrap();
        let stream = futures::stream::iter(items.into_iter().map(Ok)).boxed();
        writer.split(&split("file-0.csv"), SplitContent::Stream(stream), &|_| {}).await.unwrap();
        writer.finish().await.unwrap()
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let names = self.manifest.iter().flat_map(|manifest| &manifest.segments);
        names.map(|segment| self.store.path(&segment.name)).collect()
    }

    pub(crate) async fn plan(&self, spec: &SyncSpec, spool: &Spool, limit: Option<u64>) -> (Planned, PathBuf) {
        let folder = self.fresh("plan");
        let planned = self.try_plan(spec, spool, limit, &folder).await.unwrap();
        (planned, folder)
    }

    pub(crate) async fn try_plan(
        &self,
        spec: &SyncSpec,
        spool: &Spool,
        limit: Option<u64>,
        folder: &Path,
    ) -> Result<Planned, EngineError> {
        let segments: Vec<_> = self.segments().into_iter().chain(self.overlay.clone()).collect();
        let request = PlanRequest {
            spec,
            spool,
            coverage: self.coverage,
            complete: self.is_complete,
            segments: &segments,
            hash_key: &self.hash_key,
            suppressions: &self.suppressions,
            refusals: &self.refusals,
            limit,
            folder,
            keeps_unknown: self.keeps_unknown,
            now: Timestamp(0),
        };
        self.engine.plan(request).await
    }

    pub(crate) async fn fold(&mut self, spec: &SyncSpec, entries: Vec<Entry>) -> Folded {
        self.fold_with(spec, entries, None).await
    }

    pub(crate) async fn fold_with(
        &mut self,
        spec: &SyncSpec,
        entries: Vec<Entry>,
        confirmed: Option<ConfirmedRecords>,
    ) -> Folded {
        let identity = ledger_identity(spec, &self.hash_key);
        let audience = audience();
        let request = FoldRequest {
            audience: &audience,
            manifest: self.manifest.as_ref(),
            identity: &identity,
            segments: &self.store,
        };
        let stream = futures::stream::iter(entries.into_iter().map(Ok)).boxed();
        let confirmed = confirmed.map(|records| Confirmed { sync: &spec.name, records });
        let folded = self.engine.fold(request, stream, confirmed).await.unwrap();
        assert!(folded.counts.is_balanced(), "{:?}", folded.counts);
        self.manifest = Some(folded.manifest.clone());
        folded
    }

    /// Plans, acknowledges every change, folds.
    pub(crate) async fn settle(&mut self, spec: &SyncSpec, records: &[Record]) -> Planned {
        let spool = self.spool(&columns(), &[records]).await;
        let (planned, folder) = self.plan(spec, &spool, None).await;
        let entries = batches(&folder, &planned).into_iter().map(|batch| acknowledge(spec, batch)).collect();
        let confirmed = ConfirmedRecords::open(&folder, &planned.files).unwrap();
        self.fold_with(spec, entries, confirmed).await;
        planned
    }
}

pub(crate) fn batches(folder: &Path, planned: &Planned) -> Vec<PlannedBatch> {
    PlanBatches::open(folder, &planned.files, 500, 1_000).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn audience() -> AudienceKey {
    AudienceKey { connection: ConnectionName::new("zoominfo"), audience_id: "1".to_owned() }
}

pub(crate) fn acknowledge(spec: &SyncSpec, batch: PlannedBatch) -> Entry {
    let outcome = |row: &IntentRow| RowOutcome::Acknowledged {
        row_id: row.row_id.clone().unwrap_or_else(|| RowId::new(format!("row-{}", row.key))),
    };
    let outcomes = batch.rows.iter().map(outcome).collect();
    entry(spec, batch.operation, batch.rows, outcomes)
}

pub(crate) fn entry(spec: &SyncSpec, operation: Operation, rows: Vec<IntentRow>, outcomes: Vec<RowOutcome>) -> Entry {
    let intent = Intent {
        plan: PlanId::parse("00000000-0000-7000-8000-000000000000").unwrap(),
        sync: spec.name.clone(),
        audience: audience(),
        batch: 0,
        operation,
        attempt: 1,
        tag: AttemptTag(1),
        intended_at: Timestamp(0),
        rows,
    };
    Entry { id: EntryId(1), intent, outcomes: Some(outcomes) }
}

/// Segments as files of one folder.
pub(crate) struct FolderStore {
    folder: PathBuf,
    next: AtomicUsize,
}

impl FolderStore {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

#[async_trait]
impl SegmentStore for FolderStore {
    async fn stage(&self, _audience: &AudienceKey) -> Result<StagedSegment, StateError> {
        let name = format!("segment-{}.parquet", self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.path(&name);
        Ok(StagedSegment { name, path })
    }

    async fn seal(&self, _staged: StagedSegment) -> Result<(), StateError> {
        Ok(())
    }

    async fn open(&self, name: &str) -> Result<PathBuf, StateError> {
        Ok(self.path(name))
    }

    async fn remove(&self, names: &[String]) -> Result<(), StateError> {
        for name in names {
            let _ = std::fs::remove_file(self.path(name));
        }
        Ok(())
    }

    async fn list(&self, _audience: &AudienceKey) -> Result<Vec<String>, StateError> {
        Ok(vec![])
    }
}
