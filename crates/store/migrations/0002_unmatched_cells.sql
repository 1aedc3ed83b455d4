-- Match cells that were looked for in the reference data, and not found: their state is `NO_RESULT`.
CREATE TABLE unmatched_cells (
    row_number INTEGER NOT NULL REFERENCES audience_rows (number) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    PRIMARY KEY (row_number, position)
) STRICT, WITHOUT ROWID;
