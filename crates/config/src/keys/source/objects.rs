//! Keys of `s3_parquet`.

use crate::shape::{Key, Shape};

pub(super) const S3_PARQUET: &[Key] = &[
    Key::required(
        "url",
        Shape::ObjectUrl,
        "The objects: `s3://bucket/folder/*.parquet`, `file:///folder/**/*.parquet`, or a path. `*` stands for any characters but `/`, `**` for any folders, `?` for one character, `[abc]` for one of these.",
    ),
    Key::required(
        "mode",
        Shape::Choice(&["snapshot", "append"]),
        "Whether all objects together are the whole truth (snapshot) or each new one adds and changes records (append).",
    ),
    Key::optional("hive_partitions", Shape::Boolean, "Whether `name=value` folders of the path are columns."),
    Key::optional(
        "connection",
        Shape::Name,
        "Name of an `s3` connection in `connections.yaml`. Left out: as the environment says, in `AWS_…` variables or by the machine's role.",
    ),
];
