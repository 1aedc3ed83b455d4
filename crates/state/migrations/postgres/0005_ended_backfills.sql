-- How many windows there were outlives `windows`, which are wanted only while a backfill is open. `partial`: a settled
-- window ended as partial.
ALTER TABLE backfills
    ADD COLUMN window_count BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN partial      BOOLEAN NOT NULL DEFAULT false;

UPDATE backfills SET window_count = json_array_length(windows::json);
UPDATE backfills SET windows = '[]' WHERE state <> 'open';
