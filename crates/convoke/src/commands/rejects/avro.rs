//! Rejects as an Avro object container file.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::LazyLock;

use apache_avro::{Schema, Writer};
use convoke_core::reject::NotedReject;
use serde::Serialize;

use super::{Wanted, stage};

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse_str(include_str!("reject.avsc")).expect("a test reads files that were written with it")
});

/// One reject, in the order of the schema's fields.
#[derive(Serialize)]
struct AvroReject<'a> {
    origin: Option<&'a str>,
    stage: &'a str,
    state: &'a str,
    attempts: i64,
    first_at: i64,
    at: i64,
    column: Option<&'a str>,
    code: &'a str,
    reason: &'a str,
    run: String,
    plan: String,
    key: Option<String>,
    content: Option<String>,
    cells: BTreeMap<&'a str, Option<&'a str>>,
}

/// Writes an Avro file; it is whole once [`AvroFile::finish`] has returned.
pub(super) struct AvroFile<Sink: Write>(Writer<'static, Sink>);

impl<Sink: Write> AvroFile<Sink> {
    pub(super) fn new(sink: Sink) -> io::Result<Self> {
        Writer::new(&SCHEMA, sink).map(Self).map_err(io::Error::other)
    }

    pub(super) fn write(&mut self, wanted: &Wanted, page: &[NotedReject]) -> io::Result<()> {
        for noted in page {
            self.0.append_ser(reject(wanted, noted)).map_err(io::Error::other)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.0.flush().map(drop).map_err(io::Error::other)
    }
}

fn reject<'a>(wanted: &Wanted, noted: &'a NotedReject) -> AvroReject<'a> {
    let record = &noted.record;
    AvroReject {
        origin: record.origin.as_deref(),
        stage: stage(record.stage),
        state: wanted.standing(noted),
        attempts: i64::from(noted.attempts),
        first_at: noted.first_at.0,
        at: record.at.0,
        column: record.column.as_deref(),
        code: &record.code,
        reason: &record.reason,
        run: record.run.to_string(),
        plan: record.plan.to_string(),
        key: record.key.map(|key| key.to_hex()),
        content: record.content.map(|content| content.to_hex()),
        cells: record.cells.iter().map(|(name, text)| (name.as_str(), text.as_deref())).collect(),
    }
}
