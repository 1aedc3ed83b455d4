//! The engine's entry: settings, session, and one method per job.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, NaiveDate};
use convoke_core::journal::Entry;
use convoke_core::ledger::LedgerEntry;
use convoke_core::plan::PlanFile;
use convoke_core::sink::ScannedRow;
use convoke_core::spec::SyncSpec;
use convoke_core::{HashKey, KeyHash, StateError, Timestamp};
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::SortExpr;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::BoxStream;

use crate::audit::{self, AuditRequest, Audited};
use crate::batches::AbsentRows;
use crate::check::{self, ExpressionProblem};
use crate::error::{EngineError, QueryFailure, QueryScope};
use crate::expression::{Compiled, compile};
use crate::ledger::adopt::{self, AdoptRequest, Adopted};
use crate::ledger::fold::{self, Confirmed, FoldRequest, Folded, NewOwner};
use crate::ledger::scanned::RowHasher;
use crate::ledger::segment::{self, Entries};
use crate::mapping::{self, Mapping};
use crate::memory_pool::LendingPool;
use crate::nested::{self, NestedPlanner};
use crate::plan::removal::RemovalRequest;
use crate::plan::{self, PlanRequest, Planned};
use crate::preview::{self, PreviewRecord, PreviewRequest};
use crate::query_threads::QueryThreads;
use crate::spool::{GROUP_BUDGET_BYTES, Spool};
use crate::trace::{self, Places, Trace, TraceRequest};
use crate::{files, functions, identity, key_text};

/// Rows per batch within a query.
pub(crate) const BATCH_ROWS: usize = 8_192;
/// Below this share of the memory limit per thread a sort could not even merge what it spilled.
const SORT_RESERVATION_SHARE: usize = 32;
/// What a sort sets aside for merging unless the limit is small: the query engine's default.
const SORT_RESERVATION_BYTES: usize = 10 << 20;

/// The share of the memory limit that goes, on top, into reading pinned files.
const READ_SHARE: usize = 8;
/// Less would make requests so short that their latency is all that counts.
const LEAST_READ_BYTES: u64 = 4 << 20;

/// What the engine may use.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Memory for sorts and joins together; beyond it they spill.
    pub memory_limit_bytes: usize,
    /// Threads that work on one query.
    pub threads: usize,
    /// Where queries spill to; made with mode 0700 if it is not there.
    pub spill_dir: PathBuf,
}

/// Computes plans and ledger segments. Its methods may run in parallel and share the memory limit.
pub struct Engine {
    settings: EngineSettings,
    runtime: Arc<RuntimeEnv>,
    threads: QueryThreads,
}

/// A sync's expressions, compiled against its source, with the session that runs them.
pub(crate) struct Prepared {
    pub(crate) context: SessionContext,
    pub(crate) compiled: Compiled,
    pub(crate) mapping: Mapping,
}

impl Prepared {
    /// The source columns that any expression of the sync reads.
    pub(crate) fn columns_read(&self, spec: &SyncSpec, schema: &SchemaRef) -> SchemaRef {
        let mapped = self.mapping.active.expressions(spec, &self.compiled);
        let Compiled { filter, deleted, order, .. } = &self.compiled;
        mapping::columns_read(mapped.iter().chain(filter).chain(deleted).chain(order), schema)
    }
}

