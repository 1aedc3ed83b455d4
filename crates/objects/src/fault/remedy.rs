//! What can be done about trouble, in the words of the store that has it.

use convoke_core::Origin;

use super::{Attempt, Remote, Trouble};
use crate::location::Scheme;

/// How the environment's variables about a store begin.
pub(super) fn variables(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Gs => "GOOGLE",
        Scheme::Az => "AZURE",
        Scheme::S3 | Scheme::File | Scheme::Http | Scheme::Https => "AWS",
    }
}

/// Whose store it is, where no address is given.
pub(super) fn vendor(scheme: Scheme, host: &str) -> String {
    match scheme {
        Scheme::S3 | Scheme::File => "Amazon S3".to_owned(),
        Scheme::Gs => "Google Cloud Storage".to_owned(),
        Scheme::Az => "Azure Blob Storage".to_owned(),
        Scheme::Http | Scheme::Https => format!("`{}://{host}`", scheme.word()),
    }
}

/// Who has to act, and how.
pub(super) fn of(trouble: &Trouble, attempt: &Attempt<'_>, remote: &Remote) -> (Origin, String) {
    let Remote { scheme, bucket, settings, address } = remote;
    let user = |why: String| (Origin::User, why);
    let outside = |why: String| (Origin::External, why);
    let a_bucket = format!("{} `{bucket}`", bucket_word(*scheme));
    match trouble {
        Trouble::NoBucket => user(format!("there is no {a_bucket} at {address}; create it, or correct `url`")),
        Trouble::NoObject => user("it is not there; put it there, or correct `url`".to_owned()),
        Trouble::Shortened => outside("it is shorter than it was; run again".to_owned()),
        Trouble::UnknownKeyId => user(format!("{address} does not know the access key id; correct it in {settings}")),
        Trouble::WrongSecret => user(wrong_secret(remote)),
        Trouble::Expired => user(format!("the credentials have expired; renew them in {settings}")),
        Trouble::Denied => user(denied(attempt, remote)),
        Trouble::ClosedDoor => user(format!(
            "the account lets nobody in with what {settings} gives (no keys, nobody unnamed, or nobody at all); give {settings} \
             another kind of credentials, or allow this one at the account"
        )),
        Trouble::WrongClock => user(format!("the clock of this machine differs from that of {address}; set it right")),
        Trouble::NoCredentials => user(no_credentials(remote)),
        Trouble::NoToken => user(format!(
            "no token is issued for the credentials of {settings}; they are wrong, deleted or disabled, or the clock of this \
             machine is: correct them"
        )),
        Trouble::OtherRegion(Some(region)) => {
            user(format!("{a_bucket} is in region `{region}`; set `region: {region}` in {settings}"))
        }
        Trouble::OtherRegion(None) => user(sent_away(remote)),
        Trouble::NobodyPays => user(format!(
            "{a_bucket} lets its readers pay, which is not supported; copy the objects into a bucket of your own"
        )),
        Trouble::InvalidKey(key) => {
            let key = key.as_ref().map_or_else(|| "a key".to_owned(), |key| format!("the key `{key}`"));
            user(format!(
                "{key} has an empty part (`//`), `.`, `..` or a control character in it, and no listing goes past it; \
                 remove or rename what lies there, or narrow `url`"
            ))
        }
        Trouble::Unreachable => outside(unreachable(remote)),
        Trouble::Slow => outside(format!("{address} did not answer in time; try again, or raise `request_timeout`")),
        Trouble::CutOff => outside(format!("the connection to {address} broke off; try again")),
        Trouble::Busy => outside(format!("{address} is overloaded or failing; try again later")),
        Trouble::Other(code) => {
            let code = code.as_ref().map(|code| format!(" (code `{code}`)")).unwrap_or_default();
            let leads_there = what_leads_there(remote);
            outside(format!("{address} gave an answer that is not understood{code}; check {leads_there}"))
        }
    }
}

fn bucket_word(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Az => "container",
        Scheme::S3 | Scheme::Gs | Scheme::File | Scheme::Http | Scheme::Https => "bucket",
    }
}

/// The setting in which an address stands.
fn what_leads_there(Remote { scheme, settings, .. }: &Remote) -> String {
    match scheme {
        Scheme::Http | Scheme::Https => "`url`".to_owned(),
        Scheme::Az => format!("`account` and `endpoint` of {settings}"),
        Scheme::S3 | Scheme::Gs | Scheme::File => format!("`endpoint` of {settings}"),
    }
}

