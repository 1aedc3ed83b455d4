-- Everything the checkpoint store holds, in a schema of its own. Times are milliseconds since the Unix epoch, UTC; ids
-- are text, compared byte by byte, so that they sort alike whatever the database's language is; structures whose parts
-- are never searched are JSON as text, which keeps the order of keys and may hold any character.

CREATE TABLE schema_version (
    version    BIGINT PRIMARY KEY,
    applied_at BIGINT NOT NULL
);

-- Whoever writes under a lease locks its row until the commit, so that nobody takes the lease over in between.
CREATE TABLE leases (
    resource   TEXT COLLATE "C" PRIMARY KEY,
    fence      BIGINT NOT NULL,
    holder     TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    taken_over BOOLEAN NOT NULL,
    released   BOOLEAN NOT NULL
);

CREATE TABLE bindings (
    sync        TEXT COLLATE "C" PRIMARY KEY,
    connection  TEXT COLLATE "C" NOT NULL,
    audience_id TEXT COLLATE "C" NOT NULL,
    binding     TEXT NOT NULL
);

CREATE INDEX bindings_by_audience ON bindings (connection, audience_id, sync);

CREATE TABLE quiet_periods (
    connection  TEXT COLLATE "C" NOT NULL,
    audience_id TEXT COLLATE "C" NOT NULL,
    until       BIGINT NOT NULL,
    PRIMARY KEY (connection, audience_id)
);

CREATE TABLE runs (
    id         TEXT COLLATE "C" PRIMARY KEY,
    sync       TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT,
    state      TEXT NOT NULL,
    plan       TEXT,
    message    TEXT,
    counts     TEXT,
    delivery   TEXT,
    ledger     TEXT
);

CREATE INDEX runs_by_start ON runs (started_at, id);
CREATE INDEX runs_by_sync ON runs (sync, started_at, id);

CREATE TABLE plans (
    id         TEXT COLLATE "C" PRIMARY KEY,
    sync       TEXT COLLATE "C" NOT NULL,
    state      TEXT NOT NULL,
    hash       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    moved_at   BIGINT NOT NULL,
    -- True: nothing of its records is left but counts.
    forgotten  BOOLEAN NOT NULL DEFAULT false,
    manifest   TEXT NOT NULL
);

CREATE INDEX plans_by_sync ON plans (sync, state, created_at, id);
CREATE INDEX plans_by_state ON plans (state, moved_at);

-- Packed rows are hashes: compressing them gains nothing. Long ones stand apart from the row, so that closing and
-- folding do not copy them.
CREATE TABLE entries (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan            TEXT COLLATE "C" NOT NULL,
    sync            TEXT COLLATE "C" NOT NULL,
    connection      TEXT COLLATE "C" NOT NULL,
    audience_id     TEXT COLLATE "C" NOT NULL,
    batch           BIGINT NOT NULL,
    operation       TEXT NOT NULL,
    attempt         BIGINT NOT NULL,
    tag             BIGINT NOT NULL,
    intended_at     BIGINT NOT NULL,
    row_count       BIGINT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('open', 'closed', 'folded')),
    -- The job that the destination accepted a delete as.
    job             TEXT,
    packed_rows     BYTEA NOT NULL,
    packed_outcomes BYTEA
);

ALTER TABLE entries ALTER COLUMN packed_rows SET STORAGE EXTERNAL;
ALTER TABLE entries ALTER COLUMN packed_outcomes SET STORAGE EXTERNAL;

CREATE INDEX entries_open ON entries (connection, audience_id, id) WHERE state = 'open';
CREATE INDEX entries_unfolded ON entries (connection, audience_id, id) WHERE state = 'closed';
CREATE INDEX entries_by_plan ON entries (plan, id);

CREATE TABLE recreated_keys (
    connection  TEXT COLLATE "C" NOT NULL,
    audience_id TEXT COLLATE "C" NOT NULL,
    key         BYTEA NOT NULL,
    sweeps      BIGINT NOT NULL,
    -- Of the lease under which the key was noted: a sweep under the same one is too early to be the last.
    noted_fence BIGINT NOT NULL,
    PRIMARY KEY (connection, audience_id, key)
);

CREATE TABLE recreated_tags (
    connection  TEXT COLLATE "C" NOT NULL,
    audience_id TEXT COLLATE "C" NOT NULL,
    key         BYTEA NOT NULL,
    tag         BIGINT NOT NULL,
    PRIMARY KEY (connection, audience_id, key, tag),
    FOREIGN KEY (connection, audience_id, key)
        REFERENCES recreated_keys (connection, audience_id, key) ON DELETE CASCADE
);

CREATE TABLE checkpoints (
    sync           TEXT COLLATE "C" PRIMARY KEY,
    version        BIGINT NOT NULL,
    position       TEXT,
    config_hash    TEXT,
    ledger_version BIGINT NOT NULL,
    counts         TEXT,
    clean          BOOLEAN NOT NULL
);

CREATE TABLE ledgers (
    connection  TEXT COLLATE "C" NOT NULL,
    audience_id TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    manifest    TEXT NOT NULL,
    PRIMARY KEY (connection, audience_id)
);

-- One row at most: the secret key of all hashes.
CREATE TABLE hash_key (
    singleton BOOLEAN PRIMARY KEY CHECK (singleton),
    key       BYTEA NOT NULL CHECK (length(key) = 32),
    made_at   BIGINT NOT NULL
);

CREATE TABLE budgets (
    credential TEXT COLLATE "C" PRIMARY KEY,
    spent      TEXT NOT NULL
);

CREATE TABLE rejects (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sync        TEXT COLLATE "C" NOT NULL,
    run         TEXT COLLATE "C" NOT NULL,
    plan        TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    stage       TEXT NOT NULL,
    key         BYTEA,
    origin      TEXT,
    code        TEXT NOT NULL,
    column_name TEXT,
    reason      TEXT NOT NULL,
    cells       TEXT NOT NULL
);

-- NULLs are all different in a unique index, hence the expressions; no key is empty, no origin is either. An origin
-- may be longer than an index takes, so its digest stands in.
CREATE UNIQUE INDEX rejects_once
    ON rejects (plan, coalesce(key, ''::bytea), md5(coalesce(origin, '')), code);
CREATE INDEX rejects_by_sync ON rejects (sync, plan, id);
CREATE INDEX rejects_by_run ON rejects (run, id);
CREATE INDEX rejects_by_time ON rejects (at);

CREATE TABLE provisions (
    connection  TEXT COLLATE "C" NOT NULL,
    what        TEXT COLLATE "C" NOT NULL,
    intended_at BIGINT NOT NULL,
    -- What the thing was made as, as the destination told it.
    made_id     TEXT,
    PRIMARY KEY (connection, what)
);

CREATE TABLE schedule_marks (
    sync      TEXT COLLATE "C" PRIMARY KEY,
    schedule  TEXT NOT NULL,
    served_to BIGINT NOT NULL
);

CREATE TABLE audit_trail (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL
);
