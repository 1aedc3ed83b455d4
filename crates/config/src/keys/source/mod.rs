//! Keys of `source`: where records come from, one file per kind.

mod csv_drop;
mod objects;
mod postgres;

use crate::shape::{Key, Shape};

pub(super) const SOURCE: Shape = Shape::OneOf(&[
    Key::optional("csv_drop", Shape::Object(csv_drop::CSV_DROP), "A folder into which CSV files are dropped."),
    Key::optional(
        "objects",
        Shape::Object(objects::OBJECTS),
        "Files on an object store or in a folder: Parquet, Avro, CSV, NDJSON.",
    ),
    Key::optional(
        "s3_parquet",
        Shape::Object(objects::S3_PARQUET),
        "The same for Parquet alone, with nothing to choose.",
    ),
    Key::optional(
        "postgres",
        Shape::Object(postgres::POSTGRES),
        "A table or query of a PostgreSQL database. Each run reads it in one snapshot: whole, or what has changed.",
    ),
]);
