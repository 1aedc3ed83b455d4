"""Writes the contacts as Parquet in row groups of 100,000 records: parquet_files.py ROWS PATH

DuckDB writes pages of up to 100 MB, which no reader can take in part. These have pages of 1 MiB, as most writers make them.
"""

import os
import sys

import duckdb
import pyarrow.parquet

from generate import records, typed

GROUP_ROWS = 100_000


def main():
    rows, path = int(sys.argv[1]), sys.argv[2]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    connection = duckdb.connect()
    connection.execute("SET threads = 2; SET memory_limit = '4GB'")
    batches = connection.sql(typed(records(rows, changed=False), "parquet")).to_arrow_reader(GROUP_ROWS)
    with pyarrow.parquet.ParquetWriter(f"{path}.part", batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
    os.replace(f"{path}.part", path)


if __name__ == "__main__":
    main()
