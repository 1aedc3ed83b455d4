//! From the encoding of a file to UTF-8, in one pass.
//!
//! What is not declared is detected, and that has to be safe although what lies ahead is not known:
//!
//! 1. A byte order mark decides. One that contradicts what is declared makes the file broken.
//! 2. Without one, UTF-16 shows at the beginning: the zero bytes of its ASCII characters stand on one side, as do those of
//!    its line ends.
//! 3. Everything else reads alike in all that is left as long as it is ASCII, so nothing is decided before the first byte
//!    that is not. There, [`WINDOW`] bytes ahead are looked at: without a sequence that UTF-8 forbids, the file is UTF-8.
//!    With one, and without any character that only UTF-8 would write so, it is Windows-1252. With both, it is
//!    UTF-8 with damage.
//! 4. What was decided holds to the end of the file, so encodings are never mixed. A byte that UTF-8 forbids makes its
//!    record malformed, however late it comes. A character that only UTF-8 would write so, met in what was taken for
//!    Windows-1252, makes the file broken: one of the two was wrong, and a declared `encoding` tells which.
//!
//! So a file that is UTF-8 to its end is read as UTF-8, and of a file whose first letter beyond ASCII comes
//! after gigabytes, nothing was passed on that could be wrong.
//!
//! What the encoding cannot express is never replaced: it becomes [`UNDECODABLE`], which no UTF-8 holds, so that the
//! record in which it stands shows to be malformed. Five bytes that Windows-1252 does not define are of that kind. Latin-1
//! is read as Windows-1252, which differs from it by letters in the place of control characters.

use std::io::Read;

use encoding_rs::{Decoder, DecoderResult, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::format::{Encoding, KnownEncoding};
use crate::outlet::Stop;

/// How far ahead is looked, at the beginning and where ASCII ends.
const WINDOW: usize = 1 << 16;
/// Stands for what cannot be decoded.
const UNDECODABLE: u8 = 0xff;
/// The fewest bytes that can be asked for: a character, and one for what cannot be decoded.
pub(crate) const LEAST_READ: usize = 8;

/// The text of a file as bytes of UTF-8, but for what cannot be decoded.
pub(crate) struct Text<'a> {
    source: Source<'a>,
    mode: Mode,
    /// Line ends that were handed out; not counted any more once a file is known to be UTF-8.
    line_ends: u64,
}

enum Mode {
    /// All was ASCII so far.
    Undecided,
    Utf8,
    Decoding(Box<Decoding>),
}

impl<'a> Text<'a> {
    pub(crate) fn start(input: impl Read + 'a, encoding: Encoding) -> Result<Self, Stop> {
        let mut source = Source::new(Box::new(input));
        source.look_ahead()?;
        let ahead = source.ahead();
        if ahead.starts_with(&[0xff, 0xfe, 0, 0]) || ahead.starts_with(&[0, 0, 0xfe, 0xff]) {
            return Err(Stop::Broken("the file is UTF-32; save it as UTF-8".to_owned()));
        }
        let mark = encoding_rs::Encoding::for_bom(ahead);
        let declared = match encoding {
            Encoding::Declared(KnownEncoding(known)) => Some(known),
            Encoding::Detected => None,
        };
        let mode = match (declared, mark) {
            (Some(declared), Some((marked, _))) if declared != marked => return Err(contradiction(declared, marked)),
            (Some(known), _) | (None, Some((known, _))) => Mode::of(known),
            (None, None) => unmarked_utf16(ahead).map_or(Mode::Undecided, Mode::of),
        };
        source.skip(mark.map_or(0, |(_, length)| length));
        Ok(Self { source, mode, line_ends: 0 })
    }

