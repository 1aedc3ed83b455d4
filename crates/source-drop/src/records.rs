//! Splits the bytes of a CSV file into records, with the line at which each starts.
//!
//! Memory is bounded by the longest record admitted, so that a quote that is never closed cannot take the whole
//! file into memory. Every byte goes through the fingerprint on its way.

use std::io::{self, Read};

use convoke_core::quotes::Quotes;
use csv_core::{ReadRecordResult, Reader as Splitter, ReaderBuilder};

/// How many bytes are read from the file at once.
const READ_SIZE: usize = 1 << 18;
/// A record longer than this is taken for a quote that was never closed.
const LONGEST_RECORD: usize = 16 << 20;
/// A record with more cells than this is none.
const MOST_CELLS: usize = 1 << 16;

/// What stands next in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A record starts at this line; its cells are in the reader.
    Record {
        line: u64,
    },
    End,
    /// The file cannot be split into records from here on.
    Broken(String),
}

pub(crate) struct Records<R> {
    input: R,
    splitter: Splitter,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    /// The part of `buffer` that was read from the file and not yet split.
    unread: std::ops::Range<usize>,
    cells: Vec<u8>,
    ends: Vec<usize>,
    line: u64,
    bytes_read: u64,
    /// Whether the last record reached the end of the file without a line end.
    is_cut: bool,
    delimiter: u8,
    /// Followed as the splitter does, which takes text behind a closing quote into the cell.
    quotes: Quotes,
}

/// How far the record under way has come.
#[derive(Default)]
struct Progress {
    bytes: usize,
    cells: usize,
    /// The line at which the record starts, once its first byte has been seen.
    line: Option<u64>,
}

