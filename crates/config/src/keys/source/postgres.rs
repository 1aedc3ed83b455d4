//! Keys of `postgres` as a source.

use crate::shape::{Key, Shape};

pub(super) const POSTGRES: &[Key] = &[
    Key::required("connection", Shape::Name, "Name of a `postgres` connection in `connections.yaml`."),
    Key::optional(
        "table",
        Shape::Text,
        "A table or view, `name` or `schema.name`, each as PostgreSQL stores it; what is not a plain name stands in double quotes. Either this or `query`.",
    ),
    Key::optional("query", Shape::Text, "One SELECT. Either this or `table`."),
    Key::optional("time_column", Shape::Text, "The column that `--from` and `--to` of a backfill are about."),
];
