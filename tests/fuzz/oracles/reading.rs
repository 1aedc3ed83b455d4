//! Reads a file whole and byte by byte, and holds what always has to be.

use std::io::{self, Read};
use std::ops::ControlFlow;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use convoke_core::source::SplitItem;
use convoke_formats::{FileFormat, FileReader};

/// What came out of a file.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) positions: Vec<u64>,
    pub(crate) malformed: Vec<(u64, String)>,
    /// The fingerprint, or why the file is broken.
    pub(crate) end: Option<Result<String, String>>,
}

impl Contents {
    /// Each record by its position, with its place among the batches.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, &RecordBatch, usize)> {
        let rows = self.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
        self.positions.iter().zip(rows).map(|(position, (batch, row))| (*position, batch, row))
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.end, Some(Ok(_)))
    }
}

struct OneByOne<'a>(&'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

/// Reads a file under its own schema. It must not matter how the bytes arrive, and all that was read must be accounted for.
pub(crate) fn read(format: &FileFormat, file: &[u8]) -> Contents {
    let reader = FileReader { format, max_malformed: 1.0 };
    let schema = reader.schema(file).expect("memory can be read");
    let schema_one_by_one = reader.schema(OneByOne(file)).expect("memory can be read");
    assert_eq!(schema, schema_one_by_one);
    let schema = schema.ok();
    let contents = read_from(reader, file, schema.as_ref());
    let other = read_from(reader, OneByOne(file), schema.as_ref());
    assert_eq!(
        (&contents.positions, &contents.malformed, &contents.end),
        (&other.positions, &other.malformed, &other.end)
    );
    for ((_, batch, row), (_, other, other_row)) in contents.records().zip(other.records()) {
        assert_eq!(batch.slice(row, 1), other.slice(other_row, 1));
    }
    let mut told: Vec<u64> =
        contents.positions.iter().copied().chain(contents.malformed.iter().map(|told| told.0)).collect();
    told.sort_unstable();
    // Records that end with `\r` alone stand on one line.
    let is_once = |pair: &[u64]| pair[0] < pair[1] || (pair[0] == pair[1] && has_lone_return(file));
    assert!(told.windows(2).all(is_once), "each record is told once: {told:?}");
    match contents.end.as_ref().expect("a file ends") {
        Ok(fingerprint) => assert_eq!(*fingerprint, blake3::hash(file).to_hex().to_string()),
        Err(reason) => assert!(!reason.is_empty()),
    }
    contents
}

/// Whether a `\r` may stand without a `\n`; in what is packed or in UTF-16 nobody can tell at a glance.
pub(crate) fn has_lone_return(file: &[u8]) -> bool {
    let is_lone = |at: usize| file.get(at + 1) != Some(&b'\n');
    let is_plain = std::str::from_utf8(file).is_ok() && !file.contains(&0);
    !is_plain || (0..file.len()).any(|at| file[at] == b'\r' && is_lone(at))
}

fn read_from(reader: FileReader<'_>, input: impl Read, schema: Option<&SchemaRef>) -> Contents {
    let mut contents = Contents::default();
    let mut take = |item| {
        assert!(contents.end.is_none(), "nothing follows the end");
        match item {
            SplitItem::Records(batch) => {
                assert_eq!(batch.records.num_rows(), batch.positions.len());
                assert!(!batch.positions.is_empty());
                contents.positions.extend(batch.positions);
                contents.batches.push(batch.records);
            }
            SplitItem::Malformed(record) => contents.malformed.push((record.position, record.reason)),
            SplitItem::Broken { reason } => contents.end = Some(Err(reason)),
            SplitItem::End { fingerprint } => contents.end = Some(Ok(fingerprint)),
        }
        ControlFlow::Continue(())
    };
    reader.read(input, schema, &mut take).expect("memory can be read");
    contents
}