impl<R: Read> Records<R> {
    /// Starts at the beginning of a file; `Err` holds why it cannot be read at all.
    pub(crate) fn start(input: R, delimiter: u8) -> io::Result<Result<Self, String>> {
        let mut records = Self {
            input,
            splitter: ReaderBuilder::new().delimiter(delimiter).build(),
            hasher: blake3::Hasher::new(),
            buffer: vec![0; READ_SIZE],
            unread: 0..0,
            cells: vec![0; 1 << 12],
            ends: vec![0; 1 << 6],
            line: 1,
            bytes_read: 0,
            is_cut: false,
            delimiter,
            quotes: Quotes::default(),
        };
        while records.unread.len() < 3 && records.fill()? {}
        let start = &records.buffer[records.unread.clone()];
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Ok(Err("the file is UTF-16; save it as UTF-8".to_owned()));
        }
        if start.starts_with(&[0xef, 0xbb, 0xbf]) {
            records.unread.start += 3;
        }
        Ok(Ok(records))
    }

    /// The cells of the last record.
    pub(crate) fn cells(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends[..count].iter().copied());
        starts.zip(&self.ends[..count]).map(|(start, end)| &self.cells[start..*end])
    }

    /// All cells of the last record in one piece, and where each ends.
    pub(crate) fn joined(&self, count: usize) -> (&[u8], &[usize]) {
        let ends = &self.ends[..count];
        (&self.cells[..ends.last().copied().unwrap_or(0)], ends)
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Whether the last record reached the end of the file without a line end, so that more of it may be missing.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether text stands behind a closing quote of the last record. Then a quote may be missing, and the record may
    /// hold others that are not its own.
    pub(crate) fn has_stray_text(&self) -> bool {
        self.quotes.has_stray()
    }

    /// The fingerprint of all bytes read.
    pub(crate) fn fingerprint(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Reads the next record; tells how many cells it has.
    pub(crate) fn advance(&mut self) -> io::Result<(Next, usize)> {
        let mut progress = Progress::default();
        self.quotes = Quotes::default();
        loop {
            if self.unread.is_empty() && !self.fill()? {
                return Ok(self.finish(&mut progress));
            }
            if progress.line.is_none() {
                self.skip_blank(&mut progress);
                if self.unread.is_empty() {
                    // An empty input would tell the splitter that the file has ended.
                    continue;
                }
            }
            if let Some(result) = self.split(&mut progress) {
                return Ok(result);
            }
        }
    }

    /// Reads more of the file behind what is unread; `false` at its end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let length = self.input.read(&mut self.buffer[self.unread.end..])?;
        self.hasher.update(&self.buffer[self.unread.end..self.unread.end + length]);
        self.unread.end += length;
        self.bytes_read += length as u64;
        Ok(length > 0)
    }

    /// Skips line ends before a record, also the second half of the `\r\n` that ended the record before.
    fn skip_blank(&mut self, progress: &mut Progress) {
        let unread = &self.buffer[self.unread.clone()];
        let blank = unread.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.line += line_ends(&unread[..blank]);
        self.unread.start += blank;
        if !self.unread.is_empty() {
            progress.line = Some(self.line);
        }
    }

    fn split(&mut self, progress: &mut Progress) -> Option<(Next, usize)> {
        let input = &self.buffer[self.unread.clone()];
        let (result, consumed, written, ended) =
            self.splitter.read_record(input, &mut self.cells[progress.bytes..], &mut self.ends[progress.cells..]);
        self.line += line_ends(&input[..consumed]);
        self.quotes.follow(&input[..consumed], self.delimiter);
        self.unread.start += consumed;
        progress.bytes += written;
        progress.cells += ended;
        self.after(result, progress)
    }

    fn after(&mut self, result: ReadRecordResult, progress: &Progress) -> Option<(Next, usize)> {
        let line = progress.line.unwrap_or(self.line);
        match result {
            ReadRecordResult::InputEmpty => None,
            ReadRecordResult::Record => Some((Next::Record { line }, progress.cells)),
            ReadRecordResult::End => Some((Next::End, 0)),
            ReadRecordResult::OutputFull if self.cells.len() >= LONGEST_RECORD => {
                let megabytes = LONGEST_RECORD >> 20;
                let reason =
                    format!("the record at line {line} is longer than {megabytes} MB; close the quote that it opens");
                Some((Next::Broken(reason), 0))
            }
            ReadRecordResult::OutputEndsFull if self.ends.len() >= MOST_CELLS => {
                let reason =
                    format!("the record at line {line} has more than {MOST_CELLS} fields; check the delimiter");
                Some((Next::Broken(reason), 0))
            }
            ReadRecordResult::OutputFull => {
                self.cells.resize(self.cells.len() * 2, 0);
                None
            }
            ReadRecordResult::OutputEndsFull => {
                self.ends.resize(self.ends.len() * 2, 0);
                None
            }
        }
    }

    /// Ends the last record, which may lack its line end, but not its closing quote.
    fn finish(&mut self, progress: &mut Progress) -> (Next, usize) {
        let Some(line) = progress.line else { return (Next::End, 0) };
        self.is_cut = true;
        loop {
            // Outside quotes a line end ends the record; inside it is one more character of the cell.
            let (result, _, written, ended) =
                self.splitter.read_record(b"\n", &mut self.cells[progress.bytes..], &mut self.ends[progress.cells..]);
            if result == ReadRecordResult::InputEmpty {
                let reason = format!("the record at line {line} opens a quote that is never closed");
                return (Next::Broken(reason), 0);
            }
            progress.bytes += written;
            progress.cells += ended;
            if let Some(end) = self.after(result, progress) {
                return end;
            }
        }
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time, so that every boundary between two reads is met.
    struct OneByOne<'a>(&'a [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    fn records_of(input: impl Read) -> (Vec<(u64, Vec<String>)>, Next) {
        let mut records = Records::start(input, b',').unwrap().unwrap_or_else(|reason| panic!("{reason}"));
        let mut found = Vec::new();
        loop {
            let (next, count) = records.advance().unwrap();
            let Next::Record { line } = next else { return (found, next) };
            let cells = records.cells(count).map(|cell| String::from_utf8(cell.to_vec()).unwrap());
            found.push((line, cells.collect()));
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_arrive() {
        for bytes in [
            "\u{feff}a,b\r\n\r\n\"1\r\n\"\"1\",2\r\n3,4",
            "a,b\n1,\"2\"",
            "a,b\n1,\"2",
            "a,b\n1,",
            "a\rb\r\rc",
            "\n\n",
            "",
        ] {
            assert_eq!(records_of(OneByOne(bytes.as_bytes())), records_of(bytes.as_bytes()), "{bytes:?}");
        }
    }

    /// Of each record, whether text stands behind a closing quote.
    fn strays_of(input: impl Read) -> Vec<bool> {
        let mut records = Records::start(input, b',').unwrap().unwrap_or_else(|reason| panic!("{reason}"));
        let mut found = Vec::new();
        while let (Next::Record { .. }, _) = records.advance().unwrap() {
            found.push(records.has_stray_text());
        }
        found
    }

    #[test]
    fn text_behind_a_closing_quote_is_noticed_in_its_record_alone() {
        let table: [(&str, &[bool]); 8] = [
            ("\"a\",\"b\"\n\"c\",d\n", &[false, false]),
            ("\"a \"\"x\"\" b\",c\n\"\"\"\",\"\"\n", &[false, false]),
            ("5\" pipe,b\nc,say \"hi\"\n", &[false, false]),
            ("\"a\r\nb\",c\r\n\"d\"\r\n", &[false, false]),
            ("\"Bo\"by,b\nc,d\n", &[true, false]),
            ("u10,\"Name 10\nu11,\"Name 11\",C\nu12,x\n", &[true, false]),
            ("\"u10\",\"Name 10\n\"u11\",\"Name 11\"\nc,d\n", &[true, false]),
            ("a,\"b\" \n", &[true]),
        ];
        for (text, strays) in table {
            assert_eq!(strays_of(text.as_bytes()), strays, "{text:?}");
            assert_eq!(strays_of(OneByOne(text.as_bytes())), strays, "{text:?} byte by byte");
        }
    }

    #[test]
    fn long_records_of_many_cells_are_split_whole() {
        let cells: Vec<String> = (0..1_000).map(|number| format!("{number:0>100}")).collect();
        let (found, end) = records_of(cells.join(",").as_bytes());
        assert_eq!((found, end), (vec![(1, cells)], Next::End));
    }

    #[test]
    fn a_record_of_too_many_cells_is_refused() {
        let (found, end) = records_of(",".repeat(MOST_CELLS + 1).as_bytes());
        assert!(found.is_empty());
        assert!(matches!(end, Next::Broken(reason) if reason.contains("check the delimiter")));
    }
}
