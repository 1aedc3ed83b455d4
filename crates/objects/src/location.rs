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
pub struct Location {
    /// As it was written.
    url: String,
    scheme: Scheme,
    /// A bucket, a container or a host. None: the file system of this machine.
    bucket: Option<String>,
    /// What all keys begin with: the folders before the first wildcard. Empty, or ends with `/`.
    root: String,
    names: Names,
}

/// What kind of store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    File,
    Http,
    Https,
}

impl Scheme {
    const ALL: [Self; 6] = [Self::S3, Self::Gs, Self::Az, Self::File, Self::Http, Self::Https];

    /// The word in front of `://`.
    pub fn word(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::File => "file",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Whether its objects lie in buckets, which a connection leads to.
    pub fn has_buckets(self) -> bool {
        matches!(self, Self::S3 | Self::Gs | Self::Az)
    }
}

/// Which names count. A name is a key without the root.
#[derive(Clone, Debug)]
enum Names {
    One(String),
    Matching(Pattern),
    /// All that lies in the root itself, whatever it is called.
    Level,
}

/// How an object stands to the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Named,
    /// Its name would match, but begins, or one of its folders does, as writers name what is not to be read: `_` or `.`.
    Hidden,
    Other,
}

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// A URL that names no objects; the message tells how to write one.
    pub fn parse(url: &str) -> Result<Self, SourceError> {
        let (word, rest) = url.split_once("://").ok_or_else(|| refused("is no URL"))?;
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.word() == word);
        let scheme = scheme.ok_or_else(|| match word {
            "s3a" | "s3n" => refused("has another program's name for S3; begin it with `s3://`"),
            "gcs" => refused("has another program's name for Google Cloud Storage; begin it with `gs://`"),
            "abfs" | "abfss" | "adl" | "azure" | "wasb" | "wasbs" => {
                refused("has another program's name for Azure Blob Storage; begin it with `az://CONTAINER/`")
            }
            _ => refused("is on a store that is not supported"),
        })?;
        let (bucket, path) = match scheme {
            Scheme::File => {
                let path = rest.strip_prefix('/');
                (None, path.ok_or_else(|| refused("names no absolute path; write it with three slashes"))?)
            }
            Scheme::Http | Scheme::Https => split_host(rest)?,
            Scheme::S3 | Scheme::Gs | Scheme::Az => split_bucket(rest)?,
        };
        let (root, names) = split_root(path)?;
        if !scheme.has_buckets() && scheme != Scheme::File && matches!(names, Names::Matching(_)) {
            return Err(refused("holds wildcards, and a web server cannot be listed; name one object"));
        }
        Ok(Self { url: url.to_owned(), scheme, bucket: bucket.map(str::to_owned), root, names })
    }

    /// A folder of a bucket, taken as it is written: nothing in it is a wildcard. All objects right beneath it are named, also
    /// those whose names writers elsewhere give to what is not to be read, and empty ones.
    ///
    /// # Errors
    ///
    /// A URL that names no folder of a bucket; the message tells how to write one.
    pub fn folder(url: &str) -> Result<Self, SourceError> {
        // The URL is not shown: there may be a key in it.
        let no_folder = |what: &str| {
            let message = format!("`url` of the source {what}; write `s3://bucket/folder/`");
            SourceError::new(Origin::User, message)
        };
        let (word, rest) = url.split_once("://").ok_or_else(|| no_folder("is no URL"))?;
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.word() == word && scheme.has_buckets());
        let scheme = scheme.ok_or_else(|| no_folder("is no folder of a bucket"))?;
        let (bucket, path) = split_bucket(rest)?;
        let folders = path.strip_suffix('/').unwrap_or(path);
        if !path.is_empty() && folders.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(no_folder("has an empty part, `.` or `..` in its path"));
        }
        let root = if path.is_empty() { String::new() } else { format!("{folders}/") };
        let bucket = bucket.map(str::to_owned);
        Ok(Self { url: url.to_owned(), scheme, bucket, root, names: Names::Level })
    }

    /// The URL as it was written.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What kind of store it is.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A bucket, a container or a host. None: the file system of this machine.
    pub fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    /// What all keys begin with.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The URL of the root: names with it in front say which object of which store is meant.
    pub fn root_url(&self) -> String {
        self.url_of(&self.root)
    }

    /// The URL of an object, for messages.
    pub fn url_of(&self, key: &str) -> String {
        match &self.bucket {
            Some(bucket) => format!("{}://{bucket}/{key}", self.scheme.word()),
            None => format!("file:///{key}"),
        }
    }

    /// The key, if the URL names one object and no others.
    pub fn only_key(&self) -> Option<String> {
        match &self.names {
            Names::One(name) => Some(format!("{}{name}", self.root)),
            Names::Matching(_) | Names::Level => None,
        }
    }

    /// What all keys that match begin with, as long as it can be.
    pub fn key_start(&self) -> String {
        let name = match &self.names {
            Names::One(name) => name.as_str(),
            Names::Matching(pattern) => pattern.as_str().split(is_wildcard).next().unwrap_or_default(),
            Names::Level => "",
        };
        format!("{}{name}", self.root)
    }

    /// Whether all objects that match lie in the root itself, and not in folders beneath.
    pub fn is_flat(&self) -> bool {
        match &self.names {
            Names::One(_) | Names::Level => true,
            Names::Matching(pattern) => !pattern.as_str().contains('/') && !pattern.as_str().contains("**"),
        }
    }

    /// The name of an object; none if it does not lie beneath the root.
    pub fn name_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.root).filter(|name| !name.is_empty())
    }

    /// Whether an empty object without an ending is taken for the mark of a folder.
    pub(crate) fn has_folder_marks(&self) -> bool {
        !matches!(self.names, Names::Level)
    }

    /// How an object of this name stands to the URL.
    pub fn standing(&self, name: &str) -> Standing {
        match &self.names {
            Names::One(only) if only == name => Standing::Named,
            Names::Level if !name.contains('/') => Standing::Named,
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
///
/// # Errors
///
/// What is no pattern.
pub fn name_pattern(glob: &str) -> Result<impl Fn(&str) -> bool, SourceError> {
    let pattern = Pattern::new(glob).map_err(|error| {
        let message = format!("`{glob}` is no pattern of names; write for example `2026-01-*.parquet`");
        SourceError::selection(message).caused_by(error)
    })?;
    Ok(move |name: &str| pattern.matches_with(name, PATH_MATCHING))
}

fn split_bucket(rest: &str) -> Result<(Option<&str>, &str), SourceError> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains(['@', ':']) {
        return Err(hides_something());
    }
    if bucket.is_empty() || bucket.contains(is_wildcard) {
        return Err(refused("names no bucket"));
    }
    Ok((Some(bucket), path))
}

fn split_host(rest: &str) -> Result<(Option<&str>, &str), SourceError> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err(hides_something());
    }
    if host.is_empty() || host.contains(is_wildcard) {
        return Err(refused("names no server"));
    }
    Ok((Some(host), path))
}

