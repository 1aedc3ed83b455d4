//! The one file within a zip archive, read front to back.
//!
//! The directory at the end of an archive is what counts, and comes last: members are taken as they lie, and the directory
//! must be there, so that an archive that was cut off shows. Folders and what macOS adds of its own are no files.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

const MEMBER: [u8; 4] = *b"PK\x03\x04";
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
const DIRECTORY_SIGNATURE: [u8; 4] = *b"PK\x05\x05";
const LARGE_END: [u8; 4] = *b"PK\x06\x06";
const LARGE_END_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END: [u8; 4] = *b"PK\x05\x06";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

pub(super) struct Zip<R> {
    place: Place<R>,
    has_file: bool,
}

enum Place<R> {
    /// Between two members.
    Between(R),
    Member(Box<Member<R>>),
    /// Behind the end of the archive, or where it turned out damaged.
    Behind,
}

impl<R: BufRead> Zip<R> {
    pub(super) fn new(input: R) -> Self {
        Self { place: Place::Between(input), has_file: false }
    }

    /// Goes on to the next member; to the end of the archive if there is none.
    fn step(&mut self, mut input: R) -> io::Result<()> {
        let signature: [u8; 4] = bytes(&mut input)?;
        match signature {
            MEMBER => {
                let member = Member::start(input)?;
                if member.is_file && std::mem::replace(&mut self.has_file, true) {
                    return Err(damage("it holds several files; pack each by itself"));
                }
                self.place = Place::Member(Box::new(member));
            }
            _ if !self.has_file => return Err(damage("it holds no file")),
            END => skip(&mut input, 18)?,
            _ => {
                skip_directory(&mut input, signature)?;
                self.place = Place::Between(input);
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Zip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(&mut self.place, Place::Behind) {
                Place::Behind => return Ok(0),
                Place::Between(input) => self.step(input)?,
                Place::Member(mut member) => {
                    let length = member.read(buffer)?;
                    if length == 0 && !buffer.is_empty() {
                        self.place = Place::Between(member.finish()?);
                        continue;
                    }
                    let is_file = member.is_file;
                    self.place = Place::Member(member);
                    if is_file {
                        return Ok(length);
                    }
                }
            }
        }
    }
}

/// Passes over a part of the directory.
fn skip_directory(input: &mut impl Read, signature: [u8; 4]) -> io::Result<()> {
    match signature {
        DIRECTORY_ENTRY => {
            skip(input, 24)?;
            let [name, extra, comment] = [number(input)?, number(input)?, number(input)?].map(u64::from);
            skip(input, 12 + name + extra + comment)
        }
        DIRECTORY_SIGNATURE => {
            let length = number(input)?;
            skip(input, length.into())
        }
        LARGE_END => {
            let length = u64::from_le_bytes(bytes(input)?);
            skip(input, length)
        }
        LARGE_END_LOCATOR => skip(input, 16),
        _ => Err(damage("what follows a member is neither another one nor the directory")),
    }
}

/// A member and what its head says of it.
struct Member<R> {
    data: Data<R>,
    crc: Crc,
    size: u64,
    /// Checksum and size, unless they follow the data.
    expected: Option<(u32, u64)>,
    has_large_sizes: bool,
    is_file: bool,
}

enum Data<R> {
    Stored(io::Take<R>),
    Deflated(DeflateDecoder<R>),
}

impl<R: BufRead> Member<R> {
    /// Starts behind the signature of a member.
    fn start(mut input: R) -> io::Result<Self> {
        skip(&mut input, 2)?;
        let (flags, method) = (number(&mut input)?, number(&mut input)?);
        skip(&mut input, 4)?;
        let crc = u32::from_le_bytes(bytes(&mut input)?);
        let packed = u32::from_le_bytes(bytes(&mut input)?);
        let size = u32::from_le_bytes(bytes(&mut input)?);
        let (name_length, extra_length) = (number(&mut input)?, number(&mut input)?);
        let (mut name, mut extra) = (vec![0; name_length.into()], vec![0; extra_length.into()]);
        input.read_exact(&mut name)?;
        input.read_exact(&mut extra)?;
        let large = large_sizes(&extra);
        let (has_descriptor, is_encrypted) = (flags & 8 != 0, flags & 1 != 0);
        let (size, packed) = match large {
            Some(sizes) if packed == u32::MAX || size == u32::MAX => sizes,
            _ => (size.into(), packed.into()),
        };
        if is_encrypted {
            return Err(damage("it is encrypted"));
        }
        if name == b"[Content_Types].xml" || name == b"mimetype" {
            return Err(damage("it is a workbook or document; save it as CSV"));
        }
        let data = match method {
            DEFLATED => Data::Deflated(DeflateDecoder::new(input)),
            STORED if !has_descriptor => Data::Stored(input.take(packed)),
            STORED => {
                return Err(damage("it does not tell the size of its file in front of it; write it with deflate"));
            }
            _ => return Err(damage("its file is packed by another method than deflate")),
        };
        let expected = (!has_descriptor).then_some((crc, size));
        Ok(Self { data, crc: Crc::new(), size: 0, expected, has_large_sizes: large.is_some(), is_file: is_file(&name) })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match &mut self.data {
            Data::Stored(data) => data.read(buffer)?,
            Data::Deflated(data) => data.read(buffer)?,
        };
        self.crc.update(&buffer[..length]);
        self.size += length as u64;
        Ok(length)
    }

