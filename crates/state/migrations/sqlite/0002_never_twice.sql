-- What a thing was made as, as the destination told it.
ALTER TABLE provisions ADD COLUMN made_id TEXT;

-- The fence of the lease under which the key was noted: a sweep under the same one is too early to be the last.
ALTER TABLE recreated_keys ADD COLUMN noted_fence INTEGER NOT NULL DEFAULT 0;

-- 1: nothing of its records is left but counts.
ALTER TABLE plans ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1));

-- The job that the destination accepted a delete as.
CREATE TABLE entry_jobs (
    entry INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE,
    job   TEXT NOT NULL
) STRICT;
