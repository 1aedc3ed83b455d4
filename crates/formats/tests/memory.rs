//! However large a file is, reading it takes the same memory. In a process of its own, which nothing else disturbs.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;

use convoke_core::source::SplitItem;
use convoke_formats::{CsvFormat, FileFormat, FileReader};

const HEADER: &[u8] = b"id,email,name,note\n";

/// A file that is made while it is read: the same records again and again.
struct Generated {
    records: Vec<u8>,
    /// How often the records are still handed out.
    times: u64,
    /// What of them was not yet handed out this time.
    rest: std::ops::Range<usize>,
}

impl Generated {
    fn new(times: u64, line: fn(u64) -> Vec<u8>) -> Self {
        let records: Vec<u8> = (0..RECORDS).flat_map(line).collect();
        Self { rest: 0..0, records, times }
    }
}

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && self.times > 0 {
            self.times -= 1;
            self.rest = 0..self.records.len();
        }
        let length = (&self.records[self.rest.clone()]).read(buffer)?;
        self.rest.start += length;
        Ok(length)
    }
}

/// Records that are repeated.
const RECORDS: u64 = 6_000;

/// Lines of all kinds: quotes, a line end within them, letters beyond ASCII, cells that are long or missing.
fn line(record: u64) -> Vec<u8> {
    let note = match record % 16 {
        0 => "\"a \"\"quoted\"\"\nnote\"".to_owned(),
        1 => "x".repeat((record % 3_000) as usize),
        2 => "Ångström".to_owned(),
        3 => String::new(),
        _ => "n".repeat(80),
    };
    format!("{record},person{record}@example.com,\"Person, {record}\",{note}\n").into_bytes()
}

/// Most memory that the process has had so far, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Reads the records so many times, and tells how many came out and how many bytes were read.
fn read(times: u64) -> (u64, u64) {
    let format = FileFormat::Csv(CsvFormat::default());
    let (mut count, mut bytes) = (0, 0);
    let mut take = |item| {
        match item {
            SplitItem::Records(batch) => {
                count += batch.positions.len() as u64;
                bytes = batch.bytes_read;
            }
            SplitItem::Malformed(record) => panic!("{record:?}"),
            SplitItem::Broken { reason } => panic!("{reason}"),
            SplitItem::End { .. } => {}
        }
        ControlFlow::Continue(())
    };
    FileReader { format: &format, max_malformed: 0.0 }
        .read(HEADER.chain(Generated::new(times, line)), None, &mut take)
        .unwrap();
    (count, bytes)
}

/// Reads a small file and then a large one of so many bytes, which must not take more memory.
fn takes_no_more_for(large: u64) {
    /// What an allocator may keep for itself.
    const SLACK: u64 = 16 << 20;
    let (count, small) = read(10);
    assert_eq!(count, 10 * RECORDS);
    let before = peak_memory();
    let times = large / (small / 10);
    let (count, bytes) = read(times);
    assert_eq!(count, times * RECORDS);
    assert!(bytes > large / 100 * 99, "{bytes}");
    let after = peak_memory();
    assert!(after < before + SLACK, "{after} bytes, after {before} for a small file");
}

#[test]
fn a_file_of_half_a_gigabyte_takes_no_more_memory_than_a_small_one() {
    takes_no_more_for(500_000_000);
}

/// Reads a file in which every line has a cell to spare, and tells how many were passed on and why it is broken.
fn read_ragged(max_malformed: f64) -> (usize, String) {
    let format = FileFormat::Csv(CsvFormat::default());
    let mut malformed = Vec::new();
    let mut broken = String::new();
    let mut take = |item| {
        match item {
            SplitItem::Malformed(record) => malformed.push(record),
            SplitItem::Broken { reason } => broken = reason,
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    };
    let ragged = |record| format!("{record},a@x.co,A,note,\n").into_bytes();
    let file = HEADER.chain(Generated::new(10_000, ragged));
    FileReader { format: &format, max_malformed }.read(file, None, &mut take).unwrap();
    (malformed.len(), broken)
}

#[test]
fn a_file_of_sixty_million_malformed_records_is_broken_long_before_its_end() {
    let (passed, broken) = read_ragged(0.0);
    assert_eq!(passed, 0);
    assert_eq!(
        broken,
        "1 of 1 records read so far are malformed, more than `max_malformed` allows; first: line 2: 5 fields where the \
         header has 4"
    );
    let (passed, broken) = read_ragged(0.5);
    assert!(passed < 100_000, "{passed}");
    assert!(broken.starts_with("100000 of 100000 records read so far are malformed, more than"), "{broken}");
}

#[test]
#[ignore = "takes minutes in an unoptimised build; `tests/bench/csv` runs it in an optimised one"]
fn a_file_of_five_gigabytes_takes_no_more_memory_than_a_small_one() {
    takes_no_more_for(5_000_000_000);
}
