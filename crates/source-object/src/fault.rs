//! What a store's refusals and failures mean, and what can be done about them.
//!
//! An answer of S3 repeats what was sent, key ids and tokens among it, so nothing of it is passed on but its code and
//! status.

use std::error::Error;
use std::fmt;
use std::io;

use convoke_core::ids::ConnectionName;
use convoke_core::spec::S3Connection;
use convoke_core::{Origin, SourceError};
use object_store::client::{HttpError, HttpErrorKind};

/// Which store it is, in words.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Local,
    S3 { bucket: String, settings: String, address: String },
}

/// What was being done.
pub(crate) enum Attempt<'a> {
    List { url: &'a str },
    Look { key: &'a str },
    Read { key: &'a str },
}

impl Place {
    pub(crate) fn local() -> Self {
        Self::Local
    }

    pub(crate) fn s3(bucket: &str, name: Option<&ConnectionName>, connection: Option<&S3Connection>) -> Self {
        let settings = match name {
            Some(name) => format!("connection `{name}`"),
            None => "the environment (`AWS_…`)".to_owned(),
        };
        let endpoint = connection.and_then(|connection| connection.endpoint.as_deref());
        let address = endpoint.map_or_else(|| "Amazon S3".to_owned(), |endpoint| format!("`{endpoint}`"));
        Self::S3 { bucket: bucket.to_owned(), settings, address }
    }

    /// What says how the store is reached.
    pub(crate) fn settings(&self) -> &str {
        match self {
            Self::Local => "this machine",
            Self::S3 { settings, .. } => settings,
        }
    }

    /// An object, for messages.
    pub(crate) fn object(&self, key: &str) -> String {
        match self {
            Self::Local => format!("`/{key}`"),
            Self::S3 { bucket, .. } => format!("`s3://{bucket}/{key}`"),
        }
    }
}

/// Whether the object is not there, or not as long as it was.
pub(crate) fn is_gone(place: &Place, error: &object_store::Error) -> bool {
    match place {
        Place::Local => matches!(error, object_store::Error::NotFound { .. }),
        Place::S3 { .. } => matches!(Trouble::of(error), Trouble::NoObject | Trouble::Shortened),
    }
}

/// Whether the store refused without a code, as it does where answers have no body.
pub(crate) fn is_code_hidden(place: &Place, error: &object_store::Error) -> bool {
    let is_answer = |trouble: Trouble| !matches!(trouble, Trouble::Unreachable | Trouble::Slow | Trouble::CutOff);
    matches!(place, Place::S3 { .. }) && code_of(&error.to_string()).is_none() && is_answer(Trouble::of(error))
}

/// Says what went wrong, where, and what can be done.
pub(crate) fn explained(place: &Place, attempt: &Attempt<'_>, error: object_store::Error) -> SourceError {
    let what = match attempt {
        Attempt::List { url } => format!("cannot list `{url}`"),
        Attempt::Look { key } => format!("cannot look at {}", place.object(key)),
        Attempt::Read { key } => format!("cannot read {}", place.object(key)),
    };
    let (origin, why) = match place {
        Place::Local => local_remedy(&error),
        Place::S3 { bucket, settings, address } => {
            Trouble::of(&error).remedy(attempt, &Named { bucket, settings, address })
        }
    };
    SourceError::new(origin, format!("{what}: {why}")).caused_by(Told::of(&error))
}

fn local_remedy(error: &object_store::Error) -> (Origin, String) {
    let kind = find::<io::Error>(error).map(io::Error::kind);
    let (origin, why) = match (error, kind) {
        (object_store::Error::NotFound { .. }, _) | (_, Some(io::ErrorKind::NotFound)) => {
            (Origin::User, "it is not there; put it there, or correct `url`")
        }
        (_, Some(io::ErrorKind::PermissionDenied)) => (Origin::User, "this user may not; give it the right to read"),
        (object_store::Error::InvalidPath { .. }, _) => {
            (Origin::User, "a name holds characters that cannot be addressed; rename it, or narrow `url`")
        }
        _ => (Origin::External, "the file system failed; check the disk"),
    };
    (origin, why.to_owned())
}

/// The names that a remedy needs.
struct Named<'a> {
    bucket: &'a str,
    settings: &'a str,
    address: &'a str,
}

/// What is wrong, as far as the store lets on.
enum Trouble {
    NoBucket,
    NoObject,
    Shortened,
    UnknownKeyId,
    WrongSecret,
    Expired,
    Denied,
    WrongClock,
    NoCredentials,
    /// With the region that the store expects, if it tells.
    OtherRegion(Option<String>),
    InvalidKey,
    Unreachable,
    Slow,
    CutOff,
    Busy,
    Other,
}

impl Trouble {
    fn of(error: &object_store::Error) -> Self {
        let text = error.to_string();
        if let Some(trouble) = code_of(&text).and_then(|code| Self::of_code(code, &text)) {
            return trouble;
        }
        // The machine's own credentials are asked for at this address, when there are no others.
        if text.contains("169.254.169.254") || text.contains("instance metadata") {
            return Self::NoCredentials;
        }
        if text.contains("redirect without LOCATION") {
            return Self::OtherRegion(None);
        }
        match status_of(&text) {
            Some(403 | 401) => return Self::Denied,
            Some(301 | 307 | 400) => return Self::OtherRegion(None),
            Some(416) => return Self::Shortened,
            Some(429 | 500..=599) => return Self::Busy,
            _ => {}
        }
        match (error, find::<HttpError>(error).map(HttpError::kind)) {
            (object_store::Error::NotFound { .. }, _) => Self::NoObject,
            (object_store::Error::InvalidPath { .. }, _) => Self::InvalidKey,
            (_, Some(HttpErrorKind::Connect)) => Self::Unreachable,
            (_, Some(HttpErrorKind::Timeout)) => Self::Slow,
            (_, Some(_)) => Self::CutOff,
            _ => Self::Other,
        }
    }

    fn of_code(code: &str, text: &str) -> Option<Self> {
        Some(match code {
            "NoSuchBucket" => Self::NoBucket,
            "NoSuchKey" | "NoSuchVersion" => Self::NoObject,
            "InvalidRange" => Self::Shortened,
            "InvalidAccessKeyId" | "NotSignedUp" => Self::UnknownKeyId,
            "SignatureDoesNotMatch" => Self::WrongSecret,
            "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => Self::Expired,
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => Self::Denied,
            "RequestTimeTooSkewed" => Self::WrongClock,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => {
                Self::OtherRegion(between(text, "<Region>", "</Region>").map(str::to_owned))
            }
            "SlowDown" | "InternalError" | "ServiceUnavailable" => Self::Busy,
            _ => return None,
        })
    }

    fn remedy(self, attempt: &Attempt<'_>, named: &Named<'_>) -> (Origin, String) {
        let Named { bucket, settings, address } = named;
        let user = |why: String| (Origin::User, why);
        let outside = |why: String| (Origin::External, why);
        match self {
            Self::NoBucket => user(format!("there is no bucket `{bucket}` at {address}; create it, or correct `url`")),
            Self::NoObject => user("it is not there; put it there, or correct `url`".to_owned()),
            Self::Shortened => outside("it is shorter than it was; run again".to_owned()),
            Self::UnknownKeyId => user(format!("{address} does not know the access key id; correct it in {settings}")),
            Self::WrongSecret => user(format!(
                "the secret access key does not belong to the access key id; correct the keys in {settings}"
            )),
            Self::Expired => user(format!("the credentials have expired; renew them in {settings}")),
            Self::Denied => {
                user(format!("access is denied; allow the keys of {settings} `{}`", right_for(attempt, bucket)))
            }
            Self::WrongClock => user(format!("the clock of this machine differs from that of {address}; set it right")),
            Self::NoCredentials => user(format!(
                "there are no credentials; set `access_key_id` and `secret_access_key` of a connection, or \
                 `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or give this machine a role ({settings} has none)"
            )),
            Self::OtherRegion(Some(region)) => {
                user(format!("bucket `{bucket}` is in region `{region}`; set `region: {region}` in {settings}"))
            }
            Self::OtherRegion(None) => user(format!(
                "{address} sends the request away; bucket `{bucket}` may be in another region: \
                 set `region` in {settings}, and check `endpoint` and `path_style`"
            )),
            Self::InvalidKey => user("a key has an empty part (`//`), `.` or `..` in it; narrow `url`".to_owned()),
            Self::Unreachable => outside(format!(
                "{address} cannot be reached; check `endpoint` of {settings}, the network and the proxy"
            )),
            Self::Slow => outside(format!("{address} did not answer in time; try again, or raise `request_timeout`")),
            Self::CutOff => outside(format!("the connection to {address} broke off; try again")),
            Self::Busy => outside(format!("{address} is overloaded or failing; try again later")),
            Self::Other => {
                outside(format!("{address} gave an answer that is not understood; check `endpoint` of {settings}"))
            }
        }
    }
}

fn right_for(attempt: &Attempt<'_>, bucket: &str) -> String {
    match attempt {
        Attempt::List { .. } => format!("s3:ListBucket` on `{bucket}"),
        Attempt::Look { .. } | Attempt::Read { .. } => format!("s3:GetObject` on `{bucket}/*"),
    }
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

/// The code in an answer of S3. The client hands the answer on as text only.
fn code_of(text: &str) -> Option<&str> {
    between(text, "<Code>", "</Code>")
}

fn status_of(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// A plain word between two marks.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    let (word, _) = rest.split_once(end)?;
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
    (!word.is_empty() && word.len() <= 64 && word.chars().all(is_plain)).then_some(word)
}

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
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> object_store::Error {
        let text =
            format!("Error performing GET http://s3 in 1ms - Server returned non-2xx status code: {status}: {body}");
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    fn told(status: &str, body: &str) -> String {
        let connection = S3Connection { endpoint: Some("https://s3.example".to_owned()), ..S3Connection::default() };
        let name = ConnectionName::new("lake");
        let place = Place::s3("b", Some(&name), Some(&connection));
        let error = explained(&place, &Attempt::List { url: "s3://b/*" }, answer(status, body));
        let cause = error.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{error} / {cause}")
    }

    #[test]
    fn each_refusal_is_told_with_its_remedy_and_without_what_was_sent() {
        let cases = [
            ("404 Not Found", "NoSuchBucket", "there is no bucket `b` at `https://s3.example`"),
            ("403 Forbidden", "InvalidAccessKeyId", "does not know the access key id; correct it in connection `lake`"),
            ("403 Forbidden", "SignatureDoesNotMatch", "correct the keys in connection `lake`"),
            ("400 Bad Request", "ExpiredToken", "have expired; renew them in connection `lake`"),
            ("403 Forbidden", "AccessDenied", "allow the keys of connection `lake` `s3:ListBucket` on `b`"),
            ("403 Forbidden", "RequestTimeTooSkewed", "set it right"),
            ("503 Slow Down", "SlowDown", "try again later"),
            ("418 I'm a teapot", "Whatever", "gave an answer that is not understood"),
        ];
        for (status, code, expected) in cases {
            let body = format!("<Error><Code>{code}</Code><AWSAccessKeyId>AKIDHUSH</AWSAccessKeyId></Error>");
            let told = told(status, &body);
            assert!(told.contains(expected) && told.contains(code), "{told}");
            assert!(!told.contains("AKIDHUSH"), "{told}");
        }
    }

    #[test]
    fn a_bucket_in_another_region_is_told_with_the_region() {
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert!(told("400 Bad Request", body).contains("set `region: eu-west-1` in connection `lake`"));
        assert!(told("301 Moved Permanently", "").contains("may be in another region"));
    }

    #[test]
    fn a_status_without_a_body_is_told_as_far_as_it_goes() {
        assert!(told("403 Forbidden", "").ends_with(
            "access is denied; allow the keys of connection `lake` `s3:ListBucket` on `b` / HTTP status 403"
        ));
        assert!(told("502 Bad Gateway", "<html>").contains("overloaded or failing"));
    }
}
