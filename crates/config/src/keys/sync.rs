//! Keys of `syncs/*.yaml`: one sync per file.

use super::source::SOURCE;
use crate::shape::{Key, MapKey, Shape};

pub(crate) const SYNC: Shape = Shape::Object(&[
    Key::required("sync", Shape::Name, "Name of the sync; the file is called `<name>.yaml`."),
    Key::required("source", SOURCE, "Where records come from."),
    Key::optional(
        "where",
        Shape::Filter(FILTER_SQL),
        "Which records are kept: a rule over source columns such as `all: [{ column: country, in: [DE, FR] }, { column: email, not_empty: true }]`, or `{ sql: … }`. Others count as filtered.",
    ),
    Key::optional(
        "deleted",
        Shape::Filter(FILTER_SQL),
        "Which records say that they are deleted, for example `{ column: deleted_at, not_empty: true }`: a rule over source columns, or `{ sql: … }`. Such a record is not sent; if it is the newest of its key, the row of this sync is deleted.",
    ),
    Key::required("map", MAPPING, "The audience's columns, in this order, and how each is filled."),
    Key::required("key", Shape::OneOrMany(&Shape::Text), "The mapped columns that together identify a record."),
    Key::optional("dedupe", Shape::Object(DEDUPE), "Which of several records with the same key is kept."),
    Key::required("audience", AUDIENCE, "The audience that is kept in step."),
    Key::optional(
        "mode",
        Shape::Choice(&["upsert", "mirror", "insert_only", "update_only", "delete_list"]),
        "What the sync may do: create and update (upsert), also delete what left the source (mirror, needs a snapshot), create only, update only, or delete the keys that the source lists (delete_list).",
    ),
    Key::optional(
        "guards",
        Shape::Object(GUARDS),
        "Limits that a plan is held against before anything is sent; a plan over one waits for approval.",
    ),
    Key::optional(
        "suppress",
        Shape::OneOrMany(&Shape::Object(SUPPRESSION)),
        "People who must not be sent, ever. A list that is missing, damaged or too old stops the run.",
    ),
    Key::optional(
        "rejects",
        Shape::Object(REJECTS),
        "What becomes of records that the destination refused, whole or with some of their cells.",
    ),
    Key::optional("shared", Shape::Boolean, "Whether another sync may write the same audience; both have to say so."),
    Key::optional(
        "removed_at_destination",
        Shape::Choice(&["respect", "restore"]),
        "What becomes of a row that somebody deleted in the audience while the source has its record: it stays deleted (respect), or the next plan that sees the record creates it again (restore). Convoke learns that a row is gone when it has something to change in it.",
    ),
    Key::optional(
        "schedule",
        SCHEDULE,
        "When `convoke serve` runs the sync by itself: `daily` at 09:00 UTC, `weekly` on Saturday at 18:00 UTC, `arrival` as soon as something has come to a drop folder, `manual` for not at all, or a block. Left out: `manual`.",
    ),
    Key::optional("after", Shape::Object(AFTER), "What happens after a run."),
]);

const SCHEDULE: Shape =
    Shape::ScalarOrObject { scalar: &Shape::Choice(&["daily", "weekly", "arrival", "manual"]), object: SCHEDULE_PARTS };

const SCHEDULE_PARTS: &[Key] = &[
    Key::optional(
        "cron",
        Shape::Text,
        "Minute, hour, day of month, month, day of week: `0 2 * * *` is every day at 02:00. Days of the week are 0 (or 7, Sunday) to 6, or `MON`. Either this or `arrival`, or both.",
    ),
    Key::optional(
        "arrival",
        Shape::Boolean,
        "Whether the sync runs as soon as something has come to its drop folder and has settled.",
    ),
    Key::optional(
        "scan",
        Shape::Duration,
        "With `arrival`: how often is looked at least. Where the system tells of new files, they are seen at once.",
    ),
    Key::optional("timezone", Shape::Text, "The IANA time zone that the expression is about, `Europe/Berlin`."),
    Key::optional(
        "jitter",
        Shape::Duration,
        "A run starts up to this long after its time, by a delay that is the same for the same sync and time.",
    ),
    Key::optional(
        "overlap",
        Shape::Choice(&["skip"]),
        "A time that comes while the sync still runs starts no second run beside it; the latest such time is made up for after it.",
    ),
    Key::optional(
        "catch_up",
        Shape::Choice(&["latest", "none"]),
        "Whether the latest of the times that nothing served, while no process ran, is made up for.",
    ),
];

