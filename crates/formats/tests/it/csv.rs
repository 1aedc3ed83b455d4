//! CSV files.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use convoke_core::source::SplitItem;
use convoke_formats::{CsvFormat, Delimiter, Encoding, FileFormat, FileReader, InputError};
use proptest::prelude::*;

use crate::contents::{Contents, cells, digest};

fn format() -> FileFormat {
    FileFormat::Csv(CsvFormat {
        delimiter: Delimiter::Is(b','),
        encoding: Encoding::named("utf-8").unwrap(),
        ..CsvFormat::default()
    })
}

fn read(bytes: impl AsRef<[u8]>) -> Contents {
    Contents::of(&format(), bytes.as_ref())
}

#[test]
fn untidy_files_are_read_as_they_are_meant() {
    for (what, bytes, records, positions) in [
        ("plain", "a,b\n1,2\n3,4\n", vec![vec!["1", "2"], vec!["3", "4"]], vec![2, 3]),
        ("no line end at the end", "a,b\n1,2", vec![vec!["1", "2"]], vec![2]),
        ("line ends of Windows", "a,b\r\n1,2\r\n3,4\r\n", vec![vec!["1", "2"], vec!["3", "4"]], vec![2, 3]),
        ("blank lines", "\n\na,b\n\n1,2\r\n\r\n3,4\n\n", vec![vec!["1", "2"], vec!["3", "4"]], vec![5, 7]),
        ("a byte order mark", "\u{feff}a,b\n1,2\n", vec![vec!["1", "2"]], vec![2]),
        ("a mark and quotes", "\u{feff}\"a\",b\n1,2\n", vec![vec!["1", "2"]], vec![2]),
        ("quotes", "a,b\n\"x, \"\"y\"\"\",\"\"\n", vec![vec!["x, \"y\"", ""]], vec![2]),
        ("a quoted line end", "a,b\n\"1\n1\",2\n3,4\n", vec![vec!["1\n1", "2"], vec!["3", "4"]], vec![2, 4]),
        (
            "a quoted line end of Windows",
            "a,b\r\n\"1\r\n1\",2\r\n3,4\r\n",
            vec![vec!["1\r\n1", "2"], vec!["3", "4"]],
            vec![2, 4],
        ),
        ("a quote within a cell", "a,b\n5\" disk,2\n", vec![vec!["5\" disk", "2"]], vec![2]),
        ("a closing quote at the end", "a,b\n1,\"2\"", vec![vec!["1", "2"]], vec![2]),
        ("an empty last cell at the end", "a,b\n1,", vec![vec!["1", ""]], vec![2]),
        ("empty cells", "a,b\n,\n", vec![vec!["", ""]], vec![2]),
        ("letters of all kinds", "a,b\nZoë,日本\n", vec![vec!["Zoë", "日本"]], vec![2]),
    ] {
        let contents = read(bytes);
        let expected: Vec<_> = records.iter().map(|record| cells(record)).collect();
        assert_eq!(contents.records, expected, "{what}");
        assert_eq!(contents.positions, positions, "{what}");
        assert_eq!(contents.columns, ["a", "b"], "{what}");
        assert_eq!(contents.fingerprint, digest(bytes), "{what}");
        assert_eq!((contents.malformed, contents.broken), (vec![], None), "{what}");
    }
}

#[test]
fn records_that_do_not_fit_are_told_with_their_line_and_without_their_values() {
    let contents = read(b"a,b\nsecret\n1,2\nsecret,2,3\n\"x\ny\",\xff\n\xc3,\xa9\n3,4\n");
    assert_eq!(contents.records, [cells(&["1", "2"]), cells(&["3", "4"])]);
    assert_eq!(contents.positions, [3, 8]);
    assert_eq!(
        contents.told(),
        [
            (2, "1 fields where the header has 2"),
            (4, "3 fields where the header has 2"),
            (5, "bytes that are not UTF-8; is that the `encoding` of the file?"),
            (7, "bytes that are not UTF-8; is that the `encoding` of the file?"),
        ]
    );
}

