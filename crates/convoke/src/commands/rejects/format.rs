//! The forms of an export. The help of `rejects export` tells their columns.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use convoke_core::reject::NotedReject;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::avro::AvroFile;
use super::{Wanted, stage, without_values};
use crate::cli::ExportFormat;

/// Rows that a Parquet file gathers before it writes them.
const GROUP_ROWS: usize = 10_000;

const CSV_COLUMNS: [&str; 14] = [
    "origin", "stage", "state", "attempts", "first_at", "at", "column", "code", "reason", "run", "plan", "key",
    "content", "cells",
];

static PARQUET_COLUMNS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false);
    let entry = DataType::Struct(vec![text("key", false), text("value", true)].into());
    Arc::new(Schema::new(vec![
        text("origin", true),
        text("stage", false),
        text("state", false),
        Field::new("attempts", DataType::Int64, false),
        time("first_at"),
        time("at"),
        text("column", true),
        text("code", false),
        text("reason", false),
        text("run", false),
        text("plan", false),
        text("key", true),
        text("content", true),
        Field::new("cells", DataType::Map(Arc::new(Field::new("key_value", entry, false)), false), false),
    ]))
});

/// Whether a form can stand between other lines of a terminal or pipe.
pub(super) fn is_text(format: ExportFormat) -> bool {
    match format {
        ExportFormat::Csv | ExportFormat::Ndjson => true,
        ExportFormat::Avro | ExportFormat::Parquet => false,
    }
}

/// Writes pages of rejects in one form.
pub(super) enum Exporter<Sink: Write + Send> {
    Avro(Box<AvroFile<Sink>>),
    Csv(Box<csv::Writer<Sink>>),
    Ndjson(Sink),
    Parquet(Box<ArrowWriter<Sink>>),
}

impl<Sink: Write + Send> Exporter<Sink> {
    pub(super) fn new(format: ExportFormat, sink: Sink) -> io::Result<Self> {
        Ok(match format {
            ExportFormat::Avro => Self::Avro(Box::new(AvroFile::new(sink)?)),
            ExportFormat::Csv => {
                let mut writer = csv::Writer::from_writer(sink);
                writer.write_record(CSV_COLUMNS)?;
                Self::Csv(Box::new(writer))
            }
            ExportFormat::Ndjson => Self::Ndjson(sink),
            ExportFormat::Parquet => {
                let properties = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS)).build();
                let writer = ArrowWriter::try_new(sink, Arc::clone(&PARQUET_COLUMNS), Some(properties))?;
                Self::Parquet(Box::new(writer))
            }
        })
    }

    pub(super) fn write(&mut self, wanted: &Wanted, page: &[NotedReject]) -> io::Result<()> {
        match self {
            Self::Avro(file) => file.write(wanted, page)?,
            Self::Csv(writer) => {
                for noted in page {
                    let fields = csv_fields(wanted, noted);
                    writer.write_record(fields.iter().map(|field| without_formula(field).into_owned()))?;
                }
            }
            Self::Ndjson(sink) => {
                for noted in page {
                    let mut line = without_values(wanted, noted);
                    line["cells"] = cells(noted);
                    writeln!(sink, "{line}")?;
                }
            }
            Self::Parquet(writer) => writer.write(&parquet_rows(wanted, page))?,
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Avro(file) => file.finish(),
            Self::Csv(mut writer) => writer.flush(),
            Self::Ndjson(mut sink) => sink.flush(),
            Self::Parquet(mut writer) => {
                writer.finish()?;
                writer.inner_mut().flush()
            }
        }
    }
}

/// In the order of [`CSV_COLUMNS`]. Cells are one JSON object: rejects of different plans may have different columns.
fn csv_fields(wanted: &Wanted, noted: &NotedReject) -> Vec<String> {
    let reject = &noted.record;
    let mut fields = super::row(wanted, noted);
    wanted.standing(noted).clone_into(&mut fields[2]);
    fields.extend([reject.run.to_string(), reject.plan.to_string()]);
    fields.push(reject.key.map(|key| key.to_hex()).unwrap_or_default());
    fields.push(reject.content.map(|content| content.to_hex()).unwrap_or_default());
    fields.push(cells(noted).to_string());
    fields
}

/// A text as a spreadsheet shows it instead of computing it: what would begin a formula gets an apostrophe before it.
fn without_formula(field: &str) -> Cow<'_, str> {
    if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{field}").into() } else { field.into() }
}

fn cells(noted: &NotedReject) -> serde_json::Value {
    let cells = noted.record.cells.iter().map(|(name, text)| (name.clone(), json!(text)));
    cells.collect::<serde_json::Map<_, _>>().into()
}

fn parquet_rows(wanted: &Wanted, page: &[NotedReject]) -> RecordBatch {
    fn texts<'n>(page: &'n [NotedReject], text: impl Fn(&'n NotedReject) -> &'n str) -> ArrayRef {
        Arc::new(page.iter().map(|noted| Some(text(noted))).collect::<StringArray>())
    }
    fn maybe(page: &[NotedReject], text: impl Fn(&NotedReject) -> Option<String>) -> ArrayRef {
        Arc::new(page.iter().map(text).collect::<StringArray>())
    }
    fn times(page: &[NotedReject], time: impl Fn(&NotedReject) -> i64) -> ArrayRef {
        let times = TimestampMillisecondArray::from_iter_values(page.iter().map(time));
        Arc::new(times.with_timezone("UTC"))
    }
    let attempts = Int64Array::from_iter_values(page.iter().map(|noted| i64::from(noted.attempts)));
    let columns = vec![
        maybe(page, |noted| noted.record.origin.clone()),
        texts(page, |noted| stage(noted.record.stage)),
        texts(page, |noted| wanted.standing(noted)),
        Arc::new(attempts),
        times(page, |noted| noted.first_at.0),
        times(page, |noted| noted.record.at.0),
        maybe(page, |noted| noted.record.column.clone()),
        texts(page, |noted| &noted.record.code),
        texts(page, |noted| &noted.record.reason),
        maybe(page, |noted| Some(noted.record.run.to_string())),
        maybe(page, |noted| Some(noted.record.plan.to_string())),
        maybe(page, |noted| noted.record.key.map(|key| key.to_hex())),
        maybe(page, |noted| noted.record.content.map(|content| content.to_hex())),
        cell_maps(page),
    ];
    RecordBatch::try_new(Arc::clone(&PARQUET_COLUMNS), columns).expect("the columns are of one length")
}

fn cell_maps(page: &[NotedReject]) -> ArrayRef {
    let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for noted in page {
        for (name, text) in &noted.record.cells {
            maps.keys().append_value(name);
            maps.values().append_option(text.as_deref());
        }
        maps.append(true).expect("each name has a value");
    }
    Arc::new(maps.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_shows_what_looks_like_a_formula_and_does_not_compute_it() {
        for text in ["=1+1", "+49", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(without_formula(text), format!("'{text}"));
        }
        for text in ["", "a=1", "{\"Email\":\"=1\"}", "2026-01-01T00:00:00Z"] {
            assert_eq!(without_formula(text), text);
        }
    }
}
