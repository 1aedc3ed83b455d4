//! Where objects are: on an object store, or in a folder.
//!
//! A URL is kept as text and not percent-decoded: what stands in it is the key, or the path, letter for letter, and may
//! be a pattern. A message never shows it, since somebody may have put credentials there.

use std::path::{Component, Path};

use glob::Pattern;

use crate::field::Field;
use crate::report::Report;

/// A URL that can be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectUrl {
    /// `s3://bucket/key`, `https://host/key` or `file:///path`, absolute.
    pub(crate) text: String,
    pub(crate) scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    S3,
    Gs,
    Az,
    /// A web server, which is read as everyone may read it.
    Web,
    File,
}

/// What a URL names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Objects, by a pattern.
    Objects,
    /// A folder, or the beginning of keys in a store that state is kept on.
    Folder,
    /// A folder of a bucket, under which objects are written and removed.
    Prefix,
}

/// Spellings elsewhere of what is written `s3://`, `gs://` and `az://` here.
const ALIASES: &[(&str, &str)] = &[
    ("s3a", "s3"),
    ("s3n", "s3"),
    ("S3", "s3"),
    ("gcs", "gs"),
    ("abfs", "az"),
    ("abfss", "az"),
    ("adl", "az"),
    ("azure", "az"),
    ("wasb", "az"),
    ("wasbs", "az"),
];

/// Decodes a URL, or reports what is wrong with it. A path becomes a `file:` URL.
pub(crate) fn decode(field: &Field<'_>, names: Names, base_dir: &Path, report: &mut Report) -> Option<ObjectUrl> {
    let parsed = parse(field.text()?.trim(), names, base_dir);
    parsed.map_err(|message| report.problem(field.place, &field.path, message)).ok()
}

fn parse(text: &str, names: Names, base_dir: &Path) -> Result<ObjectUrl, String> {
    if text.contains(char::is_control) {
        return Err("holds control characters; remove them".to_owned());
    }
    let url = match text.split_once("://") {
        Some(("s3", rest)) => bucket("s3", Scheme::S3, rest, names)?,
        Some(("gs", rest)) if names != Names::Folder => bucket("gs", Scheme::Gs, rest, names)?,
        Some(("az", rest)) if names != Names::Folder => bucket("az", Scheme::Az, rest, names)?,
        Some((scheme @ ("http" | "https"), rest)) if names == Names::Objects => web(scheme, rest)?,
        Some(("http" | "https", _)) if names == Names::Prefix => {
            return Err("is on a web server, where nothing can be moved; use `s3://`, `gs://` or `az://`".to_owned());
        }
        Some(("gs" | "az" | "http" | "https", _)) => {
            return Err("names a kind of store that state is not kept on; use `s3://` or `file:///`".to_owned());
        }
        Some(("file", path)) if path.starts_with('/') => file(path, names, base_dir)?,
        None if !text.starts_with("file:") => file(text, names, base_dir)?,
        Some((scheme, _)) if ALIASES.iter().any(|(alias, _)| *alias == scheme) => {
            let ours = ALIASES.iter().find(|(alias, _)| *alias == scheme).map_or("s3", |(_, ours)| ours);
            return Err(format!(
                "has another program's name for such a store; write `{ours}://BUCKET/folder/*.parquet`"
            ));
        }
        Some(("file", _)) | None => {
            let message = "a `file:` URL is absolute and has three slashes, `file:///folder`; a relative path stands \
                           without `file:`";
            return Err(message.to_owned());
        }
        Some(_) => {
            let message = "is no URL of a kind that is known; use `s3://`, `gs://`, `az://`, `https://` or `file:///`";
            return Err(message.to_owned());
        }
    };
    if names == Names::Objects {
        check_pattern(&url)?;
    }
    Ok(url)
}

fn bucket(word: &str, scheme: Scheme, rest: &str, names: Names) -> Result<ObjectUrl, String> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err("holds credentials or an account, which do not belong in a URL; name a `connection`".to_owned());
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._$".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(is_allowed) {
        return Err(format!("has no bucket of letters, digits, `-`, `.` and `_` after `{word}://`"));
    }
    if names == Names::Prefix {
        return Ok(ObjectUrl { text: format!("{word}://{bucket}/{}", prefix(key)?), scheme });
    }
    refuse_folder(key, names)?;
    Ok(ObjectUrl { text: format!("{word}://{bucket}/{key}"), scheme })
}

/// What keys begin with, letter for letter: empty, or with one `/` at its end.
fn prefix(key: &str) -> Result<String, String> {
    if key.is_empty() {
        return Ok(String::new());
    }
    let key = key.strip_suffix('/').unwrap_or(key);
    if key.contains(['*', '?', '[']) {
        return Err("holds wildcards, and names one folder; say with `pattern` which names in it count".to_owned());
    }
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has an empty part, `.` or `..` in its path; write `s3://BUCKET/folder/`".to_owned());
    }
    Ok(format!("{key}/"))
}

fn web(word: &str, rest: &str) -> Result<ObjectUrl, String> {
    let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains('@') {
        return Err("has no server alone between `://` and the path; remove what is not its name".to_owned());
    }
    refuse_folder(key, Names::Objects)?;
    if key.contains(['*', '?', '[']) {
        let message = "holds wildcards or a query, and a web server cannot be listed; name one object by its path";
        return Err(message.to_owned());
    }
    Ok(ObjectUrl { text: format!("{word}://{host}/{key}"), scheme: Scheme::Web })
}

