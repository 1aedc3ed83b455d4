//! Keyed 128-bit hashes of keys and contents.
//!
//! A ledger holds hashes instead of personal data. They are keyed (BLAKE3 with a secret key, cut to 128 bits), so
//! that a ledger alone cannot be tested against a list of e-mail addresses. The encoding that is hashed is part
//! of the ledger's identity: change it only together with [`ENCODING_VERSION`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// Version of what is hashed; named in each ledger manifest. A mismatch is an error, never a silent rebuild.
pub const ENCODING_VERSION: u32 = 3;

/// What each byte is worth as a hexadecimal digit; [`NO_DIGIT`] if it is none.
const HEX_DIGITS: [u8; 256] = hex_digits();

/// Shows in every combination with digits, so that it is looked for once.
const NO_DIGIT: u8 = 0x80;

const fn hex_digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digits[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
}

macro_rules! hash128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Prints 32 lower-case hexadecimal digits.
            pub fn to_hex(self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }

            /// Parses 32 hexadecimal digits.
            pub fn from_hex(text: &str) -> Option<Self> {
                let (digits, []) = text.as_bytes().as_chunks::<2>() else { return None };
                let mut bytes = [0; 16];
                if digits.len() != bytes.len() {
                    return None;
                }
                let mut seen = 0;
                for (byte, [high, low]) in bytes.iter_mut().zip(digits) {
                    let (high, low) = (HEX_DIGITS[usize::from(*high)], HEX_DIGITS[usize::from(*low)]);
                    seen |= high | low;
                    *byte = high << 4 | low;
                }
                (seen & NO_DIGIT == 0).then_some(Self(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_hex())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("expected 32 hexadecimal digits"))
            }
        }
    };
}

hash128! {
    /// Hash of a record's canonical key: its identity within an audience.
    KeyHash
}
hash128! {
    /// Hash of a record's canonical cells. All zero means "contents unknown": it never equals a computed hash.
    ContentHash
}

impl ContentHash {
    /// Stands for contents that are not known to be in the audience, so that the next plan updates the row.
    pub const UNKNOWN: Self = Self([0; 16]);
}

/// The secret key of all hashes of one state directory. Made once; belongs in every backup.
#[derive(Clone)]
pub struct HashKey {
    secret: [u8; 32],
    for_keys: [u8; 32],
}

/// Hashes contents: the canonical cells of some columns, in the order of their names.
///
/// The names go into the hash, so that cells that move to another column are another content; the order in which a
/// mapping lists its columns does not.
#[derive(Clone)]
pub struct ContentHasher {
    key: [u8; 32],
    order: Vec<usize>,
}

impl HashKey {
    /// A key of 32 random bytes.
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        Self { secret, for_keys: *blake3::keyed_hash(&secret, b"convoke keys").as_bytes() }
    }

    /// Names this key without revealing it; stands in ledger manifests.
    pub fn id(&self) -> String {
        let digest = blake3::keyed_hash(&self.secret, b"convoke hash key id");
        digest.to_hex()[..16].to_owned()
    }

    /// Hashes an encoded key.
    pub fn hash_key(&self, encoded: &[u8]) -> KeyHash {
        KeyHash(cut(&blake3::keyed_hash(&self.for_keys, encoded)))
    }

    /// What hashes the contents of rows with these columns.
    pub fn contents_of<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> ContentHasher {
        let columns: Vec<_> = columns.into_iter().collect();
        let mut order: Vec<_> = (0..columns.len()).collect();
        order.sort_by_key(|index| columns[*index]);
        let mut purpose = b"convoke contents".to_vec();
        order.iter().for_each(|index| encode_part(&mut purpose, Some(columns[*index])));
        ContentHasher { key: *blake3::keyed_hash(&self.secret, &purpose).as_bytes(), order }
    }
}

impl ContentHasher {
    /// Indices of the columns in the order in which their cells are encoded.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Hashes the cells of a row, encoded in [`ContentHasher::order`].
    pub fn hash(&self, encoded: &[u8]) -> ContentHash {
        ContentHash(cut(&blake3::keyed_hash(&self.key, encoded)))
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHasher({} columns)", self.order.len())
    }
}

