//! Any bytes as an Avro container: nothing but what always has to be.

use convoke_formats::FileFormat;

use super::reading::read;

pub(crate) fn check(data: &[u8]) {
    let contents = read(&FileFormat::Avro, data);
    assert!(contents.positions.iter().copied().eq(1..=contents.positions.len() as u64));
    assert!(contents.malformed.is_empty(), "a file fits its own schema");
}