const AFTER: &[Key] = &[
    Key::required(
        "enrich",
        Shape::Choice(&["changed", "all"]),
        "Which rows the destination is asked to enrich after a run that created or updated any: those rows (changed), or the whole audience (all). Each costs credits there.",
    ),
    Key::optional(
        "wait",
        Shape::Duration,
        "How long a run waits for that at most. What goes on longer is looked at by the next run.",
    ),
];

const FILTER_SQL: &[Key] = &[Key::required("sql", Shape::Text, "A SQL predicate over source columns.")];

const MAPPING: Shape =
    Shape::Map { key: MapKey::Text, value: &Shape::ScalarOrObject { scalar: &Shape::Text, object: MAPPED_COLUMN } };

const MAPPED_COLUMN: &[Key] = &[
    COLUMN,
    SQL,
    Key::optional(
        "type",
        Shape::Choice(DATA_TYPES),
        "Data type of the audience column. It cannot be changed once the column exists.",
    ),
];

const COLUMN: Key = Key::optional(
    "column",
    Shape::Text,
    "The source column, as it is, or a part of it: `address.city`, `tags[1]`. Either this or `sql`.",
);

const SQL: Key = Key::optional(
    "sql",
    Shape::Text,
    "A SQL expression over source columns; of JSON text, `payload->>'name'` is a part. Either this or `column`.",
);

/// The types that a column of ours may have; a test holds this against `DataType`.
const DATA_TYPES: &[&str] = &[
    "TEXT",
    "BOOLEAN",
    "DATE",
    "STRING_LIST",
    "NUMBER_LIST",
    "EMAIL_LIST",
    "PHONE_LIST",
    "PHONE",
    "EMAIL",
    "LARGE_TEXT",
    "INTEGER",
    "DECIMAL",
    "OBJECT",
    "URL",
    "URL_LIST",
    "CHECKBOX",
    "PERCENT",
    "CURRENCY",
];

const DEDUPE: &[Key] = &[
    Key::optional(
        "keep",
        Shape::Choice(&["latest", "first", "rule"]),
        "The record with the greatest `by` (latest), the smallest (first), or the one that wins by several criteria in turn (rule).",
    ),
    Key::optional(
        "by",
        Shape::OneOrMany(&Shape::ScalarOrObject { scalar: &Shape::Text, object: CRITERION }),
        "A source column or `{ sql: … }`; for `rule` a list of them. Empty values lose. Left out: the position in the source. With `mode: append` a record that loses against the one that a row was last written from is superseded too; left out, the later file wins. `objects` with `mode: append` needs it.",
    ),
];

const CRITERION: &[Key] =
    &[COLUMN, SQL, Key::optional("descending", Shape::Boolean, "With `keep: rule`: the smaller value wins.")];

const AUDIENCE: Shape = Shape::OneOf(&[
    Key::optional("gtm", Shape::Object(GTM_AUDIENCE), "An audience of GTM Studio or of the audience store."),
    Key::planned("delivr", "A Delivr audience."),
    Key::planned("simpplr", "A Simpplr audience."),
    Key::planned("sonarly", "A Sonarly audience."),
]);

