//! What the URL of a source names: a store, the folder beneath which objects are looked for, and their names.
//!
//! The path is taken as it is written: nothing in it is percent-decoded, so it says what keys and paths say.

use convoke_core::{Origin, SourceError};
use glob::{MatchOptions, Pattern};

/// `*` and `?` stay within a folder; `**` does not.
const PATH_MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// A URL that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    /// As it was written.
    url: String,
    /// None: the file system of this machine.
    bucket: Option<String>,
    /// What all keys begin with: the folders before the first wildcard. Empty, or ends with `/`.
    root: String,
    names: Names,
}

/// Which names count. A name is a key without the root.
#[derive(Clone, Debug)]
enum Names {
    One(String),
    Matching(Pattern),
}

/// How an object stands to the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Named,
    /// Its name would match, but begins, or one of its folders does, as writers name what is not to be read: `_` or `.`.
    Hidden,
    Other,
}

impl Location {
    pub(crate) fn parse(url: &str) -> Result<Self, SourceError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused(url, "is no URL"))?;
        let (bucket, path) = match scheme {
            "s3" => split_bucket(url, rest)?,
            "file" => {
                let path = rest.strip_prefix('/');
                (None, path.ok_or_else(|| refused(url, "names no absolute path; write it with three slashes"))?)
            }
            "s3a" | "s3n" => return Err(refused(url, "has another program's name for S3; begin it with `s3://`")),
            _ => return Err(refused(url, "is on a store that is not supported")),
        };
        let (root, names) = split_root(url, path)?;
        Ok(Self { url: url.to_owned(), bucket: bucket.map(str::to_owned), root, names })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The URL of the root: names with it in front say which object of which store is meant.
    pub(crate) fn root_url(&self) -> String {
        self.url_of(&self.root)
    }

    /// The URL of an object, for messages.
    pub(crate) fn url_of(&self, key: &str) -> String {
        match &self.bucket {
            Some(bucket) => format!("s3://{bucket}/{key}"),
            None => format!("file:///{key}"),
        }
    }

    /// The key, if the URL names one object and no others.
    pub(crate) fn only_key(&self) -> Option<String> {
        match &self.names {
            Names::One(name) => Some(format!("{}{name}", self.root)),
            Names::Matching(_) => None,
        }
    }

    /// What all keys that match begin with, as long as it can be.
    pub(crate) fn key_start(&self) -> String {
        let name = match &self.names {
            Names::One(name) => name.as_str(),
            Names::Matching(pattern) => pattern.as_str().split(is_wildcard).next().unwrap_or_default(),
        };
        format!("{}{name}", self.root)
    }

    /// Whether all objects that match lie in the root itself, and not in folders beneath.
    pub(crate) fn is_flat(&self) -> bool {
        match &self.names {
            Names::One(_) => true,
            Names::Matching(pattern) => !pattern.as_str().contains('/') && !pattern.as_str().contains("**"),
        }
    }

    /// The name of an object; none if it does not lie beneath the root.
    pub(crate) fn name_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.root).filter(|name| !name.is_empty())
    }

    pub(crate) fn standing(&self, name: &str) -> Standing {
        match &self.names {
            Names::One(only) if only == name => Standing::Named,
            Names::Matching(pattern) if pattern.matches_with(name, PATH_MATCHING) => {
                if is_hidden(name, pattern) {
                    Standing::Hidden
                } else {
                    Standing::Named
                }
            }
            _ => Standing::Other,
        }
    }
}

/// A pattern over names, as a user asks for some of them.
pub(crate) fn name_pattern(glob: &str) -> Result<impl Fn(&str) -> bool, SourceError> {
    let pattern = Pattern::new(glob).map_err(|error| {
        let message = format!("`{glob}` is no pattern of names; write for example `2026-01-*.parquet`");
        SourceError::selection(message).caused_by(error)
    })?;
    Ok(move |name: &str| pattern.matches_with(name, PATH_MATCHING))
}

fn split_bucket<'u>(url: &str, rest: &'u str) -> Result<(Option<&'u str>, &'u str), SourceError> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains(['@', ':']) {
        let message = "`url` of the source holds a user or a port where the bucket's name is expected; \
                       put keys and `endpoint` into a connection, and write `s3://bucket/folder/*.parquet`";
        return Err(SourceError::new(Origin::User, message));
    }
    if bucket.is_empty() || bucket.contains(is_wildcard) {
        return Err(refused(url, "names no bucket"));
    }
    Ok((Some(bucket), path))
}

/// Cuts a path before the first part that holds a wildcard, or before its last part.
fn split_root(url: &str, path: &str) -> Result<(String, Names), SourceError> {
    let parts: Vec<&str> = path.split('/').collect();
    if parts.last().is_some_and(|last| last.is_empty()) {
        return Err(refused(url, "names a folder; say which objects in it are meant"));
    }
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(refused(url, "has an empty part, `.` or `..` in its path"));
    }
    let first_wild = parts.iter().position(|part| part.contains(is_wildcard));
    let (folders, rest) = parts.split_at(first_wild.unwrap_or(parts.len() - 1));
    let root: String = folders.iter().map(|folder| format!("{folder}/")).collect();
    let rest = rest.join("/");
    if first_wild.is_none() {
        return Ok((root, Names::One(rest)));
    }
    let pattern =
        Pattern::new(&rest).map_err(|error| refused(url, "has a wildcard that is not understood").caused_by(error))?;
    Ok((root, Names::Matching(pattern)))
}

