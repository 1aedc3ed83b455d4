ALTER TABLE runs ADD COLUMN enrichment TEXT;

-- Enrichments whose end nobody has told yet. `row_ids` is a JSON array; NULL: the whole audience.
CREATE TABLE enrichments (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan        TEXT COLLATE "C" NOT NULL,
    number      BIGINT NOT NULL,
    sync        TEXT COLLATE "C" NOT NULL,
    run         TEXT NOT NULL,
    connection  TEXT NOT NULL,
    audience_id TEXT NOT NULL,
    row_ids     TEXT,
    stage       TEXT NOT NULL,
    job         TEXT,
    UNIQUE (plan, number)
);

CREATE INDEX enrichments_by_sync ON enrichments (sync, id);
