-- What an audience is meant to be filled by, as the client wrote it: a JSON object, which the store keeps and does not read.
ALTER TABLE audiences ADD COLUMN search_criteria TEXT;