fn is_wildcard(character: char) -> bool {
    matches!(character, '*' | '?' | '[')
}

/// Writers put what is not, or not yet, to be read under such names: `_temporary/…`, `_metadata`, `.part-0.crc`. A pattern
/// that spells them out means them; a folder `_date=…` is a partition.
fn is_hidden(name: &str, pattern: &Pattern) -> bool {
    let is_meant = |mark: char| pattern.as_str().split('/').any(|part| part.starts_with(mark));
    let begins = |part: &str, mark: char| part.starts_with(mark) && !is_meant(mark);
    name.split('/').any(|part| begins(part, '.') || (begins(part, '_') && !part.contains('=')))
}

fn refused(url: &str, what: &str) -> SourceError {
    let message = format!("`url: {url}` {what}; write `s3://bucket/folder/*.parquet` or `file:///folder/*.parquet`");
    SourceError::new(Origin::User, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(url: &str) -> Location {
        Location::parse(url).unwrap()
    }

    #[test]
    fn a_url_is_cut_before_the_first_wildcard() {
        let cases = [
            ("s3://b/in/2026/part-*.parquet", "in/2026/", "in/2026/part-", true),
            ("s3://b/*.parquet", "", "", true),
            ("s3://b/in/**/*.parquet", "in/", "in/", false),
            ("s3://b/in/**", "in/", "in/", false),
            ("s3://b/in/year=*/a.parquet", "in/", "in/year=", false),
            ("file:///data/in/[ab]?.parquet", "data/in/", "data/in/", true),
            ("file:///data/in/a.parquet", "data/in/", "data/in/a.parquet", true),
        ];
        for (url, root, start, flat) in cases {
            let location = location(url);
            assert_eq!(
                (location.root(), location.key_start().as_str(), location.is_flat()),
                (root, start, flat),
                "{url}"
            );
        }
        assert_eq!(location("s3://b/in/a.parquet").only_key().as_deref(), Some("in/a.parquet"));
        assert_eq!(location("s3://b/in/?.parquet").only_key(), None);
    }

    #[test]
    fn wildcards_stay_within_a_folder_unless_doubled() {
        let cases = [
            ("s3://b/*.parquet", "a.parquet", true),
            ("s3://b/*.parquet", "x/a.parquet", false),
            ("s3://b/**/*.parquet", "a.parquet", true),
            ("s3://b/**/*.parquet", "x/y/a.parquet", true),
            ("s3://b/x/**/c.parquet", "a/c.parquet", true),
            ("s3://b/*/a.parquet", "x/a.parquet", true),
            ("s3://b/*/a.parquet", "x/y/a.parquet", false),
            ("s3://b/part-?.parquet", "part-1.parquet", true),
            ("s3://b/part-?.parquet", "part-10.parquet", false),
            ("s3://b/[!a]*.parquet", "b.parquet", true),
            ("s3://b/[!a]*.parquet", "a.parquet", false),
            ("s3://b/*.parquet", "a.PARQUET", false),
        ];
        for (url, name, expected) in cases {
            assert_eq!(location(url).standing(name) == Standing::Named, expected, "{url} and {name}");
        }
    }

    #[test]
    fn what_writers_hide_counts_only_if_it_is_spelt_out() {
        let all = location("s3://b/in/**/*.parquet");
        for name in ["_temporary/0/a.parquet", ".a.parquet", "x/.hive/a.parquet", "_a.parquet"] {
            assert_eq!(all.standing(name), Standing::Hidden, "{name}");
        }
        assert_eq!(all.standing("_date=2026-01-01/a.parquet"), Standing::Named);
        assert_eq!(location("s3://b/in/_*/a.parquet").standing("_x/a.parquet"), Standing::Named);
        assert_eq!(location("file:///_x/.y/*.parquet").standing("a.parquet"), Standing::Named);
    }

    #[test]
    fn urls_that_name_no_objects_are_refused_with_the_way_to_write_them() {
        let cases = [
            ("/data/a.parquet", "is no URL"),
            ("gs://b/a.parquet", "is on a store that is not supported"),
            ("az://b/a.parquet", "is on a store that is not supported"),
            ("s3a://b/a.parquet", "begin it with `s3://`"),
            ("file://data/a.parquet", "names no absolute path"),
            ("s3:///a.parquet", "names no bucket"),
            ("s3://b*/a.parquet", "names no bucket"),
            ("s3://b", "names a folder"),
            ("s3://b/in/", "names a folder"),
            ("s3://b/in//a.parquet", "has an empty part"),
            ("s3://b/../a.parquet", "`..`"),
            ("s3://b/a**/b.parquet", "a wildcard that is not understood"),
            ("s3://b/a[.parquet", "a wildcard that is not understood"),
        ];
        for (url, expected) in cases {
            let error = Location::parse(url).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("write `s3://bucket/"), "{url}: {error}");
        }
    }

    #[test]
    fn keys_in_a_url_are_refused_without_showing_them() {
        let error = Location::parse("s3://AKID:hush@b/a.parquet").unwrap_err().to_string();
        assert!(error.contains("into a connection") && !error.contains("hush") && !error.contains("AKID"), "{error}");
    }
}
