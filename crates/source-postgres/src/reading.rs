//! Reads one COPY to its end, and passes its records on.

use std::time::Duration;

use convoke_core::SourceError;
use convoke_core::source::SplitItem;
use futures::StreamExt;
use sqlx::PgConnection;
use tokio::sync::mpsc::Sender;

use crate::batch::Batch;
use crate::columns::Columns;
use crate::copy_format::CopyFormat;
use crate::failure::Failures;
use crate::session::Session;

/// A server that is out of reach cannot keep its own time-out; we wait this much longer for it.
const GRACE: Duration = Duration::from_secs(30);

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
    session: Session,
    columns: Columns,
    copy: String,
    failures: Failures,
}

type Item = Result<SplitItem, SourceError>;

/// Nobody listens any more.
struct Unheard;

impl Reading {
    pub(crate) fn new(session: Session, columns: Columns, copy: String, failures: Failures) -> Self {
        Self { session, columns, copy, failures }
    }

    /// Reads everything and passes it on; ends the query if nobody listens.
    pub(crate) async fn run(mut self, items: Sender<Item>) {
        let end = tokio::select! {
            end = self.read_in_time(&items) => end,
            () = items.closed() => Err(Unheard),
        };
        match end {
            Ok(end) => {
                self.session.end().await;
                // A receiver that has gone needs no end.
                let _ = items.send(end).await;
            }
            Err(Unheard) => self.session.cancel().await,
        }
    }

    async fn read_in_time(&mut self, items: &Sender<Item>) -> Result<Item, Unheard> {
        let limit = self.failures.statement_timeout();
        if limit.is_zero() {
            return self.read(items).await;
        }
        match tokio::time::timeout(limit.saturating_add(GRACE), self.read(items)).await {
            Ok(end) => end,
            Err(_) => Ok(Err(self.failures.out_of_time())),
        }
    }

    /// Gives the last item.
    async fn read(&mut self, items: &Sender<Item>) -> Result<Item, Unheard> {
        let Self { session, columns, copy, failures } = self;
        let connection = session.connection();
        let fingerprint = match pass_records(connection, columns, copy, failures, items).await? {
            Ok(fingerprint) => fingerprint,
            Err(error) => return Ok(Err(error)),
        };
        Ok(match sqlx::query_scalar::<_, i64>(REWRITTEN).persistent(false).fetch_one(connection).await {
            Ok(0) => Ok(SplitItem::End { fingerprint }),
            Ok(_) => Err(failures.rewritten()),
            Err(error) => Err(failures.reading(error)),
        })
    }
}

/// Passes on all records; tells the fingerprint of what was read.
async fn pass_records(
    connection: &mut PgConnection,
    columns: &Columns,
    copy: &str,
    failures: &Failures,
    items: &Sender<Item>,
) -> Result<Result<String, SourceError>, Unheard> {
    let mut pieces = match connection.copy_out_raw(copy).await {
        Ok(pieces) => pieces,
        Err(error) => return Ok(Err(failures.reading(error))),
    };
    let (mut format, mut batch, mut digest) = (CopyFormat::default(), Batch::new(columns), Digest::default());
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return Ok(Err(failures.reading(error))),
        };
        digest.update(&piece);
        if let Err(error) = format.feed(&piece, &mut batch) {
            return Ok(Err(failures.misread(error, columns)));
        }
        if batch.is_full() {
            match batch.take() {
                Ok(records) => items.send(Ok(SplitItem::Records(records))).await.map_err(|_| Unheard)?,
                Err(error) => return Ok(Err(failures.misread(error, columns))),
            }
        }
    }
    if !format.is_ended() {
        return Ok(Err(failures.cut_short()));
    }
    if !batch.is_empty() {
        match batch.take() {
            Ok(records) => items.send(Ok(SplitItem::Records(records))).await.map_err(|_| Unheard)?,
            Err(error) => return Ok(Err(failures.misread(error, columns))),
        }
    }
    batch.tell_lost(columns, failures.relation());
    Ok(Ok(digest.finish()))
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
