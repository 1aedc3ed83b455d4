//! Keys of `csv_drop`.

use crate::shape::{Key, MapKey, Shape};

pub(super) const CSV_DROP: &[Key] = &[
    Key::required("path", Shape::Path, "The folder."),
    Key::required(
        "mode",
        Shape::Choice(&["snapshot", "append"]),
        "Whether the newest file is the whole truth (snapshot) or each file adds and changes records (append).",
    ),
    Key::optional(
        "pattern",
        Shape::Text,
        "Which file names count: `*` stands for any characters, `?` for one, `[abc]` for one of these.",
    ),
    Key::optional("settle", Shape::Duration, "A file counts once its size and time have not changed for this long."),
    Key::optional(
        "done_marker",
        Shape::Text,
        "If set, a file counts only when `<file><done_marker>` lies beside it and is not older, `.done` for example.",
    ),
    Key::optional(
        "processed",
        Shape::Choice(&["move", "keep"]),
        "What becomes of a file whose records are settled: moved to `processed/` or kept where it is. Syncs that read the same files all have to keep them.",
    ),
    Key::optional(
        "delimiter",
        Shape::Delimiter,
        "What separates the fields of a line: one punctuation character or `tab`.",
    ),
    Key::optional(
        "aliases",
        Shape::Map { key: MapKey::Text, value: &Shape::Text },
        "Other spellings of header names: the spelling in the file, and the name used in this sync.",
    ),
    Key::optional(
        "max_malformed",
        Shape::Percent,
        "A file with a larger share of records that cannot be read goes to `quarantine/` as a whole.",
    ),
    Key::planned("encoding", "Encodings other than UTF-8."),
];
