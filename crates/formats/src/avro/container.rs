//! The blocks of a container file, each checked and unpacked.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use serde_json::Value;

use crate::outlet::Stop;

const MAGIC: &[u8; 4] = b"Obj\x01";
/// A block is unpacked in memory; writers make blocks of some megabytes at most.
const LARGEST_BLOCK: usize = 64 << 20;
const LARGEST_HEAD: usize = 16 << 20;

pub(super) struct Container<'a> {
    input: BufReader<Box<dyn Read + 'a>>,
    schema: Value,
    codec: Codec,
    /// Stands behind each block.
    mark: [u8; 16],
    /// Blocks begun.
    blocks: u64,
}

/// Records that were written together.
pub(super) struct Block {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) record_count: u64,
    pub(super) data: Vec<u8>,
}

/// A key in the head of a file, and what stands there for it.
type Entry = (Vec<u8>, Vec<u8>);

#[derive(Clone, Copy)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl<'a> Container<'a> {
    /// Reads the head of a file.
    pub(super) fn open(input: Box<dyn Read + 'a>) -> Result<Self, Stop> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        let mut magic = [0; MAGIC.len()];
        match input.read_exact(&mut magic) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(no_avro()),
            other => other?,
        }
        if magic != *MAGIC {
            return Err(no_avro());
        }
        let (mut schema, mut codec) = (None, Codec::Null);
        for (key, value) in head(&mut input)? {
            match key.as_slice() {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = Codec::named(&value)?,
                _ => {}
            }
        }
        let schema = schema.and_then(|text| serde_json::from_slice(&text).ok());
        let schema = schema.ok_or_else(|| Stop::Broken("the head of the file holds no schema".to_owned()))?;
        Ok(Self { mark: array(&mut input)?, input, schema, codec, blocks: 0 })
    }

    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// The next block; none at the end of the file.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>, Stop> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.blocks += 1;
        let number = self.blocks;
        let damaged = |what: &str| Stop::Broken(format!("block {number} of the file is damaged: {what}"));
        let record_count = u64::try_from(long(&mut self.input)?).map_err(|_| damaged("it has less than no records"))?;
        let size = usize::try_from(long(&mut self.input)?).map_err(|_| damaged("it has less than no bytes"))?;
        if size > LARGEST_BLOCK {
            return Err(damaged("it is larger than 64 MB"));
        }
        let packed = exactly(&mut self.input, size)?;
        if array(&mut self.input)? != self.mark {
            return Err(damaged("the mark behind it is not the one of the file"));
        }
        let data = self.codec.unpack(packed).map_err(damaged)?;
        // A record takes at least a byte, but for one that says nothing.
        if record_count > data.len() as u64 {
            return Err(damaged("it has more records than bytes"));
        }
        Ok(Some(Block { number, record_count, data }))
    }
}

impl Codec {
    fn named(name: &[u8]) -> Result<Self, Stop> {
        Ok(match name {
            b"null" => Self::Null,
            b"deflate" => Self::Deflate,
            b"snappy" => Self::Snappy,
            b"zstandard" => Self::Zstandard,
            _ => {
                let reason = "the blocks of the file are packed by a codec other than deflate, snappy and zstandard";
                return Err(Stop::Broken(reason.to_owned()));
            }
        })
    }

    fn unpack(self, packed: Vec<u8>) -> Result<Vec<u8>, &'static str> {
        match self {
            Self::Null => Ok(packed),
            Self::Deflate => bounded(DeflateDecoder::new(packed.as_slice())),
            Self::Zstandard => bounded(zstd::stream::read::Decoder::new(packed.as_slice()).map_err(|_| NOT_UNPACKED)?),
            Self::Snappy => unsnap(&packed),
        }
    }
}

const NOT_UNPACKED: &str = "it cannot be unpacked";

fn bounded(input: impl Read) -> Result<Vec<u8>, &'static str> {
    let mut data = Vec::new();
    input.take(LARGEST_BLOCK as u64 + 1).read_to_end(&mut data).map_err(|_| NOT_UNPACKED)?;
    if data.len() > LARGEST_BLOCK { Err("it unpacks to more than 64 MB") } else { Ok(data) }
}

/// Snappy's bytes are followed by a checksum of what they unpack to.
fn unsnap(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (packed, checksum) = packed.split_last_chunk::<4>().ok_or(NOT_UNPACKED)?;
    if snap::raw::decompress_len(packed).map_err(|_| NOT_UNPACKED)? > LARGEST_BLOCK {
        return Err("it unpacks to more than 64 MB");
    }
    let data = snap::raw::Decoder::new().decompress_vec(packed).map_err(|_| NOT_UNPACKED)?;
    let mut crc = Crc::new();
    crc.update(&data);
    if crc.sum() == u32::from_be_bytes(*checksum) { Ok(data) } else { Err("its checksum does not fit") }
}

/// The keys and values in the head of a file.
fn head(input: &mut impl Read) -> Result<Vec<Entry>, Stop> {
    let mut pairs = Vec::new();
    let mut room = LARGEST_HEAD;
    loop {
        let count = match long(input)? {
            0 => return Ok(pairs),
            // The size of the pairs follows, which lets them be skipped.
            negative @ i64::MIN..0 => {
                long(input)?;
                negative.unsigned_abs()
            }
            positive => positive.unsigned_abs(),
        };
        for _ in 0..count {
            pairs.push((text(input, &mut room)?, text(input, &mut room)?));
        }
    }
}

fn text(input: &mut impl Read, room: &mut usize) -> Result<Vec<u8>, Stop> {
    let length = usize::try_from(long(input)?).ok();
    // Its length counts, too, so that empty texts are not without end.
    let left = length.and_then(|length| room.checked_sub(length)?.checked_sub(1));
    let (Some(length), Some(left)) = (length, left) else {
        return Err(Stop::Broken("the head of the file is damaged: it is longer than 16 MB".to_owned()));
    };
    *room = left;
    exactly(input, length)
}

/// Takes memory only for what is there.
fn exactly(input: &mut impl Read, length: usize) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    input.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length { Err(cut_off()) } else { Ok(bytes) }
}

fn array<const LENGTH: usize>(input: &mut impl Read) -> Result<[u8; LENGTH], Stop> {
    let mut bytes = [0; LENGTH];
    input.read_exact(&mut bytes).map_err(or_cut_off)?;
    Ok(bytes)
}

fn long(input: &mut impl Read) -> Result<i64, Stop> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let [byte] = array(input)?;
        number |= u64::from(byte & 0x7f).unbounded_shl(shift);
        if byte & 0x80 == 0 {
            return Ok(zigzag(number));
        }
    }
    Err(Stop::Broken("the file is damaged: a length has more than 64 bits".to_owned()))
}

/// The number that Avro writes as this one, small for small numbers of either sign.
pub(super) fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn or_cut_off(error: io::Error) -> Stop {
    if error.kind() == ErrorKind::UnexpectedEof { cut_off() } else { error.into() }
}

fn cut_off() -> Stop {
    Stop::Broken("the file is cut off; write it again, whole".to_owned())
}

fn no_avro() -> Stop {
    Stop::Broken("the file is no Avro container: it does not begin like one".to_owned())
}
