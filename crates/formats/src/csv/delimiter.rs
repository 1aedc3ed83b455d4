//! Tells what stands between two cells, from the beginning of a file.
//!
//! A character counts if it splits the header and the first records into equally many cells, at least two. If it is the
//! only one of its kind, it is the delimiter; so it is if only with it every quote stands where one belongs. Beyond that,
//! nobody but its owner knows which is meant.

use csv_core::{ReadRecordResult, ReaderBuilder};

use crate::outlet::Stop;

const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Records that are looked at: the first ones, so that a file costs the same however long it is.
const RECORDS: usize = 100;

/// The delimiter of a file that begins like this; `is_all` says that nothing follows. `columns` is the number of columns
/// if it is known.
pub(super) fn detect(start: &[u8], is_all: bool, columns: Option<usize>) -> Result<u8, Stop> {
    let splits = |counts: &[usize]| counts.first().is_some_and(|&first| first == columns.unwrap_or(first.max(2)));
    let shapes = CANDIDATES.map(|delimiter| (delimiter, cell_counts(start, is_all, delimiter)));
    let possible: Vec<_> = shapes.iter().filter(|(_, counts)| splits(counts)).collect();
    let even: Vec<_> =
        possible.iter().filter(|(_, counts)| counts.iter().all(|count| *count == counts[0])).copied().collect();
    let quoting: Vec<_> = even.iter().filter(|(delimiter, _)| quotes_fit(start, *delimiter)).copied().collect();
    match (quoting.as_slice(), even.as_slice(), possible.as_slice()) {
        // A file of one column has none.
        (_, _, []) => Ok(b','),
        (_, [(delimiter, _), ..], _) if columns == Some(1) => Ok(*delimiter),
        ([(delimiter, _)], ..) | (_, [(delimiter, _)], _) | (_, _, [(delimiter, _)]) => Ok(*delimiter),
        (_, [], several) | (_, several, _) => Err(ambiguous(several)),
    }
}

/// Whether each quote opens a cell, closes one or is one of two within.
fn quotes_fit(start: &[u8], delimiter: u8) -> bool {
    let (mut is_quoted, mut before) = (false, delimiter);
    let is_between = |byte| byte == delimiter || matches!(byte, b'\r' | b'\n');
    for &byte in start {
        // Behind a quote that closes, another one opens again: two that stand for one.
        if byte == b'"' && !is_quoted && before != b'"' && !is_between(before) {
            return false;
        }
        if before == b'"' && !is_quoted && byte != b'"' && !is_between(byte) {
            return false;
        }
        is_quoted ^= byte == b'"';
        before = byte;
    }
    true
}

fn ambiguous(possible: &[&(u8, Vec<usize>)]) -> Stop {
    let named = possible.iter().map(|(delimiter, _)| match delimiter {
        b'\t' => "a tab".to_owned(),
        other => format!("`{}`", char::from(*other)),
    });
    let named = named.collect::<Vec<_>>().join(" or ");
    Stop::Broken(format!("the delimiter may be {named}, each of which splits the first lines; declare `delimiter`"))
}

/// How many cells each of the first records has if this is the delimiter.
fn cell_counts(start: &[u8], is_all: bool, delimiter: u8) -> Vec<usize> {
    let mut splitter = ReaderBuilder::new().delimiter(delimiter).build();
    // Never too short: a record has no more cells than bytes, but for one.
    let (mut cells, mut ends) = (vec![0; start.len()], vec![0; start.len() + 1]);
    let (mut rest, mut counts, mut count) = (start, Vec::new(), 0);
    while counts.len() < RECORDS {
        let (result, consumed, _, ended) = splitter.read_record(rest, &mut cells, &mut ends);
        rest = &rest[consumed..];
        count += ended;
        match result {
            ReadRecordResult::Record => counts.push(std::mem::take(&mut count)),
            // An empty input tells the splitter that the file has ended.
            ReadRecordResult::InputEmpty if is_all => {}
            _ => break,
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(text: &str) -> Result<u8, String> {
        detect(text.as_bytes(), true, None).map_err(|stop| match stop {
            Stop::Broken(reason) => reason,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_one_that_splits_evenly_is_the_delimiter() {
        for (text, delimiter) in [
            ("a,b\n1,2\n", b','),
            ("a;b\n1,5;2,5\n", b';'),
            ("a\tb, c\n1, 2, 3\t4\n", b'\t'),
            ("a|b|c\n1|2|3", b'|'),
            ("name;\"x, y\"\nAnna;\"1, 2\"\n", b';'),
            ("Last, First;b\nX;2\n", b';'),
            ("a;b\n1;2;3\n", b';'),
            ("a\n1\n", b','),
            ("a\n1,5\n", b','),
            ("", b','),
            ("\n\n", b','),
        ] {
            assert_eq!(detected(text), Ok(delimiter), "{text:?}");
        }
    }

    #[test]
    fn two_that_split_evenly_are_told() {
        let reason = detected("Last, First;b\nX, Y;2\n").unwrap_err();
        assert!(reason.contains("may be `,` or `;`") && reason.contains("declare `delimiter`"), "{reason}");
        assert!(detected("a\tb|c\n1\n").unwrap_err().contains("a tab or `|`"));
    }

    #[test]
    fn a_record_that_is_not_all_there_says_nothing() {
        assert_eq!(detect(b"a,x;b\n1;2\n3,", false, None).ok(), Some(b';'));
    }

    #[test]
    fn the_number_of_columns_decides_where_it_is_known() {
        assert_eq!(detect(b"1,5;2,5\n", true, Some(2)).ok(), Some(b';'));
        assert_eq!(detect(b"1,5;2,5\n", true, Some(3)).ok(), Some(b','));
        assert_eq!(detect(b"1,5;2,5\n", true, Some(1)).ok(), Some(b'\t'), "what is not there splits nothing");
    }
}
