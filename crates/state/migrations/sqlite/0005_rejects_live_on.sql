-- A reject lives on over plans: it counts attempts, and is open until its record is settled. `new` is a state within one
-- transaction only. `subject` is the key, or a digest of the origin of a record without one.
ALTER TABLE rejects ADD COLUMN content  BLOB;
ALTER TABLE rejects ADD COLUMN subject  BLOB;
ALTER TABLE rejects ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
ALTER TABLE rejects ADD COLUMN first_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rejects ADD COLUMN state    TEXT NOT NULL DEFAULT 'closed';
-- The newest plan that leaves it as it is.
ALTER TABLE rejects ADD COLUMN kept_by  TEXT;

UPDATE rejects SET first_at = at, subject = key;
UPDATE rejects SET state = 'open' WHERE (sync, plan) IN (SELECT sync, max(plan) FROM rejects GROUP BY sync);

DROP INDEX rejects_by_sync;
CREATE INDEX rejects_open ON rejects (sync, id) WHERE state = 'open';
CREATE INDEX rejects_open_by_subject ON rejects (sync, subject) WHERE state = 'open';
CREATE INDEX rejects_new ON rejects (sync, subject) WHERE state = 'new';
