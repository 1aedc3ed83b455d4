//! Splits the bytes of a CSV file into records, with the line at which each starts.
//!
//! Memory is bounded by the longest record admitted, so that a quote that is never closed cannot take the whole
//! file into memory.

use std::ops::Range;

use convoke_core::quotes::Quotes;
use csv_core::{ReadRecordResult, Reader as Splitter, ReaderBuilder};

use super::delimiter;
use super::plain::{Plain, split_plain};
use crate::format::Delimiter;
use crate::outlet::Stop;
use crate::text::{LEAST_READ, Text};

/// How many bytes are read from the file at once.
const READ_SIZE: usize = 1 << 18;
/// A record longer than this is taken for a quote that was never closed.
const LONGEST_RECORD: usize = 16 << 20;
/// A record with more cells than this is none.
const MOST_CELLS: usize = 1 << 16;

/// What stands next in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A record of so many cells, which are in the reader, starts at this line.
    Record {
        line: u64,
        cell_count: usize,
    },
    End,
}

/// The cells of a record.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where in the bytes each lies.
    pub(crate) spans: &'a [Range<usize>],
    /// Whether something stands between any two of them.
    pub(crate) are_apart: bool,
}

impl<'a> Cells<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().map(|span| &self.bytes[span.clone()])
    }
}

pub(crate) struct Records<'a> {
    input: Text<'a>,
    splitter: Splitter,
    buffer: Vec<u8>,
    /// The part of `buffer` that was read from the file and not yet split.
    unread: Range<usize>,
    /// Where in `buffer` the last record lies, if it could be left there.
    plain: Option<Range<usize>>,
    spans: Vec<Range<usize>>,
    cells: Vec<u8>,
    ends: Vec<usize>,
    line: u64,
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

impl<'a> Records<'a> {
    /// Starts at the beginning of a file. `columns` is the number of columns, if it is known.
    pub(crate) fn start(input: Text<'a>, delimiter: Delimiter, columns: Option<usize>) -> Result<Self, Stop> {
        let mut records = Self {
            input,
            splitter: Splitter::new(),
            buffer: vec![0; READ_SIZE],
            unread: 0..0,
            plain: None,
            spans: Vec::new(),
            cells: vec![0; 1 << 12],
            ends: vec![0; 1 << 6],
            line: 1,
            is_cut: false,
            delimiter: b',',
            quotes: Quotes::default(),
        };
        records.delimiter = match delimiter {
            Delimiter::Is(delimiter) => delimiter,
            Delimiter::Detected => records.detect_delimiter(columns)?,
        };
        records.splitter = ReaderBuilder::new().delimiter(records.delimiter).build();
        Ok(records)
    }

    fn detect_delimiter(&mut self, columns: Option<usize>) -> Result<u8, Stop> {
        let mut is_all = false;
        while !is_all && self.unread.len() + LEAST_READ <= READ_SIZE {
            is_all = !self.fill()?;
        }
        delimiter::detect(&self.buffer[self.unread.clone()], is_all, columns)
    }

