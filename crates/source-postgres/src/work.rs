//! Sessions and what is done in them, each on a thread of its own: decoding takes a core, and the runtime of whoever
//! takes the records may have but one.

use std::sync::Arc;
use std::time::Duration;

use convoke_core::SourceError;
use convoke_core::source::SplitItem;
use convoke_core::spec::{ChangeSign, NullCursors, PostgresConnection, PostgresSpec};
use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

use crate::columns::{Columns, ColumnsRead};
use crate::coordinator::Coordinator;
use crate::failure::Failures;
use crate::incremental::{Kind, PartId, Standing};
use crate::opening::InSnapshot;
use crate::ranges::{Ranges, Sight};
use crate::reading::Reading;
use crate::relation::{copy_of, label_of};
use crate::session::{Connected, Session, Terms};
use crate::snapshot::Snapshot;
use crate::split::{Blocks, SplitDetail};
use crate::standing::{self, Part, are_heaps};
use crate::tracker::{Seen, Tracker};

/// What all sessions of a source are made from.
pub(crate) struct Sessions {
    pub(crate) spec: PostgresSpec,
    pub(crate) connection: PostgresConnection,
    pub(crate) failures: Failures,
    pub(crate) columns_read: Option<ColumnsRead>,
    /// How long what is quickly answered before the first record may take: no time-out of the server ends what a frozen
    /// network holds.
    pub(crate) look_timeout: Duration,
    pub(crate) ranges: Ranges,
}

/// A session with the columns that it found.
struct Described {
    session: Session,
    /// All there are.
    described: Columns,
    /// Those that are read.
    columns: Columns,
}

/// What there is to read.
pub(crate) struct Looked<S> {
    session: S,
    /// All columns there are.
    pub(crate) described: Columns,
    /// Those that are read.
    pub(crate) columns: Columns,
    /// What there is to tell of the others.
    pub(crate) notice: Option<String>,
    /// Of a table: how many blocks its largest part has.
    pub(crate) blocks: Option<u64>,
    /// There if the source is incremental.
    pub(crate) standing: Option<Standing>,
}

impl Looked<Session> {
    /// Takes what was learnt and the session apart.
    pub(crate) fn without_session(self) -> (Looked<()>, Session) {
        let Self { session, described, columns, notice, blocks, standing } = self;
        (Looked { session: (), described, columns, notice, blocks, standing }, session)
    }
}

/// A split that is about to be read.
struct Opened {
    reading: Reading,
    snapshot: Option<Snapshot>,
    /// Held as long as the split is read.
    coordinator: Option<Coordinator>,
}

impl Sessions {
    /// Opens a snapshot and learns what there is to read.
    pub(crate) async fn look(&self) -> Result<Looked<Session>, SourceError> {
        self.in_time(async {
            let mut connected = Connected::open(&self.connection, &self.failures).await?;
            let version = connected.connection().server_version_num();
            let database = match &self.spec.incremental {
                Some(_) => standing::database_of(connected.connection()).await,
                None => None,
            };
            let session = connected.begin(self.terms(None), &self.failures).await?;
            let Described { mut session, described, columns } = self.describe(session).await?;
            let notice = described.notice(&label_of(&self.spec.relation));
            let parts = standing::parts_of(session.connection(), &self.spec.relation, &self.failures).await?;
            let standing = match &self.spec.incremental {
                Some(incremental) => {
                    let kind = self.kind(&incremental.by, &columns, &parts)?;
                    Some(self.standing(session.connection(), (kind, &columns), (database, &parts)).await?)
                }
                None => None,
            };
            let blocks = standing::blocks_to_divide(&parts, version);
            Ok(Looked { session, described, columns, notice, blocks, standing })
        })
        .await
    }

    /// Ends what takes longer than it may.
    pub(crate) async fn in_time<T>(
        &self,
        looked: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(self.look_timeout, looked).await {
            Ok(looked) => looked,
            Err(_) => Err(self.failures.frozen(self.look_timeout)),
        }
    }

