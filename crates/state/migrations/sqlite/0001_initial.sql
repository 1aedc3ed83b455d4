-- Everything the checkpoint store holds. Times are milliseconds since the Unix epoch, UTC; ids are text, so that
-- the file can be read with the sqlite3 shell; structures whose parts are never searched are JSON.

CREATE TABLE schema_version (
    version    INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE leases (
    resource   TEXT PRIMARY KEY,
    fence      INTEGER NOT NULL,
    holder     TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    taken_over INTEGER NOT NULL CHECK (taken_over IN (0, 1)),
    released   INTEGER NOT NULL CHECK (released IN (0, 1)),
    -- 1: its holder also has the lock file, so the kernel knows whether it lives.
    guarded    INTEGER NOT NULL CHECK (guarded IN (0, 1))
) STRICT;

CREATE TABLE bindings (
    sync        TEXT PRIMARY KEY,
    connection  TEXT NOT NULL,
    audience_id TEXT NOT NULL,
    binding     TEXT NOT NULL
) STRICT;

CREATE INDEX bindings_by_audience ON bindings (connection, audience_id, sync);

CREATE TABLE quiet_periods (
    connection  TEXT NOT NULL,
    audience_id TEXT NOT NULL,
    until       INTEGER NOT NULL,
    PRIMARY KEY (connection, audience_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    sync       TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    state      TEXT NOT NULL,
    plan       TEXT,
    message    TEXT,
    counts     TEXT,
    delivery   TEXT,
    ledger     TEXT
) STRICT;

CREATE INDEX runs_by_start ON runs (started_at, id);
CREATE INDEX runs_by_sync ON runs (sync, started_at, id);

CREATE TABLE plans (
    id         TEXT PRIMARY KEY,
    sync       TEXT NOT NULL,
    state      TEXT NOT NULL,
    hash       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    moved_at   INTEGER NOT NULL,
    manifest   TEXT NOT NULL
) STRICT;

CREATE INDEX plans_by_sync ON plans (sync, state, created_at, id);
CREATE INDEX plans_by_state ON plans (state, moved_at);

-- The rows and outcomes of an entry stand apart, so that closing and folding rewrite a few bytes only.
CREATE TABLE entries (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    plan        TEXT NOT NULL,
    sync        TEXT NOT NULL,
    connection  TEXT NOT NULL,
    audience_id TEXT NOT NULL,
    batch       INTEGER NOT NULL,
    operation   TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    tag         INTEGER NOT NULL,
    intended_at INTEGER NOT NULL,
    row_count   INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('open', 'closed', 'folded'))
) STRICT;

CREATE INDEX entries_open ON entries (connection, audience_id, id) WHERE state = 'open';
CREATE INDEX entries_unfolded ON entries (connection, audience_id, id) WHERE state = 'closed';
CREATE INDEX entries_by_plan ON entries (plan, id);

CREATE TABLE entry_rows (
    entry  INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE,
    packed BLOB NOT NULL
) STRICT;

CREATE TABLE entry_outcomes (
    entry  INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE,
    packed BLOB NOT NULL
) STRICT;

CREATE TABLE recreated_keys (
    connection  TEXT NOT NULL,
    audience_id TEXT NOT NULL,
    key         BLOB NOT NULL,
    sweeps      INTEGER NOT NULL,
    PRIMARY KEY (connection, audience_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE recreated_tags (
    connection  TEXT NOT NULL,
    audience_id TEXT NOT NULL,
    key         BLOB NOT NULL,
    tag         INTEGER NOT NULL,
    PRIMARY KEY (connection, audience_id, key, tag),
    FOREIGN KEY (connection, audience_id, key)
        REFERENCES recreated_keys (connection, audience_id, key) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    sync           TEXT PRIMARY KEY,
    version        INTEGER NOT NULL,
    position       TEXT,
    config_hash    TEXT,
    ledger_version INTEGER NOT NULL,
    counts         TEXT,
    clean          INTEGER NOT NULL CHECK (clean IN (0, 1))
) STRICT;

CREATE TABLE ledgers (
    connection  TEXT NOT NULL,
    audience_id TEXT NOT NULL,
    version     INTEGER NOT NULL,
    manifest    TEXT NOT NULL,
    PRIMARY KEY (connection, audience_id)
) STRICT, WITHOUT ROWID;

-- One row at most: the secret key of all hashes.
CREATE TABLE hash_key (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    key     BLOB NOT NULL CHECK (length(key) = 32),
    made_at INTEGER NOT NULL
) STRICT;

CREATE TABLE budgets (
    credential TEXT PRIMARY KEY,
    spent      TEXT NOT NULL
) STRICT;

CREATE TABLE rejects (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    sync        TEXT NOT NULL,
    run         TEXT NOT NULL,
    plan        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    stage       TEXT NOT NULL,
    key         BLOB,
    origin      TEXT,
    code        TEXT NOT NULL,
    column_name TEXT,
    reason      TEXT NOT NULL,
    cells       TEXT NOT NULL
) STRICT;

-- NULLs are all different in a unique index, hence the expressions; no key is empty, no origin is either.
CREATE UNIQUE INDEX rejects_once ON rejects (plan, ifnull(key, x''), ifnull(origin, ''), code);
CREATE INDEX rejects_by_sync ON rejects (sync, plan, id);
CREATE INDEX rejects_by_run ON rejects (run, id);
CREATE INDEX rejects_by_time ON rejects (at);

CREATE TABLE provisions (
    connection  TEXT NOT NULL,
    what        TEXT NOT NULL,
    intended_at INTEGER NOT NULL,
    PRIMARY KEY (connection, what)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_trail (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
