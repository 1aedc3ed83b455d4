//! Any bytes as CSV, under any options. The `csv` crate has to see the same records.

use arrow::array::{Array, AsArray};
use convoke_formats::{CsvFormat, Delimiter, Encoding, FileFormat};

use super::reading::{has_lone_return, read};

/// The first byte chooses the options, the others are the file.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, file)) = data.split_first() else { return };
    let delimiter = match choice & 7 {
        0 => Delimiter::Detected,
        1 => Delimiter::Is(b';'),
        2 => Delimiter::Is(b'\t'),
        3 => Delimiter::Is(b'|'),
        _ => Delimiter::Is(b','),
    };
    let encoding = ["utf-8", "auto", "utf-16le", "windows-1252", "shift_jis", "utf-8", "auto", "utf-16be"];
    let encoding = encoding[usize::from(choice >> 3 & 7)];
    let columns = (choice & 0x40 != 0).then(|| vec!["a".to_owned(), "b".to_owned()]);
    let has_header = columns.is_none();
    let format = CsvFormat {
        delimiter,
        encoding: Encoding::named(encoding).expect("a known name"),
        columns,
        aliases: vec![("alias".to_owned(), "name".to_owned())],
    };
    let contents = read(&FileFormat::Csv(format), file);
    if let (Delimiter::Is(delimiter), "utf-8", true) = (delimiter, encoding, contents.is_whole()) {
        agrees(&contents, file, delimiter, has_header);
    }
}

fn agrees(contents: &super::reading::Contents, file: &[u8], delimiter: u8, has_header: bool) {
    // What is packed is not CSV to that crate.
    if [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"PK"].iter().any(|magic| file.starts_with(magic))
        || file.get(1..4) == Some(b"\x2a\x4d\x18")
    {
        return;
    }
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut peer =
        csv::ReaderBuilder::new().has_headers(has_header).flexible(true).delimiter(delimiter).from_reader(file);
    let peers: Vec<csv::ByteRecord> = peer.byte_records().map(|record| record.expect("memory can be read")).collect();
    assert_eq!(peers.len(), contents.positions.len() + contents.malformed.len());
    if has_lone_return(file) {
        return;
    }
    let mut malformed: Vec<u64> = contents.malformed.iter().map(|(line, _)| *line).collect();
    malformed.reverse();
    let mut records = contents.records().peekable();
    for peer in &peers {
        let next = records.peek().map(|record| record.0);
        if malformed.last().is_some_and(|line| next.is_none_or(|next| *line < next)) {
            malformed.pop();
            continue;
        }
        let (_, batch, row) = records.next().expect("as many as the peer's");
        let cells = batch.columns().iter().map(|column| {
            let column = column.as_string::<i32>();
            if column.is_null(row) { "" } else { column.value(row) }
        });
        assert!(cells.map(str::as_bytes).eq(peer.iter()), "{peer:?}");
    }
}