fn file(path: &str, names: Names, base_dir: &Path) -> Result<ObjectUrl, String> {
    refuse_folder(path, names)?;
    let mut parts = Vec::new();
    if !path.starts_with('/') {
        for component in base_dir.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().ok_or("starts at a folder whose name is not Unicode; write an absolute path")?;
            // The folder's own name is no pattern.
            parts.push(if names == Names::Objects { Pattern::escape(name) } else { name.to_owned() });
        }
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name.to_owned()),
        }
    }
    Ok(ObjectUrl { text: format!("file:///{}", parts.join("/")), scheme: Scheme::File })
}

fn refuse_folder(key: &str, names: Names) -> Result<(), String> {
    let last = key.rsplit('/').next().unwrap_or_default();
    if names == Names::Objects && matches!(last, "" | "." | "..") {
        return Err("names a folder; add which objects count, `*.parquet` or `**/*.parquet`".to_owned());
    }
    Ok(())
}

fn check_pattern(url: &ObjectUrl) -> Result<(), String> {
    match Pattern::new(&url.text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is not a pattern: {}; write for example `**/*.parquet`", error.msg)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str) -> Result<String, String> {
        parse(text, Names::Objects, Path::new("/project/[a]")).map(|url| url.text)
    }

    #[test]
    fn paths_become_absolute_file_urls_and_only_what_the_user_wrote_is_a_pattern() {
        let cases = [
            ("s3://events/booth/**/*.parquet", "s3://events/booth/**/*.parquet"),
            ("s3://events/100%25 of #1/day=?/x.parquet", "s3://events/100%25 of #1/day=?/x.parquet"),
            ("file:///data/./in/../[ab].parquet", "file:///data/[ab].parquet"),
            ("gs://events/*.parquet", "gs://events/*.parquet"),
            ("az://events/$x/*.parquet", "az://events/$x/*.parquet"),
            ("https://data.example.com:8443/x/y.parquet", "https://data.example.com:8443/x/y.parquet"),
            ("/data/*.parquet", "file:///data/*.parquet"),
            ("data/*.parquet", "file:///project/[[]a[]]/data/*.parquet"),
            ("./data/x.parquet", "file:///project/[[]a[]]/data/x.parquet"),
            ("../data/x.parquet", "file:///project/data/x.parquet"),
            ("../../../../x.parquet", "file:///x.parquet"),
        ];
        for (text, expected) in cases {
            assert_eq!(objects(text), Ok(expected.to_owned()), "{text}");
        }
        let prefix = |text| parse(text, Names::Prefix, Path::new("/project")).map(|url| url.text);
        for text in ["s3://b/in/crm/", "gs://b/in/crm/", "az://b/in/crm/"] {
            assert_eq!(prefix(text), Ok(text.to_owned()));
            assert_eq!(prefix(text.trim_end_matches('/')), Ok(text.to_owned()), "one place, however it is written");
        }
        assert_eq!(prefix("gs://b"), Ok("gs://b/".to_owned()));
        let folder = |text| parse(text, Names::Folder, Path::new("/project/[a]")).map(|url| url.text);
        assert_eq!(folder("ledger/"), Ok("file:///project/[a]/ledger".to_owned()));
        assert!(folder("gs://bucket/x").unwrap_err().contains("state is not kept on"));
        assert_eq!(folder("s3://bucket"), Ok("s3://bucket/".to_owned()));
        assert_eq!(folder("s3://bucket/of #1?"), Ok("s3://bucket/of #1?".to_owned()));
    }

    #[test]
    fn a_prefix_names_one_folder_of_a_bucket_and_nothing_else() {
        let cases = [
            ("s3://b/events*/", "holds wildcards"),
            ("s3://b/events[1]/", "holds wildcards"),
            ("gs://b/events?", "holds wildcards"),
            ("s3://b/events//x/", "has an empty part"),
            ("s3://b/events//", "has an empty part"),
            ("s3://b//", "has an empty part"),
            ("az://b/events/../x", "has an empty part, `.` or `..`"),
            ("s3://b/./events", "has an empty part, `.` or `..`"),
            ("https://example.com/events/", "use `s3://`, `gs://` or `az://`"),
            ("gcs://b/events/", "write `gs://BUCKET/"),
        ];
        for (text, expected) in cases {
            let message = parse(text, Names::Prefix, Path::new("/")).map(|url| url.text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!message.contains("events"), "{message}");
        }
    }

    #[test]
    fn what_names_no_objects_is_refused_with_a_remedy_and_not_shown() {
        let cases = [
            ("gs:///events/*.parquet", "has no bucket"),
            ("abfss://events/*.parquet", "write `az://BUCKET/"),
            ("https://events.example.com/*.parquet", "a web server cannot be listed"),
            ("https://id:secret@events.example.com/x.parquet", "remove what is not its name"),
            ("s3a://events/*.parquet", "write `s3://BUCKET/"),
            ("ftp://events/*.parquet", "is no URL of a kind that is known"),
            ("file:data/*.parquet", "has three slashes"),
            ("file://data/events.parquet", "has three slashes"),
            ("s3:///events/*.parquet", "has no bucket"),
            ("s3://events:9000/*.parquet", "has no bucket"),
            ("s3://ev*nts/*.parquet", "has no bucket"),
            ("s3://id:events@bucket/*.parquet", "holds credentials"),
            ("s3://events", "names a folder"),
            ("s3://events/booth/", "names a folder"),
            ("events/", "names a folder"),
            ("events/..", "names a folder"),
            ("s3://events/[a.parquet", "is not a pattern"),
            ("s3://events/a**.parquet", "is not a pattern"),
            ("s3://events/\n*.parquet", "holds control characters"),
        ];
        for (text, expected) in cases {
            let message = objects(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!message.contains("events"), "{message}");
        }
    }
}
