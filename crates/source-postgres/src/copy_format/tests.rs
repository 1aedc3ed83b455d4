use convoke_core::spec::OutOfRange;

use super::*;
use crate::columns::{ColumnType, Columns};
use crate::scalar::Scalar;

fn batch() -> Batch {
    let columns = [("id", Scalar::Int4), ("name", Scalar::Text)];
    let columns = columns.map(|(name, scalar)| (name.to_owned(), ColumnType::Scalar(scalar)));
    Batch::new(&Columns::of(columns.to_vec()), OutOfRange::Error, None)
}

/// Two records, the second of NULLs.
fn stream() -> Vec<u8> {
    let mut stream = SIGNATURE.to_vec();
    stream.extend([0; 8]);
    stream.extend([0, 2, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 2]);
    stream.extend(b"ab");
    stream.extend([0, 2, 255, 255, 255, 255, 255, 255, 255, 255]);
    stream.extend([255, 255]);
    stream
}

#[test]
fn pieces_may_be_cut_anywhere() {
    let stream = stream();
    let mut whole = batch();
    CopyFormat::default().feed(&stream, &mut whole).unwrap();
    let whole = whole.take().unwrap();
    assert_eq!(whole.positions, [1, 2]);
    for length in 1..stream.len() {
        let (mut format, mut batch) = (CopyFormat::default(), batch());
        for piece in stream.chunks(length) {
            assert!(!format.is_ended());
            format.feed(piece, &mut batch).unwrap();
        }
        assert!(format.is_ended());
        assert_eq!(batch.take().unwrap().records, whole.records, "pieces of {length} bytes");
    }
}

#[test]
fn what_ends_early_has_not_ended() {
    let stream = stream();
    for length in 0..stream.len() {
        let mut format = CopyFormat::default();
        format.feed(&stream[..length], &mut batch()).unwrap();
        assert!(!format.is_ended(), "{length} bytes");
    }
}

#[test]
fn what_is_no_copy_is_refused() {
    let feed = |bytes: &[u8]| CopyFormat::default().feed(bytes, &mut batch());
    assert_eq!(feed(b"id,name\n"), Err(Misread::Framing));
    let mut other_width = stream();
    other_width[HEADER_BYTES + 1] = 3;
    assert_eq!(feed(&other_width), Err(Misread::Framing));
    let mut short_integer = stream();
    short_integer[HEADER_BYTES + 5] = 3;
    short_integer.remove(HEADER_BYTES + 6);
    assert_eq!(feed(&short_integer), Err(Misread::Field(0)));
    let mut behind_the_end = stream();
    behind_the_end.push(0);
    let mut format = CopyFormat::default();
    format.feed(&behind_the_end, &mut batch()).unwrap();
    assert!(!format.is_ended());
}
