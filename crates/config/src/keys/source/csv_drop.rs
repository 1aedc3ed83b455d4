//! Keys of `csv_drop`.

use crate::shape::{Key, MapKey, Shape};

pub(super) const CSV_DROP: &[Key] = &[
    Key::optional("path", Shape::Path, "The folder. Either this or `url`."),
    Key::optional(
        "url",
        Shape::ObjectUrl,
        "A prefix in an object store, `s3://bucket/inbox/`, `gs://…` or `az://…`: objects right under it count as files in a folder do. It is taken letter for letter. Either this or `path`.",
    ),
    Key::optional(
        "connection",
        Shape::Name,
        "With `url`: name of a connection in `connections.yaml`, of kind `s3`, `gcs` or `azure` as the URL has it. Left out: as the environment says, in variables or by the machine's role.",
    ),
    Key::required(
        "mode",
        Shape::Choice(&["snapshot", "append"]),
        "Whether the newest file, by the time at which it was written, is the whole truth (snapshot; an older one is left where it is) or each file adds and changes records (append).",
    ),
    Key::optional(
        "pattern",
        Shape::Text,
        "Which file names count: `*` stands for any characters, `?` for one, `[abc]` for one of these. With `.gz`, `.zst` or `.zip` behind it a name counts too.",
    ),
    Key::optional("settle", Shape::Duration, "A file counts once its size and time have not changed for this long."),
    Key::optional(
        "done_marker",
        Shape::Text,
        "If set, a file counts only when `<file><done_marker>` lies beside it and is not older, `.done` for example.",
    ),
    Key::optional(
        "manifest",
        Shape::Text,
        "Names of manifests, `*.manifest` for example: if set, a file counts only when a manifest lists it, and all that this lists lies there with the sizes and checksums that it gives: a name on each line, as `sha256sum` and `md5sum` write them or alone, or JSON, `{\"files\": [{\"name\": \"a.csv\", \"size\": 120, \"sha256\": \"…\"}]}`. Either this or `done_marker`.",
    ),
    Key::optional(
        "processed",
        Shape::Choice(&["move", "keep"]),
        "What becomes of a file whose records are settled: moved to `processed/`, or kept where it is, as is then one that cannot be read. Syncs that read the same files all have to keep them.",
    ),
    Key::optional(
        "delimiter",
        Shape::Delimiter,
        "What separates the fields of a line: one punctuation character, `tab`, or `auto` for what each file shows.",
    ),
    Key::optional(
        "encoding",
        Shape::Text,
        "Encoding of the files, `windows-1252` for example, or `auto` for what each file shows: UTF-8, UTF-16 with or without a mark, else Windows-1252.",
    ),
    Key::optional(
        "columns",
        Shape::OneOrMany(&Shape::Text),
        "Names of the columns of files that have no header, in order. Left out: the first line names them.",
    ),
    Key::optional(
        "aliases",
        Shape::Map { key: MapKey::Text, value: &Shape::Text },
        "Other spellings of header names: the spelling in the file, and the name used in this sync.",
    ),
    Key::optional(
        "max_malformed",
        Shape::Percent,
        "A file with a larger share of records that cannot be read goes to `quarantine/` as a whole, as does a new one that lacks a column which the sync reads and others have.",
    ),
];
