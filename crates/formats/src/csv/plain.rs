//! Splits a record that can be left as it lies, as most can, many bytes at a time.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr3_iter};

/// What the unread bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// A record of so many bytes, its line end included, in which so many lines end.
    Record { length: usize, lines: u64 },
    /// Something that takes a closer look: a quote that stands for itself, or a line end of its own kind.
    Other,
    /// A record whose end is not there yet.
    Unended,
}

/// Splits the record at the beginning; puts where its cells lie, without their quotes, into `spans`.
pub(super) fn split_plain(unread: &[u8], delimiter: u8, spans: &mut Vec<Range<usize>>) -> Plain {
    spans.clear();
    let (mut start, mut lines) = (0, 1);
    loop {
        let found = match unread.get(start) {
            Some(b'"') => {
                let found = split_quoted(unread, start, delimiter, spans);
                lines += spans.last().map_or(0, |cell| memchr_iter(b'\n', &unread[cell.clone()]).count() as u64);
                found
            }
            _ => split_bare(unread, start, delimiter, spans),
        };
        match found {
            Found::Cells { next } => start = next,
            Found::Record { length } => return Plain::Record { length, lines },
            Found::Other => return Plain::Other,
            Found::Unended => return Plain::Unended,
        }
    }
}

/// How far a part of a record reaches.
enum Found {
    /// Behind a delimiter; there, another cell starts.
    Cells {
        next: usize,
    },
    /// The record ends with the part.
    Record {
        length: usize,
    },
    Other,
    Unended,
}

/// Splits one cell in quotes, in which no other quote stands.
fn split_quoted(unread: &[u8], start: usize, delimiter: u8, spans: &mut Vec<Range<usize>>) -> Found {
    let Some(length) = memchr(b'"', &unread[start + 1..]) else { return Found::Unended };
    let end = start + 1 + length;
    let found = match unread[end + 1..] {
        [] | [b'\r'] => return Found::Unended,
        [byte, ..] if byte == delimiter => Found::Cells { next: end + 2 },
        [b'\n', ..] => Found::Record { length: end + 2 },
        [b'\r', b'\n', ..] => Found::Record { length: end + 3 },
        _ => return Found::Other,
    };
    spans.push(start + 1..end);
    found
}

/// Splits cells without quotes, up to the first one that has some.
fn split_bare(unread: &[u8], first: usize, delimiter: u8, spans: &mut Vec<Range<usize>>) -> Found {
    let mut start = first;
    for at in memchr3_iter(delimiter, b'\n', b'"', &unread[first..]) {
        let at = first + at;
        match unread[at] {
            b'\n' => {
                let end = if unread[first..at].ends_with(b"\r") { at - 1 } else { at };
                spans.push(start..end.max(start));
                // It would end a record, too.
                let is_other = memchr(b'\r', &unread[first..end]).is_some();
                return if is_other { Found::Other } else { Found::Record { length: at + 1 } };
            }
            b'"' if at > start => return Found::Other,
            b'"' => {
                let is_other = memchr(b'\r', &unread[first..at]).is_some();
                return if is_other { Found::Other } else { Found::Cells { next: at } };
            }
            _ => {
                spans.push(start..at);
                start = at + 1;
            }
        }
    }
    Found::Unended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_split_where_its_cells_can_be_left_as_they_lie() {
        let mut spans = Vec::new();
        for (text, expected, cells) in [
            ("a,b\n", Plain::Record { length: 4, lines: 1 }, &["a", "b"][..]),
            ("a,b\r\nc", Plain::Record { length: 5, lines: 1 }, &["a", "b"]),
            (",\n", Plain::Record { length: 2, lines: 1 }, &["", ""]),
            (",\r\n", Plain::Record { length: 3, lines: 1 }, &["", ""]),
            ("a\n", Plain::Record { length: 2, lines: 1 }, &["a"]),
            ("\"a\",b\n", Plain::Record { length: 6, lines: 1 }, &["a", "b"]),
            ("a,\"b,\r\n\"\r\nc", Plain::Record { length: 10, lines: 2 }, &["a", "b,\r\n"]),
            ("\"\",\"\",c,\"\"\n", Plain::Record { length: 11, lines: 1 }, &["", "", "c", ""]),
        ] {
            assert_eq!(split_plain(text.as_bytes(), b',', &mut spans), expected, "{text:?}");
            let found: Vec<&str> = spans.iter().map(|span| &text[span.clone()]).collect();
            assert_eq!(found, cells, "{text:?}");
        }
        for (text, expected) in [
            ("a,\"b\"\"\"\n", Plain::Other),
            ("a,\"b\"x\n", Plain::Other),
            ("a\"b\n", Plain::Other),
            ("a\rb\n", Plain::Other),
            ("a\r\r\n", Plain::Other),
            ("\r,\"b\"\n", Plain::Other),
            ("\"b\"\r", Plain::Unended),
            ("\"b\"", Plain::Unended),
            ("\"b", Plain::Unended),
            ("a,b", Plain::Unended),
            ("", Plain::Unended),
        ] {
            assert_eq!(split_plain(text.as_bytes(), b',', &mut spans), expected, "{text:?}");
        }
    }
}
