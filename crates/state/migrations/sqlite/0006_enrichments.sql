ALTER TABLE runs ADD COLUMN enrichment TEXT;

-- Enrichments whose end nobody has told yet. `row_ids` is a JSON array; NULL: the whole audience.
CREATE TABLE enrichments (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    plan        TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    sync        TEXT    NOT NULL,
    run         TEXT    NOT NULL,
    connection  TEXT    NOT NULL,
    audience_id TEXT    NOT NULL,
    row_ids     TEXT,
    stage       TEXT    NOT NULL,
    job         TEXT,
    UNIQUE (plan, number)
) STRICT;

CREATE INDEX enrichments_by_sync ON enrichments (sync, id);
