//! Undoes the compression of a file, which its first bytes tell.
//!
//! Memory is bounded by what the formats look back on: 32 kB, for zstd up to 128 MB. How much a file unpacks to is not:
//! an export of many like lines is packed to a thousandth. What becomes of the records is for their reader to bound, as the
//! spool does by the room on its disk. What is cut off or damaged makes the file broken.

mod zip;

use std::io::{self, BufReader, Cursor, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use self::zip::Zip;
use crate::input::{Raw, is_of_input};
use crate::outlet::Stop;

/// As many first bytes as any kind is told by.
const MAGIC_LENGTH: usize = 8;
/// zstd's own limit without a flag of its command: 2^27 bytes, 128 MB.
const MAX_WINDOW_LOG: u32 = 27;

/// The bytes of a file as they were before somebody packed it.
pub(crate) fn unpacked<'a>(mut raw: Raw<'a>) -> Result<Box<dyn Read + 'a>, Stop> {
    let mut start = Vec::with_capacity(MAGIC_LENGTH);
    raw.by_ref().take(MAGIC_LENGTH as u64).read_to_end(&mut start)?;
    let kind = Kind::of(&start);
    let input = BufReader::with_capacity(1 << 16, Cursor::new(start).chain(raw));
    Ok(match kind {
        Kind::Plain => Box::new(input),
        Kind::Gzip => Box::new(Unpacking { name: "gzip", input: MultiGzDecoder::new(input) }),
        Kind::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(Unpacking { name: "zstd", input: decoder })
        }
        Kind::Zip => Box::new(Unpacking { name: "zip", input: Zip::new(input) }),
        Kind::Other(name) => {
            return Err(Stop::Broken(format!("the file is {name}; gzip, zstd and zip can be unpacked")));
        }
    })
}

enum Kind {
    Plain,
    Gzip,
    Zstd,
    Zip,
    /// Something else that no text starts like.
    Other(&'static str),
}

impl Kind {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // The second is a frame to be skipped, as some writers put in front.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            // The second is an archive without members.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Self::Other("packed by xz"),
            [b'7', b'z', 0xbc, 0xaf, ..] => Self::Other("a 7-Zip archive"),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..] => Self::Other("packed by bzip2"),
            [0xd0, 0xcf, 0x11, 0xe0, ..] => Self::Other("a workbook of an old Excel"),
            _ => Self::Plain,
        }
    }
}

/// Says of what a decoder complains.
struct Unpacking<R> {
    name: &'static str,
    input: R,
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).map_err(|error| {
            let name = self.name;
            if is_of_input(&error) {
                return error;
            }
            match error.kind() {
                ErrorKind::UnexpectedEof => {
                    io::Error::other(format!("the {name} file is cut off; write it again, whole"))
                }
                _ => io::Error::other(format!("the {name} file cannot be unpacked: {error}")),
            }
        })
    }
}