    /// The encoding of the file, as far as is known.
    pub(crate) fn encoding(&self) -> &'static str {
        self.input.encoding()
    }

    /// The cells of the last record.
    pub(crate) fn cells(&self) -> Cells<'_> {
        match &self.plain {
            Some(place) => Cells { bytes: &self.buffer[place.clone()], spans: &self.spans, are_apart: true },
            None => {
                let length = self.spans.last().map_or(0, |span| span.end);
                Cells { bytes: &self.cells[..length], spans: &self.spans, are_apart: false }
            }
        }
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

    /// Reads the next record.
    pub(crate) fn advance(&mut self) -> Result<Next, Stop> {
        let mut progress = Progress::default();
        self.quotes = Quotes::default();
        self.plain = None;
        loop {
            if self.unread.is_empty() && !self.fill()? {
                return self.finish(&mut progress);
            }
            if progress.line.is_none() {
                self.skip_blank(&mut progress);
                if self.unread.is_empty() {
                    // An empty input would tell the splitter that the file has ended.
                    continue;
                }
                if let Some(next) = self.split_plain()? {
                    return Ok(next);
                }
            }
            if let Some(next) = self.split(&mut progress)? {
                return Ok(next);
            }
        }
    }

    /// Reads more of the file behind what is unread; `false` at its end.
    fn fill(&mut self) -> Result<bool, Stop> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let length = self.input.read(&mut self.buffer[self.unread.end..])?;
        self.unread.end += length;
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

    /// Splits the next record if it lies in the buffer whole and can be left there.
    fn split_plain(&mut self) -> Result<Option<Next>, Stop> {
        /// Beyond this, a record is not looked at anew with each piece that is read.
        const LONGEST_PLAIN: usize = READ_SIZE / 2;
        loop {
            let unread = &self.buffer[self.unread.clone()];
            match split_plain(unread, self.delimiter, &mut self.spans) {
                Plain::Record { length, lines } => {
                    let cell_count = self.spans.len();
                    if cell_count > MOST_CELLS {
                        return Err(too_many_cells(self.line));
                    }
                    let start = self.unread.start;
                    self.unread.start += length;
                    self.plain = Some(start..self.unread.start);
                    let line = self.line;
                    self.line += lines;
                    return Ok(Some(Next::Record { line, cell_count }));
                }
                Plain::Other => return Ok(None),
                Plain::Unended if unread.len() > LONGEST_PLAIN || !self.fill()? => return Ok(None),
                Plain::Unended => {}
            }
        }
    }

    fn split(&mut self, progress: &mut Progress) -> Result<Option<Next>, Stop> {
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

    /// What the splitter's result leads to; none if it needs to go on.
    fn after(&mut self, result: ReadRecordResult, progress: &Progress) -> Result<Option<Next>, Stop> {
        let line = progress.line.unwrap_or(self.line);
        match result {
            ReadRecordResult::InputEmpty => return Ok(None),
            ReadRecordResult::Record => {
                let mut start = 0;
                self.spans.clear();
                self.spans
                    .extend(self.ends[..progress.cells].iter().map(|&end| std::mem::replace(&mut start, end)..end));
                return Ok(Some(Next::Record { line, cell_count: progress.cells }));
            }
            ReadRecordResult::End => return Ok(Some(Next::End)),
            ReadRecordResult::OutputFull => grow(&mut self.cells, LONGEST_RECORD).map_err(|_| too_long(line))?,
            ReadRecordResult::OutputEndsFull => grow(&mut self.ends, MOST_CELLS).map_err(|_| too_many_cells(line))?,
        }
        Ok(None)
    }

    /// Ends the last record, which may lack its line end, but not its closing quote.
    fn finish(&mut self, progress: &mut Progress) -> Result<Next, Stop> {
        let Some(line) = progress.line else { return Ok(Next::End) };
        self.is_cut = true;
        loop {
            // Outside quotes a line end ends the record; inside it is one more character of the cell.
            let (result, _, written, ended) =
                self.splitter.read_record(b"\n", &mut self.cells[progress.bytes..], &mut self.ends[progress.cells..]);
            if result == ReadRecordResult::InputEmpty {
                let reason = format!("the record at line {line} opens a quote that is never closed");
                return Err(Stop::Broken(reason));
            }
            progress.bytes += written;
            progress.cells += ended;
            if let Some(next) = self.after(result, progress)? {
                return Ok(next);
            }
        }
    }
}

/// A buffer has grown as far as it may.
struct TooLarge;

/// Doubles a buffer, unless it is as large as it may become.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, most: usize) -> Result<(), TooLarge> {
    if buffer.len() >= most {
        return Err(TooLarge);
    }
    buffer.resize(buffer.len() * 2, T::default());
    Ok(())
}

fn too_long(line: u64) -> Stop {
    let megabytes = LONGEST_RECORD >> 20;
    Stop::Broken(format!("the record at line {line} is longer than {megabytes} MB; close the quote that it opens"))
}

fn too_many_cells(line: u64) -> Stop {
    Stop::Broken(format!("the record at line {line} has more than {MOST_CELLS} fields; check the delimiter"))
}

fn line_ends(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::*;
    use crate::format::Encoding;

    /// Hands out one byte at a time, so that every boundary between two reads is met.
    struct OneByOne<'a>(&'a [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    /// The records with their lines, and why the file is broken if it is.
    fn start<'a>(input: impl Read + 'a) -> Records<'a> {
        Records::start(Text::start(input, Encoding::Detected).unwrap(), Delimiter::Is(b','), None).unwrap()
    }

    fn records_of(input: impl Read) -> (Vec<(u64, Vec<String>)>, Option<String>) {
        let mut records = start(input);
        let mut found = Vec::new();
        loop {
            match records.advance() {
                Ok(Next::Record { line, .. }) => {
                    let cells = records.cells().iter().map(|cell| String::from_utf8(cell.to_vec()).unwrap());
                    found.push((line, cells.collect()));
                }
                Ok(Next::End) => return (found, None),
                Err(Stop::Broken(reason)) => return (found, Some(reason)),
                Err(other) => panic!("{other:?}"),
            }
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
        let mut records = start(input);
        let mut found = Vec::new();
        while let Next::Record { .. } = records.advance().unwrap() {
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
        assert_eq!((found, end), (vec![(1, cells)], None));
    }

    #[test]
    fn a_record_of_too_many_cells_is_refused() {
        let (found, end) = records_of(",".repeat(MOST_CELLS + 1).as_bytes());
        assert!(found.is_empty());
        assert!(end.unwrap().contains("check the delimiter"));
    }
}
