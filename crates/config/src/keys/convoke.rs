//! Keys of `convoke.yaml`: the process.

use super::postgres::POSTGRES;
use crate::shape::{Key, Shape};

pub(crate) const CONVOKE: Shape = Shape::Object(&[
    Key::optional(
        "state_dir",
        Shape::Path,
        "Where the checkpoint store, the ledger, plans and spool files live. It holds personal data and the hash key: back it up, keep it private, and keep it off network file systems. With `state.postgres` it is a working folder, and each process has its own.",
    ),
    Key::optional("state", Shape::Object(STATE), "How state is kept, and whether replicas share it."),
    Key::optional("serve", Shape::Object(SERVE), "What `convoke serve` does."),
    Key::optional(
        "memory_limit",
        Shape::Size,
        "Memory that mapping, deduplication and comparison may use before they spill to disk.",
    ),
    Key::optional("threads", Shape::Count { min: 1, max: 1024 }, "Threads of the engine. Left out: one for each core."),
    Key::optional(
        "spill_dir",
        Shape::Path,
        "Where the engine spills when the memory limit is reached. Left out: a folder inside the state directory.",
    ),
    Key::optional("log", Shape::Object(LOG), "What is logged to standard error, and how."),
    Key::optional("retention", Shape::Object(RETENTION), "How long files and rows that hold personal data are kept."),
]);

const STATE: &[Key] = &[
    Key::optional(
        "lease",
        Shape::Timeout,
        "How long a process that is gone keeps others from its audience: 5s or more. Shorter than a pause that a live process may make is too short.",
    ),
    Key::optional(
        "postgres",
        Shape::Object(POSTGRES),
        "The database that holds the checkpoint store, in a schema `convoke`: then several processes may share it. Left out: an SQLite file in the state directory, for one machine.",
    ),
    Key::optional(
        "ledger",
        Shape::Object(LEDGER),
        "Where the ledger's segments and published plans stand. Required with `postgres`, and for it alone.",
    ),
];

const LEDGER: &[Key] = &[
    Key::required(
        "url",
        Shape::ObjectUrl,
        "A place that every process reaches: `s3://bucket/prefix`, or `file:///folder` on a file system that they share. It holds personal data and belongs in every backup.",
    ),
    Key::optional(
        "connection",
        Shape::Name,
        "Name of an `s3` connection in `connections.yaml`. Left out: as the environment says.",
    ),
];

const SERVE: &[Key] = &[
    Key::optional(
        "listen",
        Shape::Listen,
        "Where health checks and metrics are answered. Whoever reaches it may read the names of syncs and their figures.",
    ),
    Key::optional("concurrency", Shape::Count { min: 1, max: 64 }, "Syncs that may run at once."),
    Key::optional(
        "drain",
        Shape::Duration,
        "How long runs may take to come to a safe stop once the process is asked to end. What is not done then is recovered by the next.",
    ),
];

const LOG: &[Key] = &[
    Key::optional(
        "format",
        Shape::Choice(&["text", "json"]),
        "Lines for people (text) or one JSON object per line (json).",
    ),
    Key::optional(
        "level",
        Shape::Choice(&["error", "warn", "info", "debug", "trace"]),
        "The least important messages that are still logged.",
    ),
];

const RETENTION: &[Key] = &[
    Key::optional("plans_settled", Shape::Duration, "Files of plans that ended: settled, superseded or abandoned."),
    Key::optional("plans_waiting", Shape::Duration, "Files of plans that were never applied."),
    Key::optional("rejects", Shape::Duration, "Records that were refused, with their cells."),
];
