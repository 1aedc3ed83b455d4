//! Splits the bytes of a file into lines. Blank ones are passed over.

use std::io::Read;
use std::ops::Range;

use crate::outlet::Stop;

/// How many bytes are read at once.
const READ_SIZE: usize = 1 << 18;
/// A longer line is not taken into memory.
const LONGEST_LINE: usize = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A line that is not blank.
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    /// Whether the file ends without a line end behind it, so that more of it may be missing.
    pub(super) is_cut: bool,
    /// The error says what is wrong with the line.
    pub(super) text: Result<&'a str, String>,
}

pub(super) struct Lines<'a> {
    input: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    /// The part of `buffer` that was read and not handed out.
    unread: Range<usize>,
    number: u64,
    is_read: bool,
}

/// Where the next line is.
enum Found {
    Line(Range<usize>),
    TooLong,
    End,
}

impl<'a> Lines<'a> {
    pub(super) fn new(input: Box<dyn Read + 'a>) -> Self {
        Self { input, buffer: vec![0; READ_SIZE], unread: 0..0, number: 0, is_read: false }
    }

    /// The next line; none at the end of the file.
    pub(super) fn advance(&mut self) -> Result<Option<Line<'_>>, Stop> {
        loop {
            let found = self.find()?;
            self.number += 1;
            let (number, is_cut) = (self.number, self.is_read && self.unread.is_empty());
            let range = match found {
                Found::End => return Ok(None),
                Found::TooLong => {
                    let text = Err(format!("the line is longer than {} MB", LONGEST_LINE >> 20));
                    return Ok(Some(Line { number, is_cut, text }));
                }
                Found::Line(range) => self.without_mark(range)?,
            };
            if self.buffer[range.clone()].iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let is_cut = is_cut && self.buffer[range.end - 1] != b'\n';
            let text = std::str::from_utf8(&self.buffer[range]).map_err(|_| "bytes that are not UTF-8".to_owned());
            return Ok(Some(Line { number, is_cut, text }));
        }
    }

    /// Finds the next line, with its line end if it has one.
    fn find(&mut self) -> Result<Found, Stop> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(at) = memchr::memchr(b'\n', &unread[searched..]) {
                return Ok(Found::Line(self.take(searched + at + 1)));
            }
            searched = unread.len();
            if searched >= LONGEST_LINE {
                self.skip_line()?;
                return Ok(Found::TooLong);
            }
            if !self.fill()? {
                return Ok(if searched == 0 { Found::End } else { Found::Line(self.take(searched)) });
            }
        }
    }

    fn take(&mut self, length: usize) -> Range<usize> {
        let start = self.unread.start;
        self.unread.start += length;
        start..self.unread.start
    }

    /// Passes over the rest of a line.
    fn skip_line(&mut self) -> Result<(), Stop> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(at) = memchr::memchr(b'\n', unread) {
                self.take(at + 1);
                return Ok(());
            }
            self.unread = 0..0;
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Reads more behind what is unread; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool, Stop> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let length = self.input.read(&mut self.buffer[self.unread.end..])?;
        self.unread.end += length;
        self.is_read = length == 0;
        Ok(length > 0)
    }

    /// The line without the byte order mark with which a file may begin.
    fn without_mark(&self, range: Range<usize>) -> Result<Range<usize>, Stop> {
        let line = &self.buffer[range.clone()];
        if self.number > 1 {
            return Ok(range);
        }
        if line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]) {
            return Err(Stop::Broken("the file is UTF-16, and JSON has to be UTF-8; save it as that".to_owned()));
        }
        let mark = if line.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Ok(range.start + mark..range.end)
    }
}
