-- `selection` and `windows` are JSON. Newest last by `number`.
CREATE TABLE backfills (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    sync        TEXT    NOT NULL,
    selection   TEXT    NOT NULL,
    windows     TEXT    NOT NULL,
    settled     INTEGER NOT NULL,
    config_hash TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    started_at  INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX open_backfill_of_sync ON backfills (sync) WHERE state = 'open';
CREATE INDEX backfills_by_sync ON backfills (sync, number);