    /// The name of the encoding, as far as is known.
    pub(crate) fn encoding(&self) -> &'static str {
        match &self.mode {
            Mode::Undecided | Mode::Utf8 => UTF_8.name(),
            Mode::Decoding(decoding) => decoding.decoder.encoding().name(),
        }
    }

    /// Reads more text into a buffer of at least [`LEAST_READ`] bytes; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Stop> {
        debug_assert!(buffer.len() >= LEAST_READ);
        let length = match &mut self.mode {
            Mode::Utf8 => return self.source.read(buffer),
            Mode::Decoding(decoding) => decoding.read(&mut self.source, buffer, self.line_ends)?,
            Mode::Undecided => {
                let length = self.source.read(buffer)?;
                let ascii = ascii_length(&buffer[..length]);
                self.source.put_back(&buffer[ascii..length]);
                if ascii == 0 && length > 0 {
                    self.decide()?;
                    return self.read(buffer);
                }
                ascii
            }
        };
        self.line_ends += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64;
        Ok(length)
    }

    /// Decides by what lies ahead, which begins with a byte that is not ASCII.
    fn decide(&mut self) -> Result<(), Stop> {
        self.source.look_ahead()?;
        let (ahead, is_all) = (self.source.ahead(), self.source.is_read);
        let is_windows = has_forbidden(ahead, is_all) && !has_multibyte(ahead) && !ahead.iter().any(is_undefined);
        self.mode = if is_windows { Mode::Decoding(Box::new(Decoding::guessed(WINDOWS_1252))) } else { Mode::Utf8 };
        Ok(())
    }
}

impl Mode {
    fn of(encoding: &'static encoding_rs::Encoding) -> Self {
        if encoding == UTF_8 { Self::Utf8 } else { Self::Decoding(Box::new(Decoding::sure(encoding))) }
    }
}

fn contradiction(declared: &'static encoding_rs::Encoding, marked: &'static encoding_rs::Encoding) -> Stop {
    Stop::Broken(format!(
        "`encoding` says {}, and the byte order mark of the file {}; declare what it is, or leave it to be detected",
        declared.name(),
        marked.name()
    ))
}

/// The bytes of a file, of which some were looked at ahead of time.
struct Source<'a> {
    input: Box<dyn Read + 'a>,
    /// Bytes that were read and not handed out, from `start` on.
    ahead: Vec<u8>,
    start: usize,
    /// Whether nothing lies behind what is ahead.
    is_read: bool,
}

impl<'a> Source<'a> {
    fn new(input: Box<dyn Read + 'a>) -> Self {
        Self { input, ahead: Vec::new(), start: 0, is_read: false }
    }

    fn ahead(&self) -> &[u8] {
        &self.ahead[self.start..]
    }

    /// Sees to it that a window lies ahead, or all that is left.
    fn look_ahead(&mut self) -> Result<(), Stop> {
        let missing = WINDOW.saturating_sub(self.ahead().len()) as u64;
        let read = self.input.by_ref().take(missing).read_to_end(&mut self.ahead)?;
        self.is_read = (read as u64) < missing;
        Ok(())
    }

    fn skip(&mut self, length: usize) {
        self.start += length;
    }

    fn put_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.ahead = [bytes, self.ahead()].concat();
            self.start = 0;
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let ahead = &self.ahead[self.start..];
        if ahead.is_empty() {
            return Ok(self.input.read(buffer)?);
        }
        let length = ahead.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ahead[..length]);
        self.start += length;
        Ok(length)
    }
}

/// Decodes another encoding than UTF-8.
struct Decoding {
    decoder: Decoder,
    /// Whether the encoding was guessed, so that what only UTF-8 would write shows that the guess was wrong.
    is_guessed: bool,
    encoded: Vec<u8>,
    /// The part of `encoded` that was not decoded yet.
    rest: std::ops::Range<usize>,
    /// The last bytes of what was read before: a character may begin there.
    tail: Vec<u8>,
    is_read: bool,
    is_finished: bool,
}

impl Decoding {
    fn sure(encoding: &'static encoding_rs::Encoding) -> Self {
        Self {
            decoder: encoding.new_decoder_without_bom_handling(),
            is_guessed: false,
            encoded: vec![0; WINDOW],
            rest: 0..0,
            tail: Vec::new(),
            is_read: false,
            is_finished: false,
        }
    }

    fn guessed(encoding: &'static encoding_rs::Encoding) -> Self {
        Self { is_guessed: true, ..Self::sure(encoding) }
    }