/// The URL is not shown: there may be a key in it.
fn hides_something() -> SourceError {
    let message = "`url` of the source holds a user or a port where the bucket's name is expected; put keys, `account` and \
                   `endpoint` into a connection, and write `s3://bucket/folder/*.parquet`";
    SourceError::new(Origin::User, message)
}

/// Cuts a path before the first part that holds a wildcard, or before its last part.
fn split_root(path: &str) -> Result<(String, Names), SourceError> {
    let parts: Vec<&str> = path.split('/').collect();
    if parts.last().is_some_and(|last| last.is_empty()) {
        return Err(refused("names a folder; say which objects in it are meant"));
    }
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(refused("has an empty part, `.` or `..` in its path"));
    }
    let first_wild = parts.iter().position(|part| part.contains(is_wildcard));
    let (folders, rest) = parts.split_at(first_wild.unwrap_or(parts.len() - 1));
    let root: String = folders.iter().map(|folder| format!("{folder}/")).collect();
    let rest = rest.join("/");
    if first_wild.is_none() {
        return Ok((root, Names::One(rest)));
    }
    let pattern =
        Pattern::new(&rest).map_err(|error| refused("has a wildcard that is not understood").caused_by(error))?;
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

/// The URL is not shown: what was not understood may hold a key or a signature.
fn refused(what: &str) -> SourceError {
    let message =
        format!("`url` of the source {what}; write `s3://bucket/folder/*.parquet` or `file:///folder/*.parquet`");
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
        assert_eq!(location("https://data.example:8080/x/a.parquet").url_of("x/a"), "https://data.example:8080/x/a");
        assert_eq!(location("gs://b/in/*.parquet").root_url(), "gs://b/in/");
        assert_eq!(location("s3://b/in/a.parquet").only_key().as_deref(), Some("in/a.parquet"));
        assert_eq!(location("s3://b/in/?.parquet").only_key(), None);
    }

    #[test]
    fn a_folder_is_taken_as_it_is_written_and_all_in_it_is_named() {
        for (url, root) in [("s3://b/in*/[x]/", "in*/[x]/"), ("gs://b/in", "in/"), ("az://b/", ""), ("az://b", "")] {
            let folder = Location::folder(url).unwrap();
            assert_eq!((folder.root(), folder.key_start().as_str(), folder.is_flat()), (root, root, true), "{url}");
            for name in ["_people.csv", ".a", "people_DONE", "*"] {
                assert_eq!(folder.standing(name), Standing::Named, "{name}");
            }
            assert_eq!(folder.standing("processed/a.csv"), Standing::Other);
        }
        for url in ["s3://b/in//x", "s3://b/../x", "s3://b/.", "file:///in", "https://b/in", "s3://", "in", "s3://b//"]
        {
            assert!(Location::folder(url).is_err(), "{url}");
        }
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
            ("ftp://b/a.parquet", "is on a store that is not supported"),
            ("gcs://b/a.parquet", "begin it with `gs://`"),
            ("abfss://b/a.parquet", "begin it with `az://CONTAINER/`"),
            ("https://data.example/*.parquet", "a web server cannot be listed"),
            ("https:///a.parquet", "names no server"),
            ("gs:///a.parquet", "names no bucket"),
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
        for url in ["s3://AKID:hush@b/a.parquet", "https://AKID:hush@data.example/a", "az://hush@acme.blob/AKID"] {
            let error = Location::parse(url).unwrap_err().to_string();
            assert!(
                error.contains("into a connection") && !error.contains("hush") && !error.contains("AKID"),
                "{error}"
            );
        }
        for url in [
            "s3n://AKID:hush@b/a",
            "https://data.example/a.parquet?sig=hush",
            "hush/a",
            "s3://b/hush/",
            "s3://b/hush[/a",
        ] {
            let error = Location::parse(url).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains("`url` of the source") && !told.contains("hush") && !told.contains("AKID"), "{told}");
        }
    }
}
