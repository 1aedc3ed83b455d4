//! Keys in the files of the AWS command line.
//!
//! A profile counts if it holds keys. One that leads elsewhere (a role of another profile, single sign-on, a program) is
//! refused with what to do instead.

use std::fs;
use std::io::ErrorKind;

use convoke_core::spec::{S3Credentials, S3Profile};
use secrecy::SecretString;

use crate::ClientError;

/// What a profile holds.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) credentials: S3Credentials,
    pub(crate) region: Option<String>,
}

/// Settings by which a profile gets its keys from elsewhere.
const LEADS_ELSEWHERE: &[&str] = &["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"];

/// Looks a profile up.
pub(crate) fn read(profile: &S3Profile) -> Result<Found, ClientError> {
    let mut settings = Vec::new();
    let mut is_there = false;
    for file in &profile.files {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(cause) => {
                let message = format!("the file {} with profiles cannot be read; check its rights", file.display());
                return Err(ClientError::user(message).caused_by(cause));
            }
        };
        if let Some(found) = section(&text, &profile.name) {
            is_there = true;
            settings.extend(found);
        }
    }
    // The first file goes before the second.
    let setting = |key: &str| settings.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
    match (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret)) => Ok(Found {
            credentials: S3Credentials {
                access_key_id,
                secret_access_key: SecretString::from(secret),
                session_token: setting("aws_session_token").map(SecretString::from),
            },
            region: setting("region"),
        }),
        _ if !is_there => Err(missing(profile)),
        _ => Err(without_keys(profile, LEADS_ELSEWHERE.iter().find(|key| setting(key).is_some()))),
    }
}

fn missing(profile: &S3Profile) -> ClientError {
    let files: Vec<String> = profile.files.iter().map(|file| file.display().to_string()).collect();
    let message =
        format!("there is no profile `{}` in {}; add it, or correct `profile`", profile.name, files.join(" and "));
    ClientError::user(message)
}

fn without_keys(profile: &S3Profile, elsewhere: Option<&&str>) -> ClientError {
    let name = &profile.name;
    ClientError::user(match elsewhere {
        Some(key) => format!(
            "profile `{name}` gets its keys by `{key}`, which is not supported; name a profile that holds keys, or give \
             the environment keys with `aws configure export-credentials` and leave `profile` out"
        ),
        None => format!(
            "profile `{name}` holds no keys; give it `aws_access_key_id` and `aws_secret_access_key`, or correct `profile`"
        ),
    })
}

/// The settings of a section, `[name]` or `[profile name]`; none if there is no such section.
fn section(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let (mut found, mut is_inside) = (None, false);
    for line in text.lines() {
        // What is indented belongs to the setting above, which is none of ours.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default().trim();
            let header = header.strip_prefix("profile ").unwrap_or(header).trim();
            is_inside = header == name;
            if is_inside {
                found.get_or_insert_with(Vec::new);
            }
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            let setting = (key.trim().to_lowercase(), value.trim().to_owned());
            found.get_or_insert_with(Vec::new).push(setting);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::*;

    fn profile(folder: &Path, name: &str) -> S3Profile {
        S3Profile { name: name.to_owned(), files: vec![folder.join("credentials"), folder.join("config")] }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let credentials = "# a remark\n[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = hush\n\n\
                           [lake]\naws_access_key_id=AKIDLAKE\naws_secret_access_key=a=b/c\nAWS_SESSION_TOKEN = tok\n\
                           s3 =\n  aws_access_key_id = nested\n[half]\naws_access_key_id = AKID\n";
        fs::write(folder.path().join("credentials"), credentials).unwrap();
        let config = "[default]\nregion = us-west-2\n[profile lake]\nregion = eu-central-1\naws_access_key_id = other\n\
                      [profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = lake\n\
                      [profile sso]\nsso_session = x\n";
        fs::write(folder.path().join("config"), config).unwrap();
        folder
    }

    #[test]
    fn a_profile_is_read_from_both_files_and_the_first_goes_before_the_second() {
        let folder = folder();
        let found = read(&profile(folder.path(), "lake")).unwrap();
        assert_eq!(found.credentials.access_key_id, "AKIDLAKE");
        assert_eq!(found.credentials.secret_access_key.expose_secret(), "a=b/c");
        assert_eq!(found.credentials.session_token.unwrap().expose_secret(), "tok");
        assert_eq!(found.region.as_deref(), Some("eu-central-1"));
        let found = read(&profile(folder.path(), "default")).unwrap();
        assert!(found.credentials.session_token.is_none());
        assert_eq!(found.region.as_deref(), Some("us-west-2"));
    }

    #[test]
    fn a_profile_without_keys_of_its_own_is_refused_with_what_to_do() {
        let folder = folder();
        let cases = [
            ("other", "there is no profile `other`"),
            ("half", "profile `half` holds no keys"),
            ("role", "gets its keys by `role_arn`, which is not supported"),
            ("sso", "aws configure export-credentials"),
        ];
        for (name, expected) in cases {
            let error = read(&profile(folder.path(), name)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let nowhere = profile(&folder.path().join("nowhere"), "lake");
        assert!(read(&nowhere).unwrap_err().to_string().contains("there is no profile"));
    }
}
