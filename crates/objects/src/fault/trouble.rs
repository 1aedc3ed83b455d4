//! What is wrong, as far as the store lets on.

use object_store::client::{HttpError, HttpErrorKind};
use object_store::path;

use super::find;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    NoBucket,
    NoObject,
    Shortened,
    UnknownKeyId,
    WrongSecret,
    Expired,
    Denied,
    /// The account lets nobody in by this way.
    ClosedDoor,
    WrongClock,
    NoCredentials,
    /// Whoever issues tokens does not know who asks, or does not believe it.
    NoToken,
    /// With the region that the store expects, if it tells.
    OtherRegion(Option<String>),
    /// Whoever reads has to say who pays.
    NobodyPays,
    /// With the key, if it is known.
    InvalidKey(Option<String>),
    Unreachable,
    Slow,
    CutOff,
    Busy,
    /// With the code, if one was told.
    Other(Option<String>),
}

/// The key that cannot be addressed, with what cannot be shown of it written out.
fn key_of(error: &path::Error) -> Option<String> {
    let (path::Error::EmptySegment { path } | path::Error::BadSegment { path, .. }) = error else { return None };
    Some(path.chars().map(|one| if one.is_control() { one.escape_default().to_string() } else { one.into() }).collect())
}

impl Trouble {
    pub(super) fn of(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let code = code_of(&text);
        if let Some(trouble) = code.and_then(|code| Self::of_code(code, &text)) {
            return trouble;
        }
        // The machine's own credentials are asked for at these addresses, when there are no others.
        if ["169.254.169.254", "instance metadata", "metadata.google.internal"].iter().any(|mark| text.contains(mark)) {
            return Self::NoCredentials;
        }
        if text.contains("redirect without LOCATION") {
            return Self::OtherRegion(None);
        }
        match status_of(&text) {
            Some(403 | 401) => return Self::Denied,
            Some(301 | 307) => return Self::OtherRegion(None),
            // A store of another region refuses a look at an object in an answer without a body.
            Some(400) if code.is_none() => return Self::OtherRegion(None),
            Some(416) => return Self::Shortened,
            Some(429 | 500..=599) => return Self::Busy,
            _ => {}
        }
        match (error, find::<HttpError>(error).map(HttpError::kind)) {
            (object_store::Error::NotFound { .. }, _) => Self::NoObject,
            (object_store::Error::InvalidPath { .. }, _) => Self::InvalidKey(find(error).and_then(key_of)),
            (_, Some(HttpErrorKind::Connect)) => Self::Unreachable,
            (_, Some(HttpErrorKind::Timeout)) => Self::Slow,
            (_, Some(_)) => Self::CutOff,
            _ => Self::Other(code.map(str::to_owned)),
        }
    }

    /// The codes of all stores together: none means one thing here and another there.
    fn of_code(code: &str, text: &str) -> Option<Self> {
        Some(match code {
            "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "InvalidBucketName" => Self::NoBucket,
            "NoSuchKey" | "NoSuchVersion" | "BlobNotFound" => Self::NoObject,
            "InvalidRange" => Self::Shortened,
            "InvalidAccessKeyId" | "NotSignedUp" => Self::UnknownKeyId,
            // Azure says of a signature whose time is over or has not come that it does not authenticate.
            "AuthenticationFailed" if text.contains("time frame") => Self::Expired,
            "SignatureDoesNotMatch" | "AuthenticationFailed" | "InvalidAuthenticationInfo" => Self::WrongSecret,
            "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => Self::Expired,
            "AccessDenied"
            | "AllAccessDisabled"
            | "AccountProblem"
            | "AuthorizationFailure"
            | "AuthorizationPermissionMismatch"
            | "AuthorizationResourceTypeMismatch"
            | "AuthorizationServiceMismatch"
            | "AuthorizationSourceIPMismatch"
            | "InsufficientAccountPermissions"
            | "NoAuthenticationInformation" => Self::Denied,
            "PublicAccessNotPermitted" | "KeyBasedAuthenticationNotPermitted" | "AccountIsDisabled" => Self::ClosedDoor,
            "RequestTimeTooSkewed" => Self::WrongClock,
            "AuthenticationRequired" | "InvalidSecurity" => Self::NoCredentials,
            "invalid_grant" | "invalid_client" | "unauthorized_client" | "invalid_request" => Self::NoToken,
            "UserProjectMissing" | "UserProjectAccountProblem" => Self::NobodyPays,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => {
                Self::OtherRegion(between(text, "<Region>", "</Region>").map(str::to_owned))
            }
            "SlowDown" | "InternalError" | "ServiceUnavailable" | "ServerBusy" | "OperationTimedOut" => Self::Busy,
            _ => return None,
        })
    }
}

/// The code in an answer of a store, or of who issues tokens. The client hands the answer on as text only.
pub(super) fn code_of(text: &str) -> Option<&str> {
    let in_json = || {
        let (_, rest) = text.split_once("\"error\"")?;
        between(rest.trim_start_matches([':', ' ']), "\"", "\"")
    };
    between(text, "<Code>", "</Code>").or_else(in_json)
}

pub(super) fn status_of(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// A plain word between two marks.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    let (word, _) = rest.split_once(end)?;
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
    (!word.is_empty() && word.len() <= 64 && word.chars().all(is_plain)).then_some(word)
}
