//! Decodes `connections.yaml`, and finds what another file refers to in it.

mod azure;
mod gcs;
mod gtm;
mod http;
mod postgres;
mod s3;
mod secret;

use std::collections::BTreeMap;
use std::path::Path;

use convoke_core::ConnectionName;
use convoke_core::spec::{GtmConnection, ObjectStoreConnection, PostgresConnection};

use crate::environment::Environment;
use crate::field::Field;
use crate::object_url::{ObjectUrl, Scheme};
use crate::report::Report;

pub(crate) use postgres::decode as decode_postgres;

/// One entry of the file.
pub(crate) struct Entry {
    /// None if it is of no kind that is known.
    pub(crate) kind: Option<Kind>,
    /// None if it was refused: then it is known by its name, and its kind.
    pub(crate) connection: Option<Connection>,
}

/// The key under which a connection is described.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Gtm,
    Embedded,
    S3,
    Gcs,
    Azure,
    Postgres,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Gtm, Self::Embedded, Self::S3, Self::Gcs, Self::Azure, Self::Postgres];

    fn word(self) -> &'static str {
        match self {
            Self::Gtm => "gtm",
            Self::Embedded => "embedded",
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::Postgres => "postgres",
        }
    }
}

/// The kinds that a `gtm` audience can be in.
pub(crate) const DESTINATIONS: &[Kind] = &[Kind::Gtm, Kind::Embedded];

pub(crate) const DATABASES: &[Kind] = &[Kind::Postgres];

/// What a connection leads to.
pub(crate) enum Connection {
    Destination(GtmConnection),
    ObjectStore(ObjectStoreConnection),
    Database(PostgresConnection),
}

/// The connections by name, those that were refused among them.
pub(crate) type Connections = BTreeMap<ConnectionName, Entry>;

/// Decodes one checked connection.
pub(crate) fn decode(
    name: &str,
    root: &Field<'_>,
    base_dir: &Path,
    environment: &dyn Environment,
    report: &mut Report,
) -> Entry {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| root.field(kind.word()).is_given()) else {
        return Entry { kind: None, connection: None };
    };
    let block = root.field(kind.word());
    let connection = match kind {
        Kind::Gtm | Kind::Embedded => gtm::decode(name, root, base_dir, report).map(Connection::Destination),
        Kind::S3 => s3::decode(&block, base_dir, environment, report)
            .map(ObjectStoreConnection::S3)
            .map(Connection::ObjectStore),
        Kind::Gcs => gcs::decode(&block, base_dir, report).map(ObjectStoreConnection::Gcs).map(Connection::ObjectStore),
        Kind::Azure => {
            azure::decode(&block, base_dir, report).map(ObjectStoreConnection::Azure).map(Connection::ObjectStore)
        }
        Kind::Postgres => postgres::decode(&block, base_dir, report).map(Connection::Database),
    };
    Entry { kind: Some(kind), connection }
}

/// The connection that a field names, if there is one of that name and of a kind that is wanted.
pub(crate) fn reference(
    field: &Field<'_>,
    wanted: &'static [Kind],
    connections: &Connections,
    report: &mut Report,
) -> Option<ConnectionName> {
    let name = field.text()?;
    let connection = ConnectionName::new(name);
    let suits = |entry: &Entry| entry.kind.is_none_or(|kind| wanted.contains(&kind));
    let words = || wanted.iter().map(|kind| format!("`{}`", kind.word())).collect::<Vec<_>>().join(" or ");
    match connections.get(&connection) {
        Some(entry) if suits(entry) => return Some(connection),
        Some(Entry { kind, .. }) => {
            let kind = kind.map_or("", Kind::word);
            let message = format!("`{}` is a connection of kind `{kind}`; name one of kind {}", field.shown(), words());
            report.problem(field.place, &field.path, message);
        }
        None => {
            let suitable = connections.iter().filter(|(_, entry)| suits(entry));
            let remedy = match crate::check::nearest(name, suitable.map(|(name, _)| name.as_str())) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("add it to `connections.yaml`, as {}", words()),
            };
            report.problem(field.place, &field.path, format!("there is no connection `{}`; {remedy}", field.shown()));
        }
    }
    None
}

/// Reports a second one of several ways of which one is enough.
fn check_one_of(ways: &[&Field<'_>], report: &mut Report) {
    let given: Vec<_> = ways.iter().filter(|field| field.is_given()).collect();
    if let [first, second, ..] = given.as_slice() {
        let message = format!("stands beside `{}`, and one of them is enough; remove the other", first.path);
        report.problem(second.place, &second.path, message);
    }
}

/// The object store that a field beside `url` names; the outer `None` means that it was refused. `takers` are the kinds of
/// URL that take a connection there.
pub(crate) fn object_store(
    field: &Field<'_>,
    takers: &str,
    url: Option<&ObjectUrl>,
    connections: &Connections,
    report: &mut Report,
) -> Option<Option<ConnectionName>> {
    if !field.is_given() {
        return Some(None);
    }
    let wanted: &'static [Kind] = match url.map(|url| url.scheme) {
        Some(Scheme::S3) => &[Kind::S3],
        Some(Scheme::Gs) => &[Kind::Gcs],
        Some(Scheme::Az) => &[Kind::Azure],
        Some(scheme @ (Scheme::File | Scheme::Web)) => {
            let what = if scheme == Scheme::File { "a path" } else { "that of a web server" };
            let message = format!("is for {takers} only, and the URL is {what}; remove it");
            report.problem(field.place, &field.path, message);
            &[Kind::S3, Kind::Gcs, Kind::Azure]
        }
        None => &[Kind::S3, Kind::Gcs, Kind::Azure],
    };
    reference(field, wanted, connections, report).map(Some)
}
