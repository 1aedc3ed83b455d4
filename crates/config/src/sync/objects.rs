//! Decodes `objects`, and `s3_parquet`, which is the same for Parquet alone.

use std::time::Duration;

use convoke_core::spec::{CsvObjects, ObjectFormat, ObjectsMode, ObjectsSpec, SchemaPolicy};

use super::{Surroundings, csv_drop};
use crate::connection;
use crate::field::Field;
use crate::object_url::{self, Names, ObjectUrl, Scheme};
use crate::report::Report;
use crate::scalar;

const MODES: &[(&str, ObjectsMode)] = &[("snapshot", ObjectsMode::Snapshot), ("append", ObjectsMode::Append)];

const POLICIES: &[(&str, SchemaPolicy)] =
    &[("strict", SchemaPolicy::Strict), ("widen", SchemaPolicy::Widen), ("ignore_new", SchemaPolicy::IgnoreNew)];

/// Files of a folder are seen while they are written; objects of a store are not.
const SETTLE_OF_FILES: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    Avro,
    Csv,
    Ndjson,
}

const KINDS: &[(&str, Kind)] =
    &[("parquet", Kind::Parquet), ("avro", Kind::Avro), ("csv", Kind::Csv), ("ndjson", Kind::Ndjson)];

/// What names end in, and what that says.
const ENDINGS: &[(&str, Kind)] = &[
    ("parquet", Kind::Parquet),
    ("pq", Kind::Parquet),
    ("avro", Kind::Avro),
    ("csv", Kind::Csv),
    ("tsv", Kind::Csv),
    ("ndjson", Kind::Ndjson),
    ("jsonl", Kind::Ndjson),
];

/// Endings of what is packed, whatever is in it.
const PACKED: &[&str] = &[".gz", ".zst", ".zip"];

pub(super) fn decode(block: &Field<'_>, surroundings: &Surroundings<'_>, report: &mut Report) -> Option<ObjectsSpec> {
    let place = place(block, surroundings, report);
    let kind = kind(block, place.as_ref().map(|(url, _)| url), report);
    let format = kind.and_then(|kind| format(block, kind, report));
    let (url, connection) = place?;
    let settle = block.field("settle").duration();
    let by_default = if url.scheme == Scheme::File { SETTLE_OF_FILES } else { Duration::ZERO };
    Some(ObjectsSpec {
        url: url.text,
        mode: block.field("mode").choice(MODES)?,
        hive_partitions: block.field("hive_partitions").boolean()?,
        connection,
        format: format?,
        schema: block.field("schema").choice(POLICIES)?,
        settle: settle.unwrap_or(by_default),
    })
}

/// Decodes `s3_parquet`. Its files are not waited for: a Parquet file that is being written has no footer yet.
pub(super) fn decode_parquet(
    block: &Field<'_>,
    surroundings: &Surroundings<'_>,
    report: &mut Report,
) -> Option<ObjectsSpec> {
    let (url, connection) = place(block, surroundings, report)?;
    Some(ObjectsSpec {
        hive_partitions: block.field("hive_partitions").boolean()?,
        connection,
        ..ObjectsSpec::parquet(url.text, block.field("mode").choice(MODES)?)
    })
}

fn place(
    block: &Field<'_>,
    surroundings: &Surroundings<'_>,
    report: &mut Report,
) -> Option<(ObjectUrl, Option<convoke_core::ConnectionName>)> {
    let url = object_url::decode(&block.field("url"), Names::Objects, surroundings.base_dir, report);
    let named = block.field("connection");
    let connection = connection::object_store(
        &named,
        "`s3://`, `gs://` and `az://`",
        url.as_ref(),
        surroundings.connections,
        report,
    );
    Some((url?, connection?))
}

fn kind(block: &Field<'_>, url: Option<&ObjectUrl>, report: &mut Report) -> Option<Kind> {
    let field = block.field("format");
    if field.is_given() {
        return field.choice(KINDS);
    }
    let url = url?;
    let packed = PACKED.iter().find_map(|ending| url.text.strip_suffix(ending));
    let (_, ending) = packed.unwrap_or(&url.text).rsplit_once('.').unwrap_or_default();
    let told = ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known));
    if told.is_none() {
        let message =
            "is missing, and the end of `url` does not tell it; give one of `parquet`, `avro`, `csv`, `ndjson`";
        report.problem(block.place, &field.path, message);
    }
    told.map(|(_, kind)| *kind)
}

fn format(block: &Field<'_>, kind: Kind, report: &mut Report) -> Option<ObjectFormat> {
    let (csv, limit) = (block.field("csv"), block.field("max_malformed"));
    if csv.is_given() && kind != Kind::Csv {
        report.problem(csv.place, &csv.path, "is about objects in CSV, and these are not; remove it");
    }
    if limit.is_given() && kind == Kind::Parquet {
        let message = "is about records that cannot be carried, and there are none in Parquet; remove it";
        report.problem(limit.place, &limit.path, message);
    }
    let max_malformed = limit.percent()? / 100.0;
    Some(match kind {
        Kind::Parquet => ObjectFormat::Parquet,
        Kind::Avro => ObjectFormat::Avro { max_malformed },
        Kind::Ndjson => ObjectFormat::Ndjson { max_malformed },
        Kind::Csv => ObjectFormat::Csv(CsvObjects {
            delimiter: match csv.field("delimiter").text() {
                None | Some(scalar::DETECTED) => None,
                Some(text) => Some(scalar::delimiter(text)?),
            },
            encoding: csv.field("encoding").text()?.to_owned(),
            aliases: csv_drop::aliases(&csv.field("aliases"), report),
            max_malformed,
        }),
    })
}
