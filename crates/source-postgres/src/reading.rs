//! Reads one COPY to its end, and passes its records on.

use std::time::Duration;

use convoke_core::SourceError;
use convoke_core::source::SplitItem;
use convoke_core::spec::OutOfRange;
use futures::StreamExt;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use crate::batch::{Batch, Misread};
use crate::columns::Columns;
use crate::copy_format::CopyFormat;
use crate::failure::Failures;
use crate::session::Session;
use crate::tracker::{Seen, Tracker};

/// A server that is out of reach cannot keep its own time-out; we wait this much longer for it.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// Bytes that are digested together: the digest is quick over long pieces, and a COPY comes row by row.
const DIGEST_BYTES: usize = 64 * 1024;

/// Relations that this transaction holds, and that its snapshot does not see as they are: emptied, rewritten or put in
/// place between the snapshot and the lock. Their rows may be missing from the snapshot, old and new alike.
/// (`pg_relation_filenode` and `pg_get_indexdef` tell the present, `pg_class` the snapshot; a new index hides nothing.)
const REWRITTEN: &str = "SELECT count(*) FROM pg_catalog.pg_locks AS held \
     LEFT JOIN pg_catalog.pg_class AS seen ON seen.oid = held.relation \
     WHERE held.locktype = 'relation' AND held.pid = pg_catalog.pg_backend_pid() \
     AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
     AND ((seen.oid IS NULL AND pg_catalog.pg_get_indexdef(held.relation) IS NULL) \
     OR (seen.relkind IN ('r', 'm') AND seen.relfilenode <> 0 \
     AND pg_catalog.pg_relation_filenode(seen.oid) IS DISTINCT FROM seen.relfilenode))";

/// A read that is ready to start.
pub(crate) struct Reading {
    pub(crate) session: Session,
    pub(crate) columns: Columns,
    pub(crate) copy: String,
    pub(crate) policy: OutOfRange,
    /// Watches the column that tells changes.
    pub(crate) tracker: Option<Tracker>,
    /// When the snapshot has been held for as long as it may be.
    pub(crate) deadline: Instant,
    pub(crate) failures: Failures,
}

type Item = Result<SplitItem, SourceError>;

/// Nobody listens any more, or the time is up: the query is to be ended.
enum Stopped {
    Unheard,
    Overdue,
}

/// What a read came to.
struct Done {
    fingerprint: String,
    seen: Seen,
}

impl Reading {
    /// Reads everything and passes it on; ends the query if nobody listens. `note` learns what was seen before the end is
    /// passed on.
    pub(crate) async fn run(mut self, items: Sender<Item>, note: impl AsyncFnOnce(Seen)) {
        let deadline = self.deadline;
        let end = tokio::select! {
            end = self.read_in_time(&items) => end,
            () = items.closed() => Err(Stopped::Unheard),
            () = tokio::time::sleep_until(deadline) => Err(Stopped::Overdue),
        };
        let Self { session, failures, .. } = self;
        // A receiver that has gone needs no end.
        match end {
            Ok(Ok(Done { fingerprint, seen })) => {
                session.end().await;
                note(seen).await;
                let _ = items.send(Ok(SplitItem::End { fingerprint })).await;
            }
            Ok(Err(error)) => {
                session.end().await;
                let _ = items.send(Err(error)).await;
            }
            Err(Stopped::Unheard) => session.cancel().await,
            Err(Stopped::Overdue) => {
                session.cancel().await;
                let _ = items.send(Err(failures.held_too_long())).await;
            }
        }
    }

    async fn read_in_time(&mut self, items: &Sender<Item>) -> Result<Result<Done, SourceError>, Stopped> {
        let limit = self.failures.statement_timeout();
        if limit.is_zero() {
            return self.read(items).await;
        }
        match tokio::time::timeout(limit.saturating_add(GRACE), self.read(items)).await {
            Ok(end) => end,
            Err(_) => Ok(Err(self.failures.out_of_time())),
        }
    }

    async fn read(&mut self, items: &Sender<Item>) -> Result<Result<Done, SourceError>, Stopped> {
        let passing = match self.pass_records(items).await? {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        let rewritten = sqlx::query_scalar::<_, i64>(REWRITTEN).persistent(false);
        Ok(match rewritten.fetch_one(self.session.connection()).await {
            Ok(0) => Ok(passing),
            Ok(_) => Err(self.failures.rewritten()),
            Err(error) => Err(self.failures.reading(error)),
        })
    }

    /// Passes on all records.
    async fn pass_records(&mut self, items: &Sender<Item>) -> Result<Result<Done, SourceError>, Stopped> {
        let Self { session, columns, copy, policy, tracker, failures, .. } = self;
        let mut pieces = match session.connection().copy_out_raw(copy).await {
            Ok(pieces) => pieces,
            Err(error) => return Ok(Err(failures.reading(error))),
        };
        let mut batch = Batch::new(columns, *policy, tracker.take());
        let (mut format, mut digest) = (CopyFormat::default(), Digest::default());
        while let Some(piece) = pieces.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(failures.reading(error))),
            };
            digest.update(&piece);
            if let Err(error) = format.feed(&piece, &mut batch) {
                return Ok(Err(failures.misread(error, columns)));
            }
            if batch.is_full()
                && let Err(error) = pass_on(&mut batch, items).await?
            {
                return Ok(Err(failures.misread(error, columns)));
            }
        }
        if !format.is_ended() {
            return Ok(Err(failures.cut_short()));
        }
        if !batch.is_empty()
            && let Err(error) = pass_on(&mut batch, items).await?
        {
            return Ok(Err(failures.misread(error, columns)));
        }
        batch.tell_lost(columns, failures.relation());
        Ok(Ok(Done { fingerprint: digest.finish(), seen: batch.seen() }))
    }
}

async fn pass_on(batch: &mut Batch, items: &Sender<Item>) -> Result<Result<(), Misread>, Stopped> {
    match batch.take() {
        Ok(records) => {
            items.send(Ok(SplitItem::Records(records))).await.map_err(|_| Stopped::Unheard)?;
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// Digests what comes in small pieces.
#[derive(Default)]
struct Digest {
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
}

impl Digest {
    fn update(&mut self, piece: &[u8]) {
        self.waiting.extend_from_slice(piece);
        if self.waiting.len() >= DIGEST_BYTES {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    fn finish(mut self) -> String {
        self.hasher.update(&self.waiting);
        self.hasher.finalize().to_hex().to_string()
    }
}
