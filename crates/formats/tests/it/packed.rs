//! Files that somebody packed.

use std::io::{self, Read, Write};

use convoke_formats::{CsvFormat, FileFormat};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use crate::contents::{Contents, OneByOne, cells, digest};

fn format() -> FileFormat {
    FileFormat::Csv(CsvFormat::default())
}

fn read(bytes: &[u8]) -> Contents {
    Contents::of(&format(), bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// How a member of an archive is written.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Stored,
    Deflated,
    /// Checksum and sizes behind the data, as who writes to a pipe has to.
    Described,
}

/// An archive of these members, as the specification of zip describes it.
fn zip(members: &[(&str, &[u8])], how: How) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(bytes).unwrap();
        let packed = if how == How::Stored { bytes.to_vec() } else { deflate.finish().unwrap() };
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let sizes = [crc.sum(), packed.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat();
        let (flags, method) =
            (if how == How::Described { 8_u16 } else { 0 }, if how == How::Stored { 0_u16 } else { 8 });
        let head = [&[20, 0][..], &flags.to_le_bytes(), &method.to_le_bytes(), &[0; 4]].concat();
        let told = if how == How::Described { vec![0; 12] } else { sizes.clone() };
        let lengths = [name.len() as u16, 0].map(u16::to_le_bytes).concat();
        let offset = (archive.len() as u32).to_le_bytes();
        archive.extend([b"PK\x03\x04", &head[..], &told, &lengths, name.as_bytes(), &packed].concat());
        if how == How::Described {
            archive.extend([b"PK\x07\x08", &sizes[..]].concat());
        }
        let rest = [&[0; 10][..], &offset].concat();
        directory.extend([b"PK\x01\x02", &[20, 0][..], &head, &sizes, &lengths, &rest, name.as_bytes()].concat());
    }
    let count = (members.len() as u16).to_le_bytes();
    let (length, offset) = ((directory.len() as u32).to_le_bytes(), (archive.len() as u32).to_le_bytes());
    let end = [b"PK\x05\x06", &[0; 4][..], &count, &count, &length, &offset, &[0; 2]].concat();
    [archive, directory, end].concat()
}

const TEXT: &[u8] = b"a,b\n1,2\n3,4\n";

#[test]
fn packed_files_are_read_as_what_they_hold_and_known_by_their_own_bytes() {
    let (first, second) = TEXT.split_at(7);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    for (what, bytes) in [
        ("gzip", gzip(TEXT)),
        ("gzip of several members", [gzip(first), gzip(second)].concat()),
        ("zstd", zstd(TEXT)),
        ("zstd of several frames", [skippable, zstd(first), zstd(second)].concat()),
        ("zip, deflated", zip(&[("data.csv", TEXT)], How::Deflated)),
        ("zip, stored", zip(&[("data.csv", TEXT)], How::Stored)),
        ("zip to a pipe", zip(&[("data.csv", TEXT)], How::Described)),
        ("zip in a folder", zip(&[("folder/", b""), ("folder/data.csv", TEXT)], How::Stored)),
        (
            "zip of a Mac",
            zip(&[("data.csv", TEXT), ("__MACOSX/", b""), ("__MACOSX/._data.csv", b"\0\x05")], How::Described),
        ),
    ] {
        let contents = read(&bytes);
        assert_eq!(contents.broken, None, "{what}");
        assert_eq!(contents.records, [cells(&["1", "2"]), cells(&["3", "4"])], "{what}");
        assert_eq!(contents.fingerprint, digest(&bytes), "{what}");
        assert_eq!(Contents::of(&format(), OneByOne(&bytes)), contents, "{what}, byte by byte");
    }
}

#[test]
fn wherever_a_packed_file_is_cut_off_it_is_broken_and_not_short() {
    for (what, bytes) in [
        ("gzip", gzip(TEXT)),
        ("zstd", zstd(TEXT)),
        ("zip", zip(&[("data.csv", TEXT)], How::Deflated)),
        ("zip to a pipe", zip(&[("data.csv", TEXT)], How::Described)),
        ("zip, stored", zip(&[("data.csv", TEXT)], How::Stored)),
    ] {
        // Of fewer bytes nobody can tell that they are packed.
        for length in 4..bytes.len() {
            let contents = read(&bytes[..length]);
            assert!(contents.broken.is_some(), "{what} of {length} bytes: {contents:?}");
        }
    }
}

#[test]
fn wherever_a_packed_file_is_damaged_no_wrong_record_is_believed() {
    for (what, bytes) in [("gzip", gzip(TEXT)), ("zip", zip(&[("data.csv", TEXT)], How::Deflated))] {
        for at in 4..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let contents = read(&damaged);
            let is_whole = contents.records == [cells(&["1", "2"]), cells(&["3", "4"])];
            assert!(contents.broken.is_some() || is_whole, "{what} damaged at {at}: {contents:?}");
        }
    }
}

#[test]
fn archives_that_are_not_one_file_are_told() {
    let mut encrypted = zip(&[("a.csv", TEXT)], How::Stored);
    encrypted[6] |= 1;
    let mut odd = zip(&[("a.csv", TEXT)], How::Stored);
    odd[8] = 12;
    for (bytes, expected) in [
        (zip(&[("a.csv", TEXT), ("b.csv", TEXT)], How::Deflated), "several files"),
        (zip(&[], How::Stored), "no file"),
        (zip(&[("folder/", b"")], How::Stored), "no file"),
        (zip(&[("[Content_Types].xml", b"<x/>")], How::Deflated), "save it as CSV"),
        (encrypted, "encrypted"),
        (odd, "another method than deflate"),
        (b"\xfd7zXZ\0rest".to_vec(), "packed by xz"),
        (b"\xd0\xcf\x11\xe0rest".to_vec(), "an old Excel"),
        ([gzip(TEXT), b"more than that".to_vec()].concat(), "the gzip file cannot be unpacked"),
    ] {
        let reason = read(&bytes).broken.unwrap_or_default();
        assert!(reason.contains(expected), "{reason:?} is not {expected:?}");
    }
}

#[test]
fn a_file_that_unpacks_to_a_quote_without_end_is_broken_in_bounded_memory() {
    let text = b"a,b\n1,\"".chain(io::repeat(b'x'));
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    io::copy(&mut text.take(1 << 28), &mut encoder).unwrap();
    let reason = read(&encoder.finish().unwrap()).broken.unwrap();
    assert!(reason.contains("longer than 16 MB"), "{reason}");
}
