-- A reject lives on over plans: it counts attempts, and is open until its record is settled. `new` is a state within one
-- transaction only. `subject` is the key, or a digest of the origin of a record without one.
ALTER TABLE rejects
    ADD COLUMN content  BYTEA,
    ADD COLUMN subject  BYTEA,
    ADD COLUMN attempts BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN first_at BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN state    TEXT NOT NULL DEFAULT 'closed',
    -- The newest plan that leaves it as it is.
    ADD COLUMN kept_by  TEXT COLLATE "C";

UPDATE rejects SET first_at = at, subject = key;
UPDATE rejects SET state = 'open' WHERE (sync, plan) IN (SELECT sync, max(plan) FROM rejects GROUP BY sync);

DROP INDEX rejects_by_sync;
CREATE INDEX rejects_open ON rejects (sync, id) WHERE state = 'open';
CREATE INDEX rejects_open_by_subject ON rejects (sync, subject) WHERE state = 'open';
CREATE INDEX rejects_new ON rejects (sync, subject) WHERE state = 'new';
