"""What finding the changes costs at the least: key_hash_diff.py CONTACTS SNAPSHOT.parquet

The floor under a run that sends nothing: DuckDB on one thread, which needs the least CPU. The first call writes the snapshot,
64-bit hashes of key and content; each later one prints how many keys are new or changed since then. It keeps no row ids,
sends nothing and leaves the snapshot as it is.
"""

import os
import sys

import duckdb

from contacts import CELLS, reading


def main():
    source, snapshot = reading(sys.argv[1]), sys.argv[2]
    connection = duckdb.connect()
    connection.execute("SET threads = 1; SET preserve_insertion_order = false")
    newest = f"""SELECT hash({CELLS["Email"]}) AS key, arg_max(hash({", ".join(CELLS.values())}), updated_at) AS content
        FROM {source} GROUP BY 1"""
    if os.path.exists(snapshot):
        query = f"""SELECT count(*) FROM ({newest}) AS newest LEFT JOIN read_parquet('{snapshot}') AS known USING (key)
            WHERE known.content IS NULL OR known.content <> newest.content"""
    else:
        query = f"COPY ({newest}) TO '{snapshot}' (FORMAT parquet, COMPRESSION zstd)"
    # COPY, too, answers how many there were.
    print(connection.execute(query).fetchone()[0])


if __name__ == "__main__":
    main()
