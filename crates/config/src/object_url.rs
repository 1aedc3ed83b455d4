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
    /// `s3://bucket/key` or `file:///path`, absolute.
    pub(crate) text: String,
    pub(crate) scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    S3,
    File,
}

/// What a URL names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Objects, by a pattern.
    Objects,
    /// A folder, or the beginning of keys.
    Folder,
}

/// Schemes of other stores, which are not built.
const PLANNED: &[&str] = &["gs", "gcs", "az", "adl", "abfs", "abfss", "azure", "http", "https"];

/// Spellings of `s3` elsewhere.
const S3_ALIASES: &[&str] = &["s3a", "s3n", "S3"];

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
        Some(("s3", rest)) => s3(rest, names)?,
        Some(("file", path)) if path.starts_with('/') => file(path, names, base_dir)?,
        None if !text.starts_with("file:") => file(text, names, base_dir)?,
        Some((scheme, _)) if S3_ALIASES.contains(&scheme) => return Err("is an S3 URL; write `s3://`".to_owned()),
        Some((scheme, _)) if PLANNED.contains(&scheme) => {
            return Err("names a kind of store that is not built yet; use `s3://` or `file:///`".to_owned());
        }
        Some(("file", _)) | None => {
            let message = "a `file:` URL is absolute and has three slashes, `file:///folder`; a relative path stands \
                           without `file:`";
            return Err(message.to_owned());
        }
        Some(_) => return Err("is no URL of a kind that is known; use `s3://` or `file:///`".to_owned()),
    };
    if names == Names::Objects {
        check_pattern(&url)?;
    }
    Ok(url)
}

fn s3(rest: &str, names: Names) -> Result<ObjectUrl, String> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err("holds credentials, which do not belong in a URL; name a `connection`".to_owned());
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(is_allowed) {
        return Err("has no bucket of letters, digits, `-`, `.` and `_` after `s3://`".to_owned());
    }
    refuse_folder(key, names)?;
    Ok(ObjectUrl { text: format!("s3://{bucket}/{key}"), scheme: Scheme::S3 })
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
            ("/data/*.parquet", "file:///data/*.parquet"),
            ("data/*.parquet", "file:///project/[[]a[]]/data/*.parquet"),
            ("./data/x.parquet", "file:///project/[[]a[]]/data/x.parquet"),
            ("../data/x.parquet", "file:///project/data/x.parquet"),
            ("../../../../x.parquet", "file:///x.parquet"),
        ];
        for (text, expected) in cases {
            assert_eq!(objects(text), Ok(expected.to_owned()), "{text}");
        }
        let folder = |text| parse(text, Names::Folder, Path::new("/project/[a]")).map(|url| url.text);
        assert_eq!(folder("ledger/"), Ok("file:///project/[a]/ledger".to_owned()));
        assert_eq!(folder("s3://bucket"), Ok("s3://bucket/".to_owned()));
        assert_eq!(folder("s3://bucket/of #1?"), Ok("s3://bucket/of #1?".to_owned()));
    }

    #[test]
    fn what_names_no_objects_is_refused_with_a_remedy_and_not_shown() {
        let cases = [
            ("gs://events/*.parquet", "not built yet"),
            ("az://events/*.parquet", "not built yet"),
            ("https://events.example.com/x.parquet", "not built yet"),
            ("s3a://events/*.parquet", "write `s3://`"),
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
