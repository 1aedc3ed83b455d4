//! Manifests: small files that list others, and by that say which belong together and when they are complete.
//!
//! JSON, `{"files": [{"name": "a.csv", "size": 120, "sha256": "…"}, "b.csv"]}`, where `size` and the checksum (`sha256`,
//! `md5` or `blake3`, in hexadecimal digits) may be left out; or text with a name on each line, before it a checksum if
//! there is one, as `sha256sum` and `md5sum` write it. Empty lines, and such that begin with `#`, say nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Read};

use md5::Md5;
use serde::Deserialize;
use sha2::Sha256;

/// A longer file is no manifest.
pub(crate) const LONGEST: u64 = 64 << 20;

/// What a manifest says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) size: Option<u64>,
    pub(crate) checksum: Option<Checksum>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checksum {
    kind: Kind,
    /// Lower-case hexadecimal digits.
    digits: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Blake3,
    Md5,
    Sha256,
}

/// Reads a manifest; the error says what is wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Listed>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.trim_start_matches('\u{feff}');
    let listed = if text.trim_start().starts_with(['{', '[']) { parse_json(text)? } else { parse_text(text)? };
    if listed.is_empty() {
        return Err("it lists no file".to_owned());
    }
    let mut names = BTreeSet::new();
    for (at, Listed { name, .. }) in listed.iter().enumerate() {
        if name.is_empty() || name.contains(['/', '\\']) {
            return Err("it lists something that is no name of a file beside it".to_owned());
        }
        if !names.insert(name) {
            return Err(format!("its {}. entry lists a name that is listed before it", at + 1));
        }
    }
    Ok(listed)
}

#[derive(Deserialize)]
struct Document {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Name(String),
    Described { name: String, size: Option<u64>, sha256: Option<String>, md5: Option<String>, blake3: Option<String> },
}

fn parse_json(text: &str) -> Result<Vec<Listed>, String> {
    let not_understood = |error: serde_json::Error| {
        format!(
            "line {}: it is not of the form `{{\"files\": [{{\"name\": \"a.csv\", \"size\": 120}}]}}`",
            error.line()
        )
    };
    let entries = match text.trim_start().starts_with('[') {
        true => serde_json::from_str::<Vec<Entry>>(text).map_err(not_understood)?,
        false => serde_json::from_str::<Document>(text).map_err(not_understood)?.files,
    };
    entries.into_iter().enumerate().map(|(at, entry)| entry.listed(at + 1)).collect()
}

impl Entry {
    fn listed(self, number: usize) -> Result<Listed, String> {
        match self {
            Self::Name(name) => Ok(Listed { name, size: None, checksum: None }),
            Self::Described { name, size, sha256, md5, blake3 } => {
                let given = [(Kind::Sha256, sha256), (Kind::Md5, md5), (Kind::Blake3, blake3)];
                let given = given.into_iter().find_map(|(kind, digits)| Some((kind, digits?)));
                let checksum = match given {
                    Some((kind, digits)) => Some(Checksum::new(kind, &digits).ok_or_else(|| no_checksum(number))?),
                    None => None,
                };
                Ok(Listed { name, size, checksum })
            }
        }
    }
}

fn no_checksum(number: usize) -> String {
    format!("its {number}. entry gives no checksum: `sha256` and `blake3` take 64 hexadecimal digits, `md5` 32")
}

fn parse_text(text: &str) -> Result<Vec<Listed>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(parse_line).collect())
}

fn parse_line(line: &str) -> Listed {
    let whole = || Listed { name: line.to_owned(), size: None, checksum: None };
    let Some((first, rest)) = line.split_once(char::is_whitespace) else { return whole() };
    let checksum = match first.split_once(':') {
        Some(("sha256", digits)) => Checksum::new(Kind::Sha256, digits),
        Some(("md5", digits)) => Checksum::new(Kind::Md5, digits),
        Some(("blake3", digits)) => Checksum::new(Kind::Blake3, digits),
        _ => Checksum::new(Kind::Sha256, first).or_else(|| Checksum::new(Kind::Md5, first)),
    };
    match checksum {
        // The star says that the file was read as it is.
        Some(_) => Listed { name: rest.trim_start().trim_start_matches('*').to_owned(), size: None, checksum },
        None => whole(),
    }
}