impl Engine {
    /// Makes the spill folder, the memory pool and the threads.
    pub fn new(settings: EngineSettings) -> Result<Self, EngineError> {
        files::make_private_folder(&settings.spill_dir)?;
        let directories = DiskManagerMode::Directories(vec![settings.spill_dir.clone()]);
        let built = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(LendingPool::new(settings.memory_limit_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(directories))
            .build_arc();
        let scope = QueryScope { memory_limit_bytes: settings.memory_limit_bytes, spill_dir: &settings.spill_dir };
        let runtime = built.map_err(|cause| EngineError::query("start the query engine", &cause, &scope))?;
        let threads = QueryThreads::start(settings.threads).map_err(|cause| EngineError::Query {
            action: "start the threads of the query engine",
            cause: QueryFailure(cause.kind().to_string()),
        })?;
        Ok(Self { settings, runtime, threads })
    }

    /// Holds every expression of a sync against its source's columns; returns all problems at once.
    pub async fn check(&self, spec: &SyncSpec, schema: &SchemaRef) -> Vec<ExpressionProblem> {
        check::check(&self.session(), spec, schema)
    }

    /// Computes what a run will change and writes it to the plan's folder.
    pub async fn plan(&self, request: PlanRequest<'_>) -> Result<Planned, EngineError> {
        self.threads.run(Box::pin(plan::plan(self, request))).await
    }

    /// Shows what would become of the first records, changing nothing.
    pub async fn preview(&self, request: PreviewRequest<'_>) -> Result<Vec<PreviewRecord>, EngineError> {
        self.threads.run(Box::pin(preview::preview(self, &request))).await
    }

    /// Tells what becomes of the records of a key, changing nothing.
    pub async fn trace(&self, request: TraceRequest<'_>) -> Result<Trace, EngineError> {
        self.threads.run(Box::pin(trace::trace(self, request))).await
    }

    /// The forms that the texts of a key may have, whether they are a key or not: as typed, and as the mapping makes them.
    pub fn key_texts(&self, spec: &SyncSpec, schema: Option<&SchemaRef>, cells: &[String]) -> Vec<Vec<String>> {
        let prepared = schema.and_then(|schema| self.prepare(spec, schema, Timestamp::default()).ok());
        key_text::forms(prepared.as_ref().map(|prepared| &prepared.mapping), cells)
    }

    /// Finds the records whose key columns hold one of these texts.
    pub async fn find_key_text(
        &self,
        spec: &SyncSpec,
        spool: &Spool,
        texts: &[Vec<String>],
    ) -> Result<Places, EngineError> {
        self.threads.run(Box::pin(key_text::find(self, spec, spool, texts))).await
    }

    /// Folds closed journal entries, oldest first, and then what a plan has confirmed, into a new ledger segment.
    pub async fn fold(
        &self,
        request: FoldRequest<'_>,
        entries: BoxStream<'_, Result<Entry, StateError>>,
        confirmed: Option<Confirmed<'_>>,
    ) -> Result<Folded, EngineError> {
        self.threads.run(Box::pin(fold::fold(self, request, entries, confirmed))).await
    }

    /// Ends the ledger's entries of rows that a plan found to be gone.
    pub async fn end_absent(&self, request: FoldRequest<'_>, absent: AbsentRows) -> Result<Folded, EngineError> {
        self.threads.run(Box::pin(fold::end_absent(self, request, absent))).await
    }

    /// Takes rows that an audience already holds into its ledger, by their key cells.
    pub async fn adopt(
        &self,
        request: AdoptRequest<'_>,
        rows: BoxStream<'_, Result<ScannedRow, convoke_core::SinkError>>,
    ) -> Result<Adopted, EngineError> {
        self.threads.run(Box::pin(adopt::adopt(self, request, rows))).await
    }

    /// Writes the ledger anew with every row of one owner as another's.
    pub async fn reassign(&self, request: FoldRequest<'_>, owner: NewOwner) -> Result<Folded, EngineError> {
        self.threads.run(Box::pin(fold::reassign(self, request, owner))).await
    }

    /// Computes the plan that deletes every row of a sync.
    pub async fn plan_removal(&self, request: RemovalRequest<'_>) -> Result<Planned, EngineError> {
        self.threads.run(Box::pin(plan::removal::plan(self, request))).await
    }

    /// Holds what an audience has against its ledger.
    pub async fn audit(
        &self,
        request: AuditRequest<'_>,
        rows: BoxStream<'_, Result<ScannedRow, convoke_core::SinkError>>,
    ) -> Result<Audited, EngineError> {
        self.threads.run(Box::pin(audit::audit(self, request, rows))).await
    }

    /// Tells of an audit's samples what a plan from the audited ledger says of them: origins, and columns that differ.
    pub async fn describe_samples(
        &self,
        audited: Audited,
        (spec, hash_key): (&SyncSpec, &HashKey),
        folder: &Path,
        files: &[PlanFile],
    ) -> Result<Audited, EngineError> {
        let (hasher, folder, files) = (RowHasher::new(spec, hash_key), folder.to_owned(), files.to_vec());
        let describe = plan::blocking(move || audit::describe(audited, &hasher, &folder, &files));
        self.threads.run(Box::pin(describe)).await
    }

    /// Finds the rows that a ledger has for these keys. `segments` oldest first.
    pub async fn look_up(&self, segments: &[PathBuf], keys: &[KeyHash]) -> Result<Vec<LedgerEntry>, EngineError> {
        segment::look_up(segments, keys, Entries::Standing)
    }

    /// [`Engine::look_up`], with what is left of rows that were deleted: what a trace has to know.
    pub async fn look_up_all(&self, segments: &[PathBuf], keys: &[KeyHash]) -> Result<Vec<LedgerEntry>, EngineError> {
        segment::look_up(segments, keys, Entries::WithDeleted)
    }

    /// Hashes a key as a user types it in every form that it may have: as it is, and, given the source's columns, as
    /// the mapping would make it of a source value.
    pub fn keys_of(
        &self,
        spec: &SyncSpec,
        hash_key: &HashKey,
        schema: Option<&SchemaRef>,
        cells: &[String],
    ) -> Result<Vec<KeyHash>, EngineError> {
        let prepared = schema.map(|schema| self.prepare(spec, schema, Timestamp::default())).transpose()?;
        identity::keys_of(spec, hash_key, prepared.as_ref().map(|prepared| &prepared.mapping), cells)
    }

    /// The source columns that a sync reads; none if its expressions do not fit the source, which planning tells.
    pub fn columns_read(&self, spec: &SyncSpec, schema: &SchemaRef) -> BTreeSet<String> {
        let Ok(prepared) = self.prepare(spec, schema, Timestamp::default()) else { return BTreeSet::new() };
        let read = prepared.columns_read(spec, schema);
        read.fields().iter().map(|field| field.name().clone()).collect()
    }

    pub(crate) fn prepare(&self, spec: &SyncSpec, schema: &SchemaRef, now: Timestamp) -> Result<Prepared, EngineError> {
        let context = self.session();
        let state = context.state();
        let compiled = compile(&state, spec, schema, day_of(now))
            .map_err(|problems| EngineError::Expressions { sync: spec.name.clone(), problems })?;
        let mapping = Mapping::new(&state, spec, &compiled, schema)
            .map_err(|cause| self.query_failed("prepare the mapping", &cause))?;
        Ok(Prepared { context, compiled, mapping })
    }

    pub(crate) fn session(&self) -> SessionContext {
        self.session_of(BATCH_ROWS)
    }

    /// A session whose queries take so many rows at once.
    pub(crate) fn session_of(&self, batch_rows: usize) -> SessionContext {
        // With a single partition the planner would take hash joins, which do not spill.
        let partitions = self.settings.threads.max(2);
        let reservation = self.settings.memory_limit_bytes / partitions / SORT_RESERVATION_SHARE;
        let budget = self.settings.memory_limit_bytes / partitions / READ_SHARE;
        let budget = u64::try_from(budget).unwrap_or(u64::MAX).clamp(LEAST_READ_BYTES, GROUP_BUDGET_BYTES);
        let mut config = SessionConfig::new()
            .with_extension(Arc::new(ReadBudget(budget)))
            .with_target_partitions(partitions)
            .with_batch_size(batch_rows)
            .with_sort_spill_reservation_bytes(reservation.min(SORT_RESERVATION_BYTES));
        let options = config.options_mut();
        options.optimizer.prefer_hash_join = false;
        // The ledger is sorted already: merged while it is divided, it need not be sorted again.
        options.optimizer.prefer_existing_sort = true;
        options.sql_parser.enable_ident_normalization = false;
        options.execution.parquet.schema_force_view_types = false;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.runtime))
            // In front of the stock planner, which knows no lists.
            .with_expr_planners(vec![Arc::new(NestedPlanner)])
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        for function in functions::all().into_iter().chain(nested::functions()) {
            context.register_udf(function);
        }
        context
    }

    pub(crate) fn query_failed(&self, action: &'static str, cause: &DataFusionError) -> EngineError {
        let scope =
            QueryScope { memory_limit_bytes: self.settings.memory_limit_bytes, spill_dir: &self.settings.spill_dir };
        EngineError::query(action, cause, &scope)
    }

    /// Says why a query failed: the source, or an expression on a record.
    pub(crate) async fn explain_failure(
        &self,
        action: &'static str,
        cause: &DataFusionError,
        spec: &SyncSpec,
        spool: &Spool,
        prepared: &Prepared,
    ) -> EngineError {
        let read = prepared.columns_read(spec, spool.schema());
        if let Some(error) = spool.take_failure(&read).await {
            return error;
        }
        match check::find_failing_record(&prepared.context.state(), spec, spool, &prepared.compiled).await {
            Some(error) => error,
            None => self.query_failed(action, cause),
        }
    }
}

