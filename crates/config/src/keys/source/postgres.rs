//! Keys of `postgres` as a source.

use crate::shape::{Key, Shape};

pub(super) const POSTGRES: &[Key] = &[
    Key::required("connection", Shape::Name, "Name of a `postgres` connection in `connections.yaml`."),
    Key::optional(
        "table",
        Shape::Text,
        "A table or view, `name` or `schema.name`, each as PostgreSQL stores it; what is not a plain name stands in double quotes. Arrays and JSON are read as JSON text: `tags->>0`, `payload->>'name'`. Either this or `query`.",
    ),
    Key::optional("query", Shape::Text, "One SELECT. Either this or `table`."),
    Key::optional(
        "time_column",
        Shape::Text,
        "The column that `--from` and `--to` of a backfill are about, and by which `--all` is cut into windows; without it a backfill is one window. Rows without a value in it are read by `--all` alone.",
    ),
    Key::optional(
        "incremental",
        Shape::Object(INCREMENTAL),
        "How later runs find what has changed; the first one reads everything. Left out: each run reads everything.",
    ),
    Key::optional(
        "unsupported",
        Shape::Choice(&["error", "skip", "text"]),
        "What becomes of a column whose type cannot be read as it is: refused if the sync reads it (error), left out (skip), or written as text by the server (text).",
    ),
    Key::optional(
        "out_of_range",
        Shape::Choice(&["error", "empty", "text"]),
        "What becomes of infinite dates and times, of years outside 1 to 9999, and of NaN and infinity in a `numeric(p, s)` column that the sync reads: the run ends (error), they are NULL and counted (empty), or all values of such columns are text (text).",
    ),
    Key::optional(
        "parallel",
        Shape::Count { min: 1, max: 32 },
        "Sessions that read a table at the same time, all in one snapshot. Takes PostgreSQL 14 or newer, and a table that is not a view.",
    ),
    Key::optional(
        "max_snapshot",
        Shape::Timeout,
        "Longest time that a snapshot is held; until then vacuum cannot remove what is dead since. A read that takes longer ends with an error.",
    ),
];

const INCREMENTAL: &[Key] = &[
    Key::optional(
        "column",
        Shape::Text,
        "A column that each change sets to a later value: a timestamp, a date or a whole number, whose greatest is asked for before each read and should be found by an index. Either this or `row_versions`.",
    ),
    Key::optional(
        "row_versions",
        Shape::Boolean,
        "Find changes by the transaction number that PostgreSQL keeps with each row. Misses nothing and needs no column, but scans the whole table; for tables only.",
    ),
    Key::optional(
        "overlap",
        Shape::Duration,
        "How much older a value of `column` may be than the start, by the server's clock, of the transaction that writes it.",
    ),
    Key::optional(
        "nulls",
        Shape::Choice(&["read", "refuse"]),
        "Whether rows without a value in `column` are read by each run, or end it.",
    ),
    Key::optional(
        "full_every",
        Shape::Timeout,
        "After this time a run reads everything again. With `mode: mirror` this is what finds rows that are gone, and rows that `where` or the query keeps no longer; until then, and in other modes for good, they stay, unless `deleted` names them.",
    ),
];