impl Checksum {
    fn new(kind: Kind, digits: &str) -> Option<Self> {
        let length = if kind == Kind::Md5 { 32 } else { 64 };
        let is_one = digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_one.then(|| Self { kind, digits: digits.to_ascii_lowercase() })
    }

    /// Whether this is the checksum of all that a reader has to give.
    pub(crate) fn holds_for(&self, mut input: impl Read) -> io::Result<bool> {
        let mut sums = (blake3::Hasher::new(), Md5::default(), Sha256::default());
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = input.read(&mut buffer)?;
            let part = &buffer[..length];
            match self.kind {
                _ if length == 0 => break,
                Kind::Blake3 => drop(sums.0.update(part)),
                Kind::Md5 => md5::Digest::update(&mut sums.1, part),
                Kind::Sha256 => sha2::Digest::update(&mut sums.2, part),
            }
        }
        let found = match self.kind {
            Kind::Blake3 => hexadecimal(sums.0.finalize().as_bytes()),
            Kind::Md5 => hexadecimal(&md5::Digest::finalize(sums.1)),
            Kind::Sha256 => hexadecimal(&sha2::Digest::finalize(sums.2)),
        };
        Ok(found == self.digits)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every text");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const MD5: &str = "5d41402abc4b2a76b9719d911017c592";

    fn names(text: &str) -> Vec<String> {
        parse(text.as_bytes()).unwrap().into_iter().map(|listed| listed.name).collect()
    }

    #[test]
    fn json_and_text_list_the_same_files() {
        let json = format!(r#"{{"files": [{{"name": "a b.csv", "size": 5, "sha256": "{SHA256}"}}, "b.csv"]}}"#);
        assert_eq!(names(&json), ["a b.csv", "b.csv"]);
        assert_eq!(names(r#"["a b.csv", {"name": "b.csv"}]"#), ["a b.csv", "b.csv"]);
        let text = format!("# of today\r\n{SHA256}  a b.csv\r\n\r\n{MD5} *b.csv\r\n");
        assert_eq!(names(&text), ["a b.csv", "b.csv"]);
        assert_eq!(names("\u{feff}a b.csv\nb.csv"), ["a b.csv", "b.csv"]);
    }

    #[test]
    fn checksums_of_every_kind_are_held_against_the_contents() {
        let blake3 = blake3::hash(b"hello").to_hex().to_string();
        for line in [
            format!("{SHA256}  a"),
            format!("{}  a", SHA256.to_uppercase()),
            format!("{MD5}  a"),
            format!("blake3:{blake3} a"),
        ] {
            let listed = parse(line.as_bytes()).unwrap();
            let checksum = listed[0].checksum.as_ref().unwrap();
            assert!(checksum.holds_for(&b"hello"[..]).unwrap(), "{line}");
            assert!(!checksum.holds_for(&b"hallo"[..]).unwrap(), "{line}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_told_without_showing_it() {
        let cases = [
            ("", "it lists no file"),
            ("{\"files\": []}", "it lists no file"),
            ("{\"files\": [{\"size\": 3}]}", "it is not of the form"),
            ("{\"files\": [{\"name\": \"a\", \"md5\": \"canary\"}]}", "its 1. entry gives no checksum"),
            ("../a.csv", "no name of a file beside it"),
            ("a.csv\na.csv", "its 2. entry lists a name that is listed before it"),
        ];
        for (text, expected) in cases {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
        }
        assert_eq!(parse(b"\xff").unwrap_err(), "it is not UTF-8");
    }
}