fn cut(digest: &blake3::Hash) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashKey({})", self.id())
    }
}

/// Appends one canonical cell to `buffer` so that no two different sequences of cells encode alike.
///
/// A cell that is NULL is a zero byte. Any other is its length and one more, seven bits to a byte, the least significant
/// first and all but the last with the high bit set; and then the text. So most cells cost one byte more than their text:
/// what is hashed is short, and hashing costs by the block.
pub fn encode_part(buffer: &mut Vec<u8>, cell: Option<&str>) {
    let Some(text) = cell else { return buffer.push(NULL_PART) };
    let mut rest = text.len() + 1;
    while rest >= MORE as usize {
        buffer.push(rest as u8 | MORE);
        rest >>= 7;
    }
    buffer.push(rest as u8);
    buffer.extend_from_slice(text.as_bytes());
}

/// Whether an encoded cell is NULL.
pub fn is_null_part(part: &[u8]) -> bool {
    part == [NULL_PART]
}

/// The text of one encoded cell; none if it is NULL, or no encoded cell.
pub fn text_of_part(part: &[u8]) -> Option<&str> {
    let last = part.iter().position(|byte| byte & MORE == 0)?;
    let text = part.get(last + 1..).filter(|_| !is_null_part(part))?;
    std::str::from_utf8(text).ok()
}

const NULL_PART: u8 = 0;

/// Set in each byte of a length but the last.
const MORE: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_cell_sequences_encode_differently() {
        let encode = |cells: &[Option<&str>]| {
            let mut buffer = Vec::new();
            cells.iter().for_each(|cell| encode_part(&mut buffer, *cell));
            buffer
        };
        assert_ne!(encode(&[Some("ab"), Some("c")]), encode(&[Some("a"), Some("bc")]));
        assert_ne!(encode(&[None, Some("")]), encode(&[Some(""), None]));
        assert_ne!(encode(&[Some("")]), encode(&[None]));
    }

    #[test]
    fn an_encoded_cell_gives_its_text_back_whatever_its_length() {
        for length in [0, 1, 126, 127, 128, 16_382, 16_383, 100_000] {
            let text = "x".repeat(length);
            let mut part = Vec::new();
            encode_part(&mut part, Some(&text));
            assert_eq!(text_of_part(&part), Some(&*text));
            assert!(!is_null_part(&part));
        }
        let mut part = Vec::new();
        encode_part(&mut part, None);
        assert!(is_null_part(&part));
        assert_eq!((text_of_part(&part), text_of_part(&[]), text_of_part(&[0x80])), (None, None, None));
    }

    #[test]
    fn hashes_depend_on_the_secret_key_and_on_their_purpose() {
        let (one, two) = (HashKey::from_bytes([1; 32]), HashKey::from_bytes([2; 32]));
        assert_ne!(one.hash_key(b"x"), two.hash_key(b"x"));
        assert_ne!(one.hash_key(b"x").0, one.contents_of([]).hash(b"x").0);
        assert_ne!(one.id(), two.id());
    }

    #[test]
    fn contents_depend_on_the_names_of_the_columns_and_not_on_their_order() {
        let key = HashKey::from_bytes([1; 32]);
        let hash = |cells: &[(&str, &str)]| {
            let hasher = key.contents_of(cells.iter().map(|(name, _)| *name));
            let mut encoded = Vec::new();
            hasher.order().iter().for_each(|index| encode_part(&mut encoded, Some(cells[*index].1)));
            hasher.hash(&encoded)
        };
        let hashed = hash(&[("First", "Ada"), ("Last", "Byron")]);
        assert_eq!(hash(&[("Last", "Byron"), ("First", "Ada")]), hashed);
        assert_ne!(hash(&[("Last", "Ada"), ("First", "Byron")]), hashed);
        assert_ne!(hash(&[("First", "Ada"), ("Family", "Byron")]), hashed);
    }

    #[test]
    fn hex_round_trips_and_refuses_other_text() {
        let hash = KeyHash([0xa5; 16]);
        assert_eq!(KeyHash::from_hex(&hash.to_hex()), Some(hash));
        assert_eq!(KeyHash::from_hex("a5"), None);
        assert_eq!(KeyHash::from_hex(&"é".repeat(16)), None);
    }
}
