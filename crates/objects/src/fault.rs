//! What a store's refusals and failures mean, and what can be done about them.
//!
//! An answer of a store repeats what was sent, key ids and tokens among it, so nothing of it is passed on but its code and
//! status.

mod remedy;
mod trouble;

use std::error::Error;
use std::fmt;
use std::io;

use convoke_core::ids::ConnectionName;
use convoke_core::spec::ObjectStoreConnection;
use convoke_core::{Origin, SourceError};
use object_store::client::HttpError;

use crate::location::Scheme;
use trouble::{Trouble, code_of, status_of};

/// Which store it is, in words.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Local,
    Remote(Remote),
}

/// A store that is spoken to over the network.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) scheme: Scheme,
    /// A bucket, a container, or a host.
    pub(crate) bucket: String,
    /// What says how the store is reached.
    pub(crate) settings: String,
    pub(crate) address: String,
}

/// What was being done.
pub(crate) enum Attempt<'a> {
    List { url: &'a str },
    Look { key: &'a str },
    Read { key: &'a str },
    Write { key: &'a str },
    Delete { key: &'a str },
}

impl Place {
    pub(crate) fn remote(
        scheme: Scheme,
        bucket: &str,
        name: Option<&ConnectionName>,
        connection: Option<&ObjectStoreConnection>,
    ) -> Self {
        let settings = match name {
            Some(name) => format!("connection `{name}`"),
            None => format!("the environment (`{}_…`)", remedy::variables(scheme)),
        };
        let endpoint = match connection {
            Some(ObjectStoreConnection::S3(s3)) => s3.endpoint.clone(),
            Some(ObjectStoreConnection::Gcs(gcs)) => gcs.endpoint.clone(),
            Some(ObjectStoreConnection::Azure(azure)) => {
                let account = || format!("https://{}.blob.core.windows.net", azure.account);
                Some(azure.endpoint.clone().unwrap_or_else(account))
            }
            None => None,
        };
        let address = endpoint.map_or_else(|| remedy::vendor(scheme, bucket), |endpoint| format!("`{endpoint}`"));
        Self::Remote(Remote { scheme, bucket: bucket.to_owned(), settings, address })
    }

    /// What says how the store is reached.
    pub(crate) fn settings(&self) -> &str {
        match self {
            Self::Local => "this machine",
            Self::Remote(remote) => &remote.settings,
        }
    }

    /// An object, for messages.
    pub(crate) fn object(&self, key: &str) -> String {
        match self {
            Self::Local => format!("`/{key}`"),
            Self::Remote(remote) => format!("`{}://{}/{key}`", remote.scheme.word(), remote.bucket),
        }
    }
}

/// Whether the object is not there, or not as long as it was.
pub(crate) fn is_gone(place: &Place, error: &object_store::Error) -> bool {
    match place {
        Place::Local => matches!(error, object_store::Error::NotFound { .. }),
        Place::Remote(_) => matches!(Trouble::of(error), Trouble::NoObject | Trouble::Shortened),
    }
}

/// Whether the object is not the one that the request was about.
pub(crate) fn is_refused_condition(error: &object_store::Error) -> bool {
    let is_refused = |error: &object_store::Error| matches!(error, object_store::Error::Precondition { .. });
    chain(error).any(|error| error.downcast_ref().is_some_and(is_refused))
}

/// Whether the store refused without a code, as it does where answers have no body.
pub(crate) fn is_code_hidden(place: &Place, error: &object_store::Error) -> bool {
    let is_answer = |trouble: Trouble| !matches!(trouble, Trouble::Unreachable | Trouble::Slow | Trouble::CutOff);
    let Place::Remote(remote) = place else { return false };
    remote.scheme.has_buckets() && code_of(&error.to_string()).is_none() && is_answer(Trouble::of(error))
}

/// Says what went wrong, where, and what can be done.
pub(crate) fn explained(place: &Place, attempt: &Attempt<'_>, error: object_store::Error) -> SourceError {
    let what = match attempt {
        Attempt::List { url } => format!("cannot list `{url}`"),
        Attempt::Look { key } => format!("cannot look at {}", place.object(key)),
        Attempt::Read { key } => format!("cannot read {}", place.object(key)),
        Attempt::Write { key } => format!("cannot write {}", place.object(key)),
        Attempt::Delete { key } => format!("cannot remove {}", place.object(key)),
    };
    let (origin, why) = match place {
        Place::Local => local_remedy(attempt, &error),
        Place::Remote(remote) => remedy::of(&Trouble::of(&error), attempt, remote),
    };
    SourceError::new(origin, format!("{what}: {why}")).caused_by(Told::of(&error))
}

fn local_remedy(attempt: &Attempt<'_>, error: &object_store::Error) -> (Origin, String) {
    let kind = find::<io::Error>(error).map(io::Error::kind);
    let right = match attempt {
        Attempt::List { .. } | Attempt::Look { .. } | Attempt::Read { .. } => "read",
        Attempt::Write { .. } | Attempt::Delete { .. } => "write",
    };
    let (origin, why) = match (error, kind) {
        (object_store::Error::NotFound { .. }, _) | (_, Some(io::ErrorKind::NotFound)) => {
            (Origin::User, "it is not there; put it there, or correct `url`".to_owned())
        }
        (_, Some(io::ErrorKind::PermissionDenied)) => {
            (Origin::User, format!("this user may not; give it the right to {right}"))
        }
        (object_store::Error::InvalidPath { .. }, _) => {
            (Origin::User, "a name holds characters that cannot be addressed; rename it, or narrow `url`".to_owned())
        }
        (object_store::Error::NotImplemented { .. }, _) => {
            (Origin::User, "a folder cannot do this; use an object store".to_owned())
        }
        _ => (Origin::External, "the file system failed; check the disk".to_owned()),
    };
    (origin, why)
}

/// What is said of an error to those who handle it: nothing that was sent.
#[derive(Debug)]
struct Told(String);

impl Told {
    fn of(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let told = match (status_of(&text), code_of(&text)) {
            (Some(status), Some(code)) => format!("HTTP status {status}, code {code}"),
            (Some(status), None) => format!("HTTP status {status}"),
            (None, Some(code)) => format!("code {code}"),
            (None, None) if find::<HttpError>(error).is_some() || find::<io::Error>(error).is_some() => {
                innermost(error)
            }
            (None, None) => "no HTTP status".to_owned(),
        };
        Self(told)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Told {}

fn chain<'e>(error: &'e object_store::Error) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source())
}

fn find<E: Error + 'static>(error: &object_store::Error) -> Option<&E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// What the network or the disk said.
fn innermost(error: &object_store::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests;
