-- `selection` and `windows` are JSON. Newest last by `number`.
CREATE TABLE backfills (
    number      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    sync        TEXT COLLATE "C" NOT NULL,
    selection   TEXT NOT NULL,
    windows     TEXT NOT NULL,
    settled     BIGINT NOT NULL,
    config_hash TEXT NOT NULL,
    state       TEXT NOT NULL,
    started_at  BIGINT NOT NULL
);

CREATE UNIQUE INDEX open_backfill_of_sync ON backfills (sync) WHERE state = 'open';
CREATE INDEX backfills_by_sync ON backfills (sync, number);
