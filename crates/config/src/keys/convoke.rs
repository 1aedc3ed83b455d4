//! Keys of `convoke.yaml`: the process.

use crate::shape::{Key, Shape};

pub(crate) const CONVOKE: Shape = Shape::Object(&[
    Key::optional(
        "state_dir",
        Shape::Path,
        "Where the checkpoint store, the ledger, plans and spool files live. It holds personal data and the hash key: back it up, keep it private, and keep it off network file systems.",
    ),
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