    fn read(&mut self, source: &mut Source<'_>, buffer: &mut [u8], line_ends: u64) -> Result<usize, Stop> {
        while !self.is_finished {
            if self.rest.is_empty() && !self.is_read {
                self.fill(source, line_ends)?;
            }
            let length = self.decode(buffer);
            if length > 0 {
                return Ok(length);
            }
        }
        Ok(0)
    }

    fn fill(&mut self, source: &mut Source<'_>, line_ends: u64) -> Result<(), Stop> {
        let length = source.read(&mut self.encoded)?;
        (self.rest, self.is_read) = (0..length, length == 0);
        if !self.is_guessed {
            return Ok(());
        }
        let bytes = &self.encoded[..length];
        let seam = [&self.tail, &bytes[..length.min(3)]].concat();
        if has_multibyte(&seam) || has_multibyte(bytes) {
            return Err(mixed(line_ends + 1 + line_ends_before_multibyte(bytes)));
        }
        self.tail = bytes[length.saturating_sub(3)..].to_vec();
        Ok(())
    }

    /// Decodes what fits; nothing if there is nothing yet.
    fn decode(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.encoded[self.rest.clone()];
        let is_windows = self.decoder.encoding() == WINDOWS_1252;
        let defined = if is_windows { rest.iter().position(is_undefined) } else { None };
        if defined == Some(0) {
            self.rest.start += 1;
            buffer[0] = UNDECODABLE;
            return 1;
        }
        let part = &rest[..defined.unwrap_or(rest.len())];
        let room = buffer.len() - 1;
        let (result, read, written) =
            self.decoder.decode_to_utf8_without_replacement(part, &mut buffer[..room], self.is_read);
        self.rest.start += read;
        match result {
            DecoderResult::InputEmpty => self.is_finished = self.is_read,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                buffer[written] = UNDECODABLE;
                return written + 1;
            }
        }
        written
    }
}

fn mixed(line: u64) -> Stop {
    Stop::Broken(format!(
        "line {line} holds text in UTF-8, and lines before it hold bytes that are not; declare `encoding`: \
         `windows-1252` if these are letters, `utf-8` if they are damage"
    ))
}

fn ascii_length(bytes: &[u8]) -> usize {
    if bytes.is_ascii() { bytes.len() } else { bytes.iter().take_while(|byte| byte.is_ascii()).count() }
}

/// Bytes that Windows-1252 gives no meaning.
fn is_undefined(byte: &u8) -> bool {
    matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d)
}

/// Whether some of this is a character beyond ASCII in UTF-8.
fn has_multibyte(bytes: &[u8]) -> bool {
    !bytes.is_ascii() && bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii())
}

/// Whether UTF-8 forbids some of this. What is not all there may end within a character.
fn has_forbidden(bytes: &[u8], is_all: bool) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| is_all || error.error_len().is_some())
}

fn line_ends_before_multibyte(bytes: &[u8]) -> u64 {
    let mut line_ends = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let ascii = ascii_length(valid.as_bytes());
        line_ends += memchr::memchr_iter(b'\n', &valid.as_bytes()[..ascii]).count() as u64;
        if ascii < valid.len() {
            break;
        }
    }
    line_ends
}

/// The order of bytes of UTF-16 that has no mark.
fn unmarked_utf16(ahead: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let units = || ahead.chunks_exact(2);
    let zeros = [0, 1].map(|side| units().filter(|unit| unit[side] == 0).count());
    let all_line_ends = ahead.iter().filter(|byte| **byte == b'\n').count();
    // Text of another encoding may hold some zero bytes, but not one in each line end, nor in every other byte.
    let has_shape = |side: usize, line_end: [u8; 2]| {
        let (own, others) = (zeros[side], zeros[1 - side]);
        let line_ends = units().filter(|unit| *unit == line_end).count();
        (own > others && line_ends * 2 > all_line_ends) || (all_line_ends == 0 && others == 0 && own * 4 > ahead.len())
    };
    if has_shape(1, [b'\n', 0]) {
        return Some(UTF_16LE);
    }
    has_shape(0, [0, b'\n']).then_some(UTF_16BE)
}
