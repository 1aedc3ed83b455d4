-- How many windows there were outlives `windows`, which are wanted only while a backfill is open. `partial`: a settled
-- window ended as partial.
ALTER TABLE backfills ADD COLUMN window_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE backfills ADD COLUMN partial      INTEGER NOT NULL DEFAULT 0 CHECK (partial IN (0, 1));

UPDATE backfills SET window_count = json_array_length(windows);
UPDATE backfills SET windows = '[]' WHERE state <> 'open';