    /// Holds what was read against what the archive says of it; gives back what lies behind.
    fn finish(self) -> io::Result<R> {
        let mut input = match self.data {
            Data::Stored(data) if data.limit() > 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Data::Stored(data) => data.into_inner(),
            Data::Deflated(data) => data.into_inner(),
        };
        let expected = match self.expected {
            Some(expected) => expected,
            None => descriptor(&mut input, self.has_large_sizes)?,
        };
        if expected != (self.crc.sum(), self.size) {
            return Err(damage("its file does not have the checksum or size that stands beside it"));
        }
        Ok(input)
    }
}

/// Checksum and size that follow the data of a member.
fn descriptor(input: &mut impl Read, has_large_sizes: bool) -> io::Result<(u32, u64)> {
    let mut crc: [u8; 4] = bytes(input)?;
    // The signature may be left out.
    if crc == DESCRIPTOR {
        crc = bytes(input)?;
    }
    let size = if has_large_sizes {
        skip(input, 8)?;
        u64::from_le_bytes(bytes(input)?)
    } else {
        skip(input, 4)?;
        u32::from_le_bytes(bytes(input)?).into()
    };
    Ok((u32::from_le_bytes(crc), size))
}

/// Size and packed size of a member of more than 4 GB, which stand in an extra field.
fn large_sizes(mut extra: &[u8]) -> Option<(u64, u64)> {
    const LARGE: u16 = 1;
    while let Some(([kind, length], rest)) = two_numbers(extra) {
        let (field, behind) = rest.split_at_checked(length.into())?;
        if kind == LARGE {
            let size = |at: usize| field.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
            return Some((size(0).unwrap_or_default(), size(8).unwrap_or_default()));
        }
        extra = behind;
    }
    None
}

fn two_numbers(bytes: &[u8]) -> Option<([u16; 2], &[u8])> {
    let ([a, b, c, d], rest) = bytes.split_first_chunk::<4>()?;
    Some(([u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d])], rest))
}

fn is_file(name: &[u8]) -> bool {
    !name.ends_with(b"/") && !name.starts_with(b"__MACOSX/") && !name.ends_with(b".DS_Store")
}

fn damage(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn bytes<const LENGTH: usize>(input: &mut impl Read) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(input: &mut impl Read) -> io::Result<u16> {
    Ok(u16::from_le_bytes(bytes(input)?))
}

fn skip(input: &mut impl Read, length: u64) -> io::Result<()> {
    match io::copy(&mut input.take(length), &mut io::sink())? {
        skipped if skipped == length => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}
