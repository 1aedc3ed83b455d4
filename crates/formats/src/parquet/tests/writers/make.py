"""Makes the files beside it, each by another writer: make.py FOLDER. Needs pyarrow 26 and DuckDB 2.

pyarrow.parquet  current forms: large and dictionary texts, decimals, half floats, zones, nested values, a column without values
spark.parquet    as Spark writes: INT96 times, lists of three levels with its names, decimals in the fewest bytes
duckdb.parquet   DuckDB's own writer: UUID, unsigned numbers, struct, list, map, time
"""

import datetime
import decimal
import os
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

FAR = datetime.datetime(9999, 12, 31)
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 5000)


def pyarrow_file(path):
    table = pa.table({
        "large": pa.array(["ä", None], pa.large_string()),
        "view": pa.array(["v", None], pa.string_view()),
        "dictionary": pa.array(["d", None]).dictionary_encode(),
        "decimal": pa.array([decimal.Decimal("-1.50"), None], pa.decimal128(20, 2)),
        "wide": pa.array([decimal.Decimal("1.5"), None], pa.decimal256(60, 1)),
        "half": pa.array([1.5, None], pa.float16()),
        "seconds": pa.array([NOON, None], pa.timestamp("s")),
        "zoned": pa.array([NOON, None], pa.timestamp("us", "Europe/Berlin")),
        "nothing": pa.nulls(2),
        "list": pa.array([[1, None], None], pa.list_(pa.int32())),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
        "struct": pa.array([{"a": {"b": "c"}}, None]),
    })
    pq.write_table(table, path, compression="zstd", write_page_index=True, write_page_checksum=True)


def spark_file(path):
    table = pa.table({
        "at": pa.array([FAR, None], pa.timestamp("us")),
        "nested": pa.array([{"at": FAR}, None], pa.struct([("at", pa.timestamp("us"))])),
        "amount": pa.array([decimal.Decimal("12.34"), None], pa.decimal128(9, 2)),
        "tags": pa.array([["x"], []], pa.list_(pa.string())),
    })
    pq.write_table(table, path, flavor="spark", use_deprecated_int96_timestamps=True, compression="snappy",
                   use_compliant_nested_type=False, version="1.0", store_decimal_as_integer=True)


def duckdb_file(path):
    duckdb.execute(f"""COPY (SELECT '00112233-4455-6677-8899-aabbccddeeff'::UUID AS uuid, 18446744073709551615::UBIGINT AS big,
        {{'city': 'Köln', 'zip': 50667}} AS address, ['a', NULL] AS tags, MAP {{'k': 2}} AS props, TIME '12:00:01' AS at,
        TIMESTAMPTZ '2026-01-02 12:00:00+00' AS zoned, true AS flag, '{{"a": 1}}'::JSON AS payload)
        TO '{path}' (FORMAT parquet, COMPRESSION snappy)""")


def main():
    folder = sys.argv[1]
    for name, make in (("pyarrow", pyarrow_file), ("spark", spark_file), ("duckdb", duckdb_file)):
        make(os.path.join(folder, f"{name}.parquet"))


if __name__ == "__main__":
    main()
