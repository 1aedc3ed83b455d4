//! The types whose values can be read, and their values as text and as JSON.

use std::io::Write as _;

use crate::moment::Reach;
use crate::{interval, moment, network, numeric};

/// A type that is no array and no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    /// Numbers of objects and transactions.
    Oid,
    /// Everything that PostgreSQL sends as its text: text, varchar, name, citext, enums, xml.
    Text,
    /// `char(n)`.
    Blanked,
    Json,
    Jsonb,
    Uuid,
    Bytea,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    /// `inet` and `cidr`.
    Network,
    /// `macaddr` and `macaddr8`.
    Hardware,
    /// `bit(n)` and `varbit`.
    Bits,
}

/// A field is not what its type says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadForm;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Kept,
    /// NULL stands for it, because nothing could hold it.
    Lost,
}

impl Written {
    pub(crate) fn of<T>(value: Option<T>) -> Self {
        if value.is_some() { Self::Kept } else { Self::Lost }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Scalar {
    /// The type of this number in PostgreSQL's catalogue, where it is a built-in one.
    pub(crate) fn of_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            18 | 19 | 25 | 142 | 1043 => Self::Text,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            26 | 28 | 29 => Self::Oid,
            114 => Self::Json,
            650 | 869 => Self::Network,
            700 => Self::Float4,
            701 => Self::Float8,
            774 | 829 => Self::Hardware,
            1042 => Self::Blanked,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1266 => Self::TimeTz,
            1560 | 1562 => Self::Bits,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => return None,
        })
    }

    /// Whether a type has values that only a text can hold.
    pub(crate) fn has_far_values(self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::TimestampTz)
    }

    /// Appends a value as PostgreSQL writes it.
    pub(crate) fn write_text(self, field: &[u8], reach: Reach, text: &mut Vec<u8>) -> Result<Written, BadForm> {
        match self {
            Self::Text | Self::Json => text.extend_from_slice(field),
            Self::Blanked => text.extend_from_slice(unblanked(field)),
            Self::Jsonb => text.extend_from_slice(jsonb(field)?),
            Self::Uuid => write_uuid(chunk(field)?, text),
            Self::Bytea => write_bytea(field, text),
            Self::Time => moment::write_time(i64::from_be_bytes(chunk(field)?), text)?,
            Self::TimeTz => moment::write_time_with_zone(field, text)?,
            Self::Interval => interval::write(chunk(field)?, text),
            Self::Network => network::write_address(field, text)?,
            Self::Hardware => network::write_hardware(field, text)?,
            Self::Bits => write_bits(field, text)?,
            Self::Oid => write_display(u32::from_be_bytes(chunk(field)?), text),
            Self::Numeric => numeric::write(field, text)?,
            Self::Bool => text.extend_from_slice(if chunk::<1>(field)?[0] == 0 { b"false" } else { b"true" }),
            Self::Int2 => write_display(i16::from_be_bytes(chunk(field)?), text),
            Self::Int4 => write_display(i32::from_be_bytes(chunk(field)?), text),
            Self::Int8 => write_display(i64::from_be_bytes(chunk(field)?), text),
            Self::Float4 => write_float(f32::from_be_bytes(chunk(field)?), text),
            Self::Float8 => write_float(f64::from_be_bytes(chunk(field)?), text),
            Self::Date => return Ok(moment::write_date(i32::from_be_bytes(chunk(field)?), reach, text)),
            Self::Timestamp => return moment::write_timestamp(i64::from_be_bytes(chunk(field)?), ("", reach), text),
            Self::TimestampTz => {
                return moment::write_timestamp(i64::from_be_bytes(chunk(field)?), ("+00:00", reach), text);
            }
        }
        Ok(Written::Kept)
    }

    /// Appends a value as JSON: numbers, truth values and documents as they are, all else as a string.
    pub(crate) fn write_json(self, field: &[u8], reach: Reach, json: &mut Vec<u8>) -> Result<Written, BadForm> {
        match self {
            Self::Bool | Self::Int2 | Self::Int4 | Self::Int8 | Self::Oid | Self::Json | Self::Jsonb => {
                self.write_text(field, reach, json)
            }
            Self::Float4 | Self::Float8 | Self::Numeric => {
                let start = json.len();
                self.write_text(field, reach, json)?;
                // JSON has no NaN and no infinity.
                if !json.last().is_some_and(u8::is_ascii_digit) {
                    json.insert(start, b'"');
                    json.push(b'"');
                }
                Ok(Written::Kept)
            }
            Self::Text => write_json_string(field, json),
            Self::Blanked => write_json_string(unblanked(field), json),
            Self::Bytea => {
                json.extend_from_slice(b"\"\\");
                write_bytea(field, json);
                json.push(b'"');
                Ok(Written::Kept)
            }
            Self::Uuid
            | Self::Time
            | Self::TimeTz
            | Self::Date
            | Self::Timestamp
            | Self::TimestampTz
            | Self::Interval
            | Self::Network
            | Self::Hardware
            | Self::Bits => {
                json.push(b'"');
                if self.write_text(field, reach, json)? == Written::Lost {
                    json.pop();
                    json.extend_from_slice(b"null");
                    return Ok(Written::Lost);
                }
                json.push(b'"');
                Ok(Written::Kept)
            }
        }
    }
}

/// A field of a fixed length.
pub(crate) fn chunk<const LENGTH: usize>(field: &[u8]) -> Result<[u8; LENGTH], BadForm> {
    field.try_into().map_err(|_| BadForm)
}

fn unblanked(field: &[u8]) -> &[u8] {
    let length = field.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &field[..length]
}

/// The text behind the number of its format, of which there is one.
fn jsonb(field: &[u8]) -> Result<&[u8], BadForm> {
    field.strip_prefix(&[1]).ok_or(BadForm)
}

fn write_uuid(bytes: [u8; 16], text: &mut Vec<u8>) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        push_hex(byte, text);
    }
}

/// Bits as zeros and ones, behind their number.
fn write_bits(field: &[u8], text: &mut Vec<u8>) -> Result<(), BadForm> {
    let (length, bytes) = field.split_first_chunk().ok_or(BadForm)?;
    let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| BadForm)?;
    if bytes.len() != length.div_ceil(8) {
        return Err(BadForm);
    }
    text.extend((0..length).map(|index| b'0' + (bytes[index / 8] >> (7 - index % 8) & 1)));
    Ok(())
}

fn write_bytea(field: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(b"\\x");
    field.iter().for_each(|byte| push_hex(*byte, text));
}

fn push_hex(byte: u8, text: &mut Vec<u8>) {
    text.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

fn write_display(value: impl std::fmt::Display, text: &mut Vec<u8>) {
    write!(text, "{value}").expect("a vector takes every text");
}

/// In the shortest form that reads back as the same, with an exponent where that is shorter.
fn write_float(value: impl std::fmt::Debug, text: &mut Vec<u8>) {
    let start = text.len();
    write!(text, "{value:?}").expect("a vector takes every text");
    if text[start..].ends_with(b".0") {
        text.truncate(text.len() - 2);
    } else if text[start..].ends_with(b"inf") {
        text.truncate(text.len() - 3);
        text.extend_from_slice(b"Infinity");
    }
}

fn write_json_string(field: &[u8], json: &mut Vec<u8>) -> Result<Written, BadForm> {
    let Ok(text) = std::str::from_utf8(field) else {
        // Told when all of the column is checked.
        json.extend_from_slice(field);
        return Ok(Written::Kept);
    };
    serde_json::to_writer(json, text).map_err(|_| BadForm)?;
    Ok(Written::Kept)
}
