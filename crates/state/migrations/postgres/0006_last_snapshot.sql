-- Records of the last snapshot: `counts` are those of an addition, if one has come since. Until the next snapshot the
-- newest counts have to do.
ALTER TABLE checkpoints ADD COLUMN snapshot_records BIGINT;

UPDATE checkpoints
SET snapshot_records = (counts::json ->> 'read')::bigint + (counts::json ->> 'carried_over')::bigint
WHERE counts IS NOT NULL;
