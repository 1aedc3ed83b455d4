-- Records of the last snapshot: `counts` are those of an addition, if one has come since. Until the next snapshot the
-- newest counts have to do.
ALTER TABLE checkpoints ADD COLUMN snapshot_records INTEGER;

UPDATE checkpoints SET snapshot_records = json_extract(counts, '$.read') + json_extract(counts, '$.carried_over')
WHERE counts IS NOT NULL;