#[test]
fn files_without_a_header_have_the_columns_that_are_declared() {
    let columns = Some(vec!["email".to_owned(), "name".to_owned()]);
    let format = FileFormat::Csv(CsvFormat { delimiter: Delimiter::Is(b','), columns, ..CsvFormat::default() });
    let contents = Contents::of(&format, &b"a,b\n1,2,3\n3,4\n"[..]);
    assert_eq!(contents.columns, ["email", "name"]);
    assert_eq!(contents.records, [cells(&["a", "b"]), cells(&["3", "4"])]);
    assert_eq!(
        (contents.positions.as_slice(), contents.told()),
        (&[1, 3][..], vec![(2, "3 fields where `columns` names 2")])
    );
}

#[test]
fn files_that_cannot_be_used_are_broken_with_a_reason() {
    for (bytes, expected) in [
        (&b"a,a\n1,2\n"[..], "columns 1 and 2 are both named `a`"),
        (b"a,\n1,2\n", "column 2 has no name"),
        (b"a,\xff\n1,2\n", "the header of column 2 is not UTF-8"),
        (b"\xff\xfea\0,\0", "`encoding` says UTF-8, and the byte order mark of the file UTF-16LE"),
        (b"\xff\xfe\0\0a\0\0\0", "the file is UTF-32"),
        (b"a,b\n1,2\n3,\"4\n5,6\n", "the record at line 3 opens a quote that is never closed"),
        (b"a,b\n1,\"", "the record at line 2 opens a quote that is never closed"),
        (b"", "the file is empty: it has not even a header"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"\r\n\n", "the file is empty"),
    ] {
        let contents = read(bytes);
        let reason = contents.broken.unwrap_or_default();
        assert!(reason.contains(expected), "{reason:?} is not {expected:?}");
        assert_eq!(contents.fingerprint, None);
    }
}

#[test]
fn a_record_in_the_place_of_the_header_is_not_shown() {
    let long = "x".repeat(65);
    for cell in ["ada@example.com", "+49 30 1234-567", long.as_str()] {
        let reason = read(format!("{cell},a,{cell}\n")).broken.unwrap();
        assert!(reason.contains("columns 1 and 3 have the same name") && !reason.contains(cell), "{reason}");
    }
}

#[test]
fn a_quote_that_swallows_the_file_is_told_before_it_takes_the_memory() {
    let mut bytes = b"a,b\n1,\"2\n".to_vec();
    bytes.resize(40 << 20, b'x');
    assert!(read(bytes).broken.unwrap().contains("the record at line 2 is longer than 16 MB"));
}

#[test]
fn a_file_that_ends_within_a_record_is_broken_and_not_short_of_it() {
    for (bytes, is_broken) in [("a,b\n1,2\n3", true), ("a,b\n1,2\n3\n", false), ("a,b\n1,2\n3,4,5", false)] {
        let contents = read(bytes);
        assert_eq!(contents.broken.is_some(), is_broken, "{bytes:?}");
        if let Some(reason) = contents.broken {
            assert!(reason.contains("middle of the record at line 3") && reason.contains("drop it again"), "{reason}");
        }
    }
}

#[test]
fn a_file_with_more_malformed_records_than_allowed_is_broken() {
    for (max_malformed, is_broken) in [(0.5, false), (0.4, true)] {
        let format = format();
        let contents = Contents::with(FileReader { format: &format, max_malformed }, &b"a,b\n1,2\n1\n"[..], None);
        assert_eq!(contents.broken.is_some(), is_broken, "{max_malformed}");
    }
}

#[test]
fn files_without_records_are_read_as_empty() {
    for bytes in ["a,b", "a,b\n", "\u{feff}a,b\r\n\r\n"] {
        assert_eq!(read(bytes), Contents { fingerprint: digest(bytes), ..Contents::default() }, "{bytes:?}");
    }
}

#[test]
fn header_names_are_trimmed_and_replaced_by_their_aliases() {
    let aliases = vec![("E-Mail Address".to_owned(), "email".to_owned())];
    let format = FileFormat::Csv(CsvFormat { delimiter: Delimiter::Is(b';'), aliases, ..CsvFormat::default() });
    let bytes = &b" e-mail address ; Name \n1;2\n"[..];
    assert_eq!(Contents::of(&format, bytes).columns, ["email", "Name"]);
    let schema = FileReader { format: &format, max_malformed: 0.0 }.schema(bytes).unwrap().unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["email", "Name"]);
}

