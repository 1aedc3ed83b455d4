-- An OAuth client is a tenant: everything below belongs to exactly one.
CREATE TABLE clients (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id   TEXT    NOT NULL UNIQUE,
    name        TEXT    NOT NULL,
    salt        BLOB    NOT NULL,
    secret_hash BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;

CREATE TABLE tokens (
    token_hash BLOB    NOT NULL PRIMARY KEY,
    client     INTEGER NOT NULL REFERENCES clients (number) ON DELETE CASCADE,
    scope      TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_by_expiry ON tokens (expires_at);
CREATE INDEX tokens_by_client ON tokens (client);

CREATE TABLE folders (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    client      INTEGER NOT NULL REFERENCES clients (number),
    name        TEXT    NOT NULL,
    description TEXT,
    notes       TEXT,
    starred     INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    viewed_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX folders_by_client ON folders (client, updated_at);

-- `next_row` and `next_position` only grow, so that no row number and no place in a row is ever given twice.
CREATE TABLE audiences (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT    NOT NULL UNIQUE,
    client        INTEGER NOT NULL REFERENCES clients (number),
    folder        INTEGER NOT NULL REFERENCES folders (number),
    name          TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    description   TEXT,
    notes         TEXT,
    record_count  INTEGER NOT NULL DEFAULT 0,
    next_row      INTEGER NOT NULL DEFAULT 0,
    next_position INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX audiences_by_client ON audiences (client, updated_at);
CREATE INDEX audiences_by_folder ON audiences (folder);

CREATE TABLE audience_columns (
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,
    audience       INTEGER NOT NULL REFERENCES audiences (number) ON DELETE CASCADE,
    position       INTEGER NOT NULL,
    name           TEXT    NOT NULL,
    data_type      TEXT    NOT NULL,
    column_type    TEXT    NOT NULL,
    frozen         INTEGER NOT NULL DEFAULT 0,
    hidden         INTEGER NOT NULL DEFAULT 0,
    match_criteria TEXT,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    UNIQUE (audience, position)
) STRICT;

-- `number` is the audience's number in the upper bits and the row's place in it in the lower ones: an audience is one
-- contiguous range, in order of creation. `cells` is a JSON array; a column's cell stands at the column's position.
CREATE TABLE audience_rows (
    number INTEGER PRIMARY KEY,
    id     BLOB NOT NULL UNIQUE,
    cells  TEXT NOT NULL
) STRICT;

-- Folded texts of the hidden TEXT columns, by which programs find rows again.
CREATE TABLE cell_index (
    column_number INTEGER NOT NULL,
    folded        BLOB    NOT NULL,
    row_number    INTEGER NOT NULL,
    PRIMARY KEY (column_number, folded, row_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    id         TEXT    NOT NULL PRIMARY KEY,
    audience   INTEGER NOT NULL REFERENCES audiences (number) ON DELETE CASCADE,
    kind       TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    percent    INTEGER,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;

CREATE INDEX jobs_by_audience ON jobs (audience);
