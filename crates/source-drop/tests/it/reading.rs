//! What is read from a file, tidy or not.

use std::fs;

use convoke_core::error::SourceErrorKind;
use convoke_core::spec::DropMode;
use convoke_testkit::contract::source::SourceSetUp;
use proptest::prelude::*;

use crate::test_folder::{Contents, TestFolder};

fn cells(record: &[&str]) -> Vec<Option<String>> {
    record.iter().map(|cell| (!cell.is_empty()).then(|| (*cell).to_owned())).collect()
}

#[tokio::test]
async fn untidy_files_are_read_as_they_are_meant() {
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
        let contents = TestFolder::new(DropMode::Snapshot).read_file(bytes).await;
        let expected: Vec<_> = records.iter().map(|record| cells(record)).collect();
        assert_eq!(contents.records, expected, "{what}");
        assert_eq!(contents.positions, positions, "{what}");
        assert_eq!(contents.columns, ["a", "b"], "{what}");
        assert_eq!(contents.fingerprint, Some(blake3::hash(bytes.as_bytes()).to_hex().to_string()), "{what}");
        assert_eq!((contents.malformed, contents.broken), (vec![], None), "{what}");
    }
}

#[tokio::test]
async fn records_that_do_not_fit_are_told_with_their_line_and_without_their_values() {
    let bytes = b"a,b\nsecret\n1,2\nsecret,2,3\n\"x\ny\",\xff\n\xc3,\xa9\n3,4\n";
    let contents = TestFolder::new(DropMode::Snapshot).read_file(bytes).await;
    assert_eq!(contents.records, [cells(&["1", "2"]), cells(&["3", "4"])]);
    assert_eq!(contents.positions, [3, 8]);
    let told: Vec<(u64, &str)> =
        contents.malformed.iter().map(|record| (record.position, record.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "1 fields where the header has 2"),
            (4, "3 fields where the header has 2"),
            (5, "bytes that are not UTF-8"),
            (7, "bytes that are not UTF-8"),
        ]
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_are_broken_with_a_reason() {
    for (bytes, expected) in [
        (&b"a,a\n1,2\n"[..], "columns 1 and 2 are both named `a`"),
        (b"a,\n1,2\n", "column 2 has no name"),
        (b"a,\xff\n1,2\n", "the header of column 2 is not UTF-8"),
        (b"\xff\xfea\0,\0", "the file is UTF-16"),
        (b"\xfe\xff\0a\0,", "the file is UTF-16"),
        (b"a,b\n1,2\n3,\"4\n5,6\n", "the record at line 3 opens a quote that is never closed"),
        (b"a,b\n1,\"", "the record at line 2 opens a quote that is never closed"),
        (b"", "the file is empty: it has not even a header"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"\r\n\n", "the file is empty"),
    ] {
        let contents = TestFolder::new(DropMode::Snapshot).read_file(bytes).await;
        let reason = contents.broken.unwrap_or_default();
        assert!(reason.contains(expected), "{reason:?} is not {expected:?}");
        assert_eq!(contents.fingerprint, None);
    }
}

#[tokio::test]
async fn a_record_in_the_place_of_the_header_is_not_shown() {
    let long = "x".repeat(65);
    for cell in ["ada@example.com", "+49 30 1234-567", long.as_str()] {
        let contents = TestFolder::new(DropMode::Snapshot).read_file(format!("{cell},a,{cell}\n")).await;
        let reason = contents.broken.unwrap();
        assert!(reason.contains("columns 1 and 3 have the same name") && !reason.contains(cell), "{reason}");
    }
}

#[tokio::test]
async fn a_quote_that_swallows_the_file_is_told_before_it_takes_the_memory() {
    let mut bytes = b"a,b\n1,\"2\n".to_vec();
    bytes.resize(40 << 20, b'x');
    let contents = TestFolder::new(DropMode::Snapshot).read_file(bytes).await;
    assert!(contents.broken.unwrap().contains("the record at line 2 is longer than 16 MB"));
}

#[tokio::test]
async fn a_file_that_ends_within_a_record_is_broken_and_not_short_of_it() {
    for (bytes, is_broken) in [("a,b\n1,2\n3", true), ("a,b\n1,2\n3\n", false), ("a,b\n1,2\n3,4,5", false)] {
        let folder = TestFolder::with(DropMode::Snapshot, |spec| spec.max_malformed = 1.0);
        let contents = folder.read_file(bytes).await;
        assert_eq!(contents.broken.is_some(), is_broken, "{bytes:?}");
        if let Some(reason) = contents.broken {
            assert!(reason.contains("middle of the record at line 3") && reason.contains("drop it again"), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_file_with_more_malformed_records_than_allowed_is_broken() {
    for (max_malformed, is_broken) in [(0.5, false), (0.4, true)] {
        let folder = TestFolder::with(DropMode::Snapshot, |spec| spec.max_malformed = max_malformed);
        let contents = folder.read_file("a,b\n1,2\n1\n").await;
        assert_eq!(contents.broken.is_some(), is_broken, "{max_malformed}");
    }
}

#[tokio::test]
async fn files_without_records_are_read_as_empty_snapshots() {
    for bytes in ["a,b", "a,b\n", "\u{feff}a,b\r\n\r\n"] {
        let contents = TestFolder::new(DropMode::Snapshot).read_file(bytes).await;
        let fingerprint = Some(blake3::hash(bytes.as_bytes()).to_hex().to_string());
        assert_eq!(contents, Contents { fingerprint, ..Contents::default() }, "{bytes:?}");
    }
}

#[tokio::test]
async fn header_names_are_trimmed_and_replaced_by_their_aliases() {
    let folder = TestFolder::with(DropMode::Snapshot, |spec| {
        spec.aliases = vec![("E-Mail Address".to_owned(), "email".to_owned())];
        spec.delimiter = ';';
    });
    let contents = folder.read_file(" e-mail address ; Name \n1;2\n").await;
    assert_eq!(contents.columns, ["email", "Name"]);
    let described = folder.source().describe().await.unwrap();
    let names: Vec<&str> = described.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["email", "Name"]);
    assert!(described.origin.ends_with("file.csv"));
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_listed_is_an_error_and_not_records() {
    let folder = TestFolder::new(DropMode::Snapshot);
    folder.write("file.csv", "a\n1\n");
    let discovery = folder.discover(None).await;
    folder.write("file.csv", "a\n1\n2\n");
    let error = folder.try_read(&discovery.splits[0]).await.unwrap_err();
    assert!(error.to_string().contains("changed while it was read; run again"), "{error}");
    assert_eq!(error.kind, SourceErrorKind::Changed);
    fs::remove_file(folder.path("file.csv")).unwrap();
    let error = folder.try_read(&discovery.splits[0]).await.unwrap_err();
    assert!(error.to_string().contains("file.csv` went away"), "{error}");
    assert_eq!(error.kind, SourceErrorKind::Changed);
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

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let contents = runtime.block_on(TestFolder::new(DropMode::Snapshot).read_file(&bytes));

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