#[test]
fn only_the_columns_asked_for_are_read_and_every_record_is_still_checked() {
    let (format, bytes) = (format(), &b"a,b,c\n1,2,3\n4,5\n6,7,8\n"[..]);
    let reader = FileReader { format: &format, max_malformed: 1.0 };
    for (wanted, records) in
        [(&["c", "x", "a"][..], vec![cells(&["1", "3"]), cells(&["6", "8"])]), (&[], vec![cells(&[]), cells(&[])])]
    {
        let fields: Vec<_> = wanted.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        let contents = Contents::with(reader, bytes, Some(&Arc::new(Schema::new(fields))));
        assert_eq!((contents.records, contents.positions), (records, vec![2, 4]), "{wanted:?}");
        assert_eq!(contents.malformed.len(), 1, "{wanted:?}");
    }
}

/// Yields its bytes, then fails.
struct Failing(&'static [u8]);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the disk is gone")),
            length => Ok(length),
        }
    }
}

#[test]
fn bytes_that_cannot_be_had_are_an_error_and_not_a_broken_file() {
    let format = format();
    let reader = FileReader { format: &format, max_malformed: 1.0 };
    let mut ends = 0;
    let mut take = |_| {
        ends += 1;
        ControlFlow::Continue(())
    };
    let InputError(error) = reader.read(Failing(b"a,b\n1,2\n3,"), None, &mut take).unwrap_err();
    assert_eq!((error.to_string().as_str(), ends), ("the disk is gone", 0));
    let InputError(error) = reader.schema(Failing(b"a,b")).unwrap_err();
    assert_eq!(error.to_string(), "the disk is gone");
}

#[test]
fn reading_ends_when_nobody_takes_its_items() {
    let format = format();
    let mut taken = 0;
    let mut take = |_| {
        taken += 1;
        ControlFlow::Break(())
    };
    // Were it read to its end, it would fail.
    let records = "1\n".repeat(1 << 20);
    let input = b"a\n".chain(records.as_bytes()).chain(Failing(b""));
    FileReader { format: &format, max_malformed: 1.0 }.read(input, None, &mut take).unwrap();
    assert_eq!(taken, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn whatever_a_csv_writer_writes_comes_back_exactly(
        records in proptest::collection::vec(proptest::collection::vec("[a-z,;\"\n\r äß日]{0,12}", 3), 0..40),
        with_mark: bool,
        with_windows_ends: bool,
    ) {
        let terminator = if with_windows_ends { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
        writer.write_record(["a", "b", "c"]).unwrap();
        records.iter().for_each(|record| writer.write_record(record).unwrap());
        let mark: &[u8] = if with_mark { b"\xef\xbb\xbf" } else { b"" };
        let bytes = [mark, &writer.into_inner().unwrap()].concat();

        let contents = read(&bytes);

        let expected: Vec<_> =
            records.iter().map(|record| cells(&record.iter().map(String::as_str).collect::<Vec<_>>())).collect();
        prop_assert_eq!(&contents.records, &expected);
        prop_assert_eq!((contents.malformed.len(), contents.broken), (0, None));
        let mut line = 2;
        for (record, position) in records.iter().zip(contents.positions) {
            prop_assert_eq!(position, line);
            line += 1 + record.iter().map(|cell| cell.matches('\n').count() as u64).sum::<u64>();
        }
    }
}

/// Thousands of small files are read at once, or held until there are enough of them.
#[test]
fn a_batch_of_one_record_takes_no_memory_for_thousands() {
    let line = vec!["x"; 1_000].join(",");
    let header = (0..1_000).map(|column| format!("c{column}")).collect::<Vec<_>>().join(",");
    let format = FileFormat::Csv(CsvFormat::default());
    let mut bytes = 0;
    let mut take = |item| {
        if let SplitItem::Records(batch) = item {
            bytes += batch.records.get_array_memory_size();
        }
        ControlFlow::Continue(())
    };
    let reader = FileReader { format: &format, max_malformed: 0.0 };
    reader.read(format!("{header}\n{line}\n").as_bytes(), None, &mut take).unwrap();
    assert!((1..1_000_000).contains(&bytes), "{bytes}");
}