/// Bytes of pinned files that each partition of a query holds at once.
struct ReadBudget(u64);

/// What each partition of this session's queries may hold of pinned files.
pub(crate) fn read_budget(context: &SessionContext) -> u64 {
    context.state().config().get_extension::<ReadBudget>().map_or(LEAST_READ_BYTES, |budget| budget.0)
}

/// The day in UTC at a point in time.
fn day_of(now: Timestamp) -> NaiveDate {
    DateTime::from_timestamp_millis(now.0).unwrap_or_default().date_naive()
}

/// A table over Parquet files of one schema, each sorted by `sorted_by`.
pub(crate) fn table_of(
    paths: &[PathBuf],
    schema: &SchemaRef,
    sorted_by: &[SortExpr],
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    if paths.is_empty() {
        return Ok(Arc::new(EmptyTable::new(Arc::clone(schema))));
    }
    let mut urls = Vec::with_capacity(paths.len());
    for path in paths {
        let absolute = std::path::absolute(path)?;
        // A path is not parsed as text, which would take brackets in it for a pattern.
        let url = url::Url::from_file_path(&absolute)
            .map_err(|()| DataFusionError::Plan("a path of the state folder is no absolute path".to_owned()))?;
        urls.push(ListingTableUrl::try_new(url, None)?);
    }
    let mut options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension("");
    if !sorted_by.is_empty() {
        options = options.with_file_sort_order(vec![sorted_by.to_vec()]);
    }
    let config =
        ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(Arc::clone(schema));
    Ok(Arc::new(ListingTable::try_new(config)?))
}
