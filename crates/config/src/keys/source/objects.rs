//! Keys of `objects`, and of `s3_parquet`.

use crate::shape::{Key, MapKey, Shape};

const URL: Key = Key::required(
    "url",
    Shape::ObjectUrl,
    "The objects: `s3://bucket/folder/*.parquet`, `gs://bucket/…`, `az://container/…`, `file:///folder/**/*.parquet`, a path, or one object of a web server, `https://host/people.parquet`. `*` stands for any characters but `/`, `**` for any folders, `?` for one character, `[abc]` for one of these.",
);

const MODE: Key = Key::required(
    "mode",
    Shape::Choice(&["snapshot", "append"]),
    "Whether all objects together are the whole truth (snapshot) or each new one adds and changes records (append).",
);

const HIVE_PARTITIONS: Key = Key::optional(
    "hive_partitions",
    Shape::Boolean,
    "Whether `name=value` folders of the path are columns. Folders that a rule in `where` rules out, and in which no record can say that it is deleted, are not even listed.",
);

const CONNECTION: Key = Key::optional(
    "connection",
    Shape::Name,
    "Name of a connection in `connections.yaml`, of kind `s3`, `gcs` or `azure` as the URL has it. Left out: as the environment says, in variables or by the machine's role.",
);

pub(super) const S3_PARQUET: &[Key] = &[URL, MODE, HIVE_PARTITIONS, CONNECTION];

pub(super) const OBJECTS: &[Key] = &[
    URL,
    MODE,
    Key::optional(
        "format",
        Shape::Choice(&["parquet", "avro", "csv", "ndjson"]),
        "How records stand in the objects. Left out: as the end of `url` has it. All but Parquet may be packed with gzip, zstd or zip.",
    ),
    HIVE_PARTITIONS,
    CONNECTION,
    Key::optional(
        "settle",
        Shape::Duration,
        "An object that was written less than this ago is left for the next run; objects that count only together are waited for. Left out: `10s` in a folder, else `0s`.",
    ),
    Key::optional(
        "schema",
        Shape::Choice(&["strict", "widen", "ignore_new"]),
        "What is done about columns that differ between objects, or from what was read before: any difference is refused (strict), columns come and go, and types widen where no value is written in another way by that (widen: whole numbers do, but not to decimals), or those that were not known before are left out (ignore_new). Known columns that added NDJSON leaves out are empty. To a backfill every column is known.",
    ),
    Key::optional(
        "max_malformed",
        Shape::Percent,
        "An object with a larger share of records that cannot be read is left out as a whole. Not for Parquet.",
    ),
    Key::optional("csv", Shape::Object(CSV), "How CSV objects are to be understood."),
];

const CSV: &[Key] = &[
    Key::optional(
        "delimiter",
        Shape::Delimiter,
        "What separates the fields of a line: one punctuation character or `tab`. Left out: told by the object itself.",
    ),
    Key::optional(
        "encoding",
        Shape::Text,
        "How text is encoded, `utf-8`, `utf-16le` or `windows-1252` for example; `auto`: told by the object itself.",
    ),
    Key::optional(
        "aliases",
        Shape::Map { key: MapKey::Text, value: &Shape::Text },
        "Other spellings of header names: the spelling in the object, and the name used in this sync.",
    ),
];
