//! Decodes `state`.

use std::path::Path;
use std::time::Duration;

use convoke_core::spec::{ObjectStoreConnection, PostgresConnection, S3Connection};

use crate::connection::{self, Connection, Connections};
use crate::field::Field;
use crate::object_url::{self, Names};
use crate::report::Report;

/// How state is kept.
#[derive(Clone, Debug)]
pub struct StateSettings {
    /// How long a lease holds without being renewed.
    pub lease: Duration,
    /// Where the checkpoint store is; none: an SQLite file in the state directory.
    pub postgres: Option<PostgresConnection>,
    /// Where segments and published plans are; none without `postgres`: then they stand in the state directory.
    pub ledger: Option<LedgerLocation>,
}

/// A place on an object store, or in a folder that all processes share.
#[derive(Clone, Debug)]
pub struct LedgerLocation {
    /// `s3://bucket/prefix` or `file:///folder`; not percent-encoded.
    pub url: String,
    /// None: as the environment says, or a folder.
    pub connection: Option<S3Connection>,
}

/// A shorter lease would be lost to a pause that any process makes on a busy machine.
const MIN_LEASE: Duration = Duration::from_secs(5);

pub(super) fn decode(
    state: &Field<'_>,
    base_dir: &Path,
    connections: &Connections,
    report: &mut Report,
) -> Option<StateSettings> {
    let (postgres, ledger) = (state.field("postgres"), state.field("ledger"));
    check_together(&postgres, &ledger, report);
    let lease = lease(&state.field("lease"), report);
    let database = if_given(&postgres, |block| connection::decode_postgres(block, base_dir, report));
    let location = if_given(&ledger, |block| ledger_location(block, base_dir, connections, report));
    Some(StateSettings { lease: lease?, postgres: database?, ledger: location? })
}

/// Decodes a block that may be left out; the outer `None` means that it was refused.
fn if_given<T>(block: &Field<'_>, decode: impl FnOnce(&Field<'_>) -> Option<T>) -> Option<Option<T>> {
    if block.is_given() { decode(block).map(Some) } else { Some(None) }
}

fn check_together(postgres: &Field<'_>, ledger: &Field<'_>, report: &mut Report) {
    match (postgres.is_given(), ledger.is_given()) {
        (true, false) => {
            let message = "is missing; processes that share a checkpoint store share the ledger too: give \
                           `{ url: \"s3://bucket/prefix\" }`";
            report.problem(postgres.place, &ledger.path, message);
        }
        (false, true) => {
            let message = "is for `postgres` only; without it the ledger stands in `state_dir`; remove it, or give \
                           `postgres`";
            report.problem(ledger.place, &ledger.path, message);
        }
        (true, true) | (false, false) => {}
    }
}

fn lease(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    let lease = field.duration()?;
    if lease < MIN_LEASE {
        let message = "is so short that a process could lose its lease by a pause; give `5s` or more";
        report.problem(field.place, &field.path, message);
    }
    Some(lease)
}

fn ledger_location(
    ledger: &Field<'_>,
    base_dir: &Path,
    connections: &Connections,
    report: &mut Report,
) -> Option<LedgerLocation> {
    let url = object_url::decode(&ledger.field("url"), Names::Folder, base_dir, report);
    let name = connection::object_store(&ledger.field("connection"), "`s3://`", url.as_ref(), connections, report)?;
    let connection = match name {
        None => None,
        Some(name) => match &connections.get(&name)?.connection {
            Some(Connection::ObjectStore(ObjectStoreConnection::S3(store))) => Some(store.clone()),
            _ => return None,
        },
    };
    Some(LedgerLocation { url: url?.text, connection })
}