fn unreachable(remote: &Remote) -> String {
    format!("{} cannot be reached; check {}, the network and the proxy", remote.address, what_leads_there(remote))
}

fn wrong_secret(Remote { scheme, settings, .. }: &Remote) -> String {
    match scheme {
        Scheme::Az => format!(
            "the credentials are not those of the storage account; correct `account` and the key or signature in {settings}"
        ),
        Scheme::Gs => format!("the signature is not accepted; correct the service account's key in {settings}"),
        Scheme::S3 | Scheme::File | Scheme::Http | Scheme::Https => {
            format!("the secret access key does not belong to the access key id; correct the keys in {settings}")
        }
    }
}

fn no_credentials(Remote { scheme, settings, .. }: &Remote) -> String {
    let ways = match scheme {
        Scheme::Gs => {
            "set `service_account_file` or `anonymous: true` of a connection, or `GOOGLE_APPLICATION_CREDENTIALS`, or give \
             this machine a service account"
        }
        Scheme::Az => {
            "set `access_key`, `sas_token` or `client_secret` of a connection, or `AZURE_STORAGE_ACCOUNT_KEY`, or give this \
             machine a managed identity"
        }
        Scheme::S3 | Scheme::File | Scheme::Http | Scheme::Https => {
            "set `access_key_id` and `secret_access_key` of a connection, or `AWS_ACCESS_KEY_ID` and \
             `AWS_SECRET_ACCESS_KEY`, or give this machine a role"
        }
    };
    format!("there are no credentials; {ways} ({settings} has none)")
}

fn sent_away(Remote { scheme, bucket, settings, address }: &Remote) -> String {
    match scheme {
        Scheme::S3 | Scheme::File => format!(
            "{address} sends the request away; bucket `{bucket}` may be in another region: set `region` in {settings}, and \
             check `endpoint` and `path_style`"
        ),
        Scheme::Gs | Scheme::Az => {
            format!("{address} does not accept the request; check the name `{bucket}`, and `endpoint` of {settings}")
        }
        Scheme::Http | Scheme::Https => format!("{address} does not accept the request; check `url`"),
    }
}

fn denied(attempt: &Attempt<'_>, remote: &Remote) -> String {
    let Remote { scheme, bucket, settings, .. } = remote;
    match scheme {
        Scheme::S3 | Scheme::File => {
            format!("access is denied; allow the keys of {settings} `{}`", s3_right(attempt, bucket))
        }
        Scheme::Gs => format!(
            "access is denied; allow the account of {settings} `storage.objects.{}` on bucket `{bucket}`",
            gcs_right(attempt)
        ),
        Scheme::Az => {
            let (role, letter) = azure_right(attempt);
            format!(
                "access is denied; give {settings} the role `{role}` on container `{bucket}`, or a signature with `{letter}` \
                 among its `sp`"
            )
        }
        Scheme::Http | Scheme::Https => {
            "access is denied; only what everyone may read can be read from there".to_owned()
        }
    }
}

fn s3_right(attempt: &Attempt<'_>, bucket: &str) -> String {
    match attempt {
        Attempt::List { .. } => format!("s3:ListBucket` on `{bucket}"),
        Attempt::Look { .. } | Attempt::Read { .. } => format!("s3:GetObject` on `{bucket}/*"),
        Attempt::Write { .. } => format!("s3:PutObject` on `{bucket}/*"),
        Attempt::Delete { .. } => format!("s3:DeleteObject` on `{bucket}/*"),
    }
}

fn gcs_right(attempt: &Attempt<'_>) -> &'static str {
    match attempt {
        Attempt::List { .. } => "list",
        Attempt::Look { .. } | Attempt::Read { .. } => "get",
        Attempt::Write { .. } => "create",
        Attempt::Delete { .. } => "delete",
    }
}

/// The role that grants it, and the letter of a signature's permissions.
fn azure_right(attempt: &Attempt<'_>) -> (&'static str, char) {
    match attempt {
        Attempt::List { .. } => ("Storage Blob Data Reader", 'l'),
        Attempt::Look { .. } | Attempt::Read { .. } => ("Storage Blob Data Reader", 'r'),
        Attempt::Write { .. } => ("Storage Blob Data Contributor", 'w'),
        Attempt::Delete { .. } => ("Storage Blob Data Contributor", 'd'),
    }
}