const GTM_AUDIENCE: &[Key] = &[
    Key::required("connection", Shape::Name, "Name of a connection in `connections.yaml`."),
    Key::required("name", Shape::Text, "Name of the audience; created if there is none of exactly this name."),
    Key::optional("id", Shape::Text, "The destination's own id of an audience that exists; goes before the name."),
    Key::required("type", Shape::Choice(&["CONTACT", "COMPANY"]), "What its rows are. It cannot be changed later."),
    Key::optional("folder", Shape::Text, "Name of the folder. Left out: a folder with the audience's name."),
    Key::optional("description", Shape::Text, "Shown beside the audience."),
    Key::optional(
        "match",
        Shape::Map { key: MapKey::Text, value: &Shape::Text },
        "Which mapped columns the destination matches its own data by, and as what: `Email: CONTACT_EMAIL`.",
    ),
    Key::optional(
        "columns",
        Shape::Map { key: MapKey::Text, value: &Shape::Object(FILLED_COLUMN) },
        "Columns that the destination fills.",
    ),
];

const FILLED_COLUMN: &[Key] = &[
    Key::required("match", Shape::Choice(&["ZI_CONTACT_ID", "ZI_COMPANY_ID"]), "Filled by matching, with this id."),
    Key::planned("formula", "Filled by a formula."),
    Key::planned("ai", "Filled by a prompt."),
];

const LIMIT: Shape = Shape::ScalarOrObject { scalar: &Shape::Limit, object: LIMIT_PARTS };

const LIMIT_PARTS: &[Key] = &[
    Key::optional("percent", Shape::Percent, "Share of the sync's rows or records, `5%`."),
    Key::optional(
        "records",
        Shape::Count { min: 0, max: u64::MAX },
        "Number of records. With both, both have to be passed.",
    ),
];

const GUARDS: &[Key] = &[
    Key::optional("max_delete", LIMIT, "Deletes, of this sync's rows."),
    Key::optional("max_update", LIMIT, "Updates, of this sync's rows."),
    Key::optional("max_create", LIMIT, "Creates, of this sync's rows. Does not apply to a first load."),
    Key::optional("max_invalid", LIMIT, "Invalid records, of those read."),
    Key::optional(
        "max_unreadable",
        LIMIT,
        "Records that are malformed or whose key cannot be read, of those read. With more of them a mirror deletes no row for want of a record: the record may be among them. All else goes on.",
    ),
    Key::optional(
        "max_unexplained",
        LIMIT,
        "Rows in the audience that neither this sync nor another one made, of those it holds. With more of them a plan that changes something needs approval. An audience that has never been filled or taken over is not let through by it.",
    ),
    Key::optional(
        "max_reject",
        LIMIT,
        "Changes that the destination refuses, in part or whole, of the plan's. Passing it stops delivery.",
    ),
    Key::optional("max_shrink", LIMIT, "How much smaller than the last snapshot the source may be."),
    Key::optional("allow_empty", Shape::Boolean, "Whether a source without any record is believed."),
];

const REJECTS: &[Key] = &[Key::optional(
    "resend_for",
    Shape::Duration,
    "For how long a refused record is sent again by each run that reads it, from its first refusal on. Then it is held back until it changes, or `convoke rejects resend` asks for it.",
)];

const SUPPRESSION: &[Key] = &[
    Key::required("csv", Shape::Path, "A CSV file with a header."),
    Key::required("column", Shape::Text, "The column of that file."),
    Key::optional(
        "audience_column",
        Shape::Text,
        "The mapped column it is compared with, after the same mapping. Left out: the one that reads, or is called like, `column`.",
    ),
    Key::optional(
        "existing",
        Shape::Choice(&["remove", "leave"]),
        "What becomes of rows that are in the audience already. `remove` needs the compared column to be the whole key.",
    ),
    Key::optional("max_age", Shape::Duration, "A list file that was written longer ago stops the run."),
    Key::optional(
        "max_unusable",
        LIMIT,
        "Entries that are no value of the compared column, of all entries: nobody is suppressed by them. More of them stop the run.",
    ),
];
