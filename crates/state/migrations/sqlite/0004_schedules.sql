-- How far the schedule of each sync is served.
CREATE TABLE schedule_marks (
    sync      TEXT PRIMARY KEY,
    schedule  TEXT NOT NULL,
    served_to INTEGER NOT NULL
) STRICT;