    pub(crate) fn terms<'a>(&self, snapshot: Option<&'a str>) -> Terms<'a> {
        Terms { statement_timeout: self.connection.statement_timeout, max_snapshot: self.spec.max_snapshot, snapshot }
    }

    async fn describe(&self, mut session: Session) -> Result<Described, SourceError> {
        let described = Columns::describe(session.connection(), &self.spec, &self.failures).await?;
        let columns = described.narrowed(self.columns_read.as_ref(), self.cursor(), &self.failures)?;
        Ok(Described { session, described, columns })
    }

    async fn standing(
        &self,
        connection: &mut PgConnection,
        (kind, columns): (Kind, &Columns),
        (database, parts): (Option<String>, &[Part]),
    ) -> Result<Standing, SourceError> {
        if kind == Kind::Version && database.is_none() {
            return Err(self.failures.unidentified());
        }
        let (now, next_transaction) = standing::now_of(connection, &self.failures).await?;
        // Numbers may be counted anew when a table is emptied; nothing else depends on its file.
        let id = |part: &Part| PartId(part.oid, if kind == Kind::Number { part.file } else { 0 });
        let parts = if are_heaps(parts) { parts.iter().map(id).collect() } else { Vec::new() };
        let (column, shape) = (self.cursor().map(str::to_owned), columns.shape(&self.spec.relation));
        Ok(Standing { kind, column, shape, database, parts, now, next_transaction })
    }

    /// The column that tells changes.
    pub(crate) fn cursor(&self) -> Option<&str> {
        match &self.spec.incremental.as_ref()?.by {
            ChangeSign::Column { name, .. } => Some(name),
            ChangeSign::RowVersions => None,
        }
    }

    fn kind(&self, by: &ChangeSign, columns: &Columns, parts: &[Part]) -> Result<Kind, SourceError> {
        match by {
            ChangeSign::RowVersions if are_heaps(parts) => Ok(Kind::Version),
            ChangeSign::RowVersions => Err(self.failures.unversioned()),
            ChangeSign::Column { name, .. } => {
                let is_there = columns.names().any(|known| known == name);
                let kind = columns.find(name).and_then(|(_, scalar)| Kind::of(scalar));
                kind.ok_or_else(|| self.failures.no_cursor(name, is_there))
            }
        }
    }

    /// Opens a split and starts to read it.
    pub(crate) async fn read(
        self: &Arc<Self>,
        name: String,
        detail: SplitDetail,
        items: mpsc::Sender<Result<SplitItem, SourceError>>,
    ) -> Result<(), SourceError> {
        let (mut opened, is_open) = oneshot::channel();
        let sessions = Arc::clone(self);
        on_own_thread(&self.failures, async move {
            match sessions.open(&detail, opened.closed()).await {
                Ok(Opened { reading, snapshot, coordinator }) => {
                    // Whoever asked may have gone: then nobody listens, and the read ends at once.
                    let _ = opened.send(Ok(()));
                    let is_whole = detail.since.is_none() && detail.between.is_none();
                    let sight = |seen| Sight { snapshot, is_range: coordinator.is_some(), is_whole, seen };
                    let note = async |seen: Seen| {
                        sessions.tell_nulls(seen);
                        sessions.ranges.note(&name, sight(seen)).await;
                    };
                    reading.run(items, note).await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        })?;
        is_open.await.map_err(|_| self.failures.thread_ended())?
    }

    /// `gone` comes true when nobody waits any more.
    async fn open(
        self: &Arc<Self>,
        detail: &SplitDetail,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Opened, SourceError> {
        let in_snapshot = self.session_of(detail, gone).await?;
        self.in_time(self.begin_reading(detail, in_snapshot)).await
    }

    async fn begin_reading(
        &self,
        detail: &SplitDetail,
        (session, snapshot, coordinator): InSnapshot,
    ) -> Result<Opened, SourceError> {
        let deadline = coordinator.as_ref().map_or(session.deadline(), Coordinator::deadline);
        let Described { session, described, columns } = self.describe(session).await?;
        if columns.shape(&self.spec.relation) != detail.shape {
            session.end().await;
            return Err(self.failures.reshaped());
        }
        let conditions = self.conditions(detail, &described)?;
        let copy = copy_of(&self.spec.relation, &columns, &conditions);
        let tracker = self.tracker(&columns);
        let (policy, failures) = (self.spec.out_of_range, self.failures.clone());
        let reading = Reading { session, columns, copy, policy, tracker, deadline, failures };
        Ok(Opened { reading, snapshot, coordinator })
    }

    fn conditions(&self, detail: &SplitDetail, described: &Columns) -> Result<Vec<String>, SourceError> {
        let mut conditions = Vec::new();
        if let Some(bounds) = detail.between {
            conditions.push(bounds.condition(self.time_column()?, described)?);
        }
        if let (Some(since), Some(incremental)) = (&detail.since, &self.spec.incremental) {
            conditions.push(since.condition(&incremental.by));
        }
        conditions.extend(detail.blocks.map(Blocks::condition));
        Ok(conditions)
    }

    /// The column that the times of a backfill are about.
    pub(crate) fn time_column(&self) -> Result<&str, SourceError> {
        self.spec.time_column.as_deref().ok_or_else(|| {
            let label = label_of(&self.spec.relation);
            let message = format!(
                "a backfill from or to a time needs a column that tells when a row of `{label}` was written; set \
                 `time_column` of the source, or backfill with --all"
            );
            SourceError::selection(message)
        })
    }

    fn tracker(&self, columns: &Columns) -> Option<Tracker> {
        let ChangeSign::Column { name, nulls, .. } = &self.spec.incremental.as_ref()?.by else { return None };
        Some(Tracker::new(columns.find(name)?, *nulls == NullCursors::Refuse))
    }

    fn tell_nulls(&self, seen: Seen) {
        if let (nulls @ 1.., Some(column)) = (seen.nulls, self.cursor()) {
            let relation = self.failures.relation();
            tracing::warn!(
                column,
                rows = nulls,
                relation,
                "rows without a value in the column that tells changes are read by each run"
            );
        }
    }
}

/// Runs this to its end on a thread of its own.
pub(crate) fn on_own_thread(
    failures: &Failures,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<(), SourceError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failures.no_thread().caused_by(error))?;
    let thread = std::thread::Builder::new().name("postgres".to_owned());
    let started = thread.spawn(move || {
        runtime.block_on(work);
        // A look-up of a name that nobody waits for any more is not waited for.
        runtime.shutdown_background();
    });
    // It ends by itself: at the end of the rows, at a time-out, or when nobody listens.
    started.map(drop).map_err(|error| failures.no_thread().caused_by(error))
}
