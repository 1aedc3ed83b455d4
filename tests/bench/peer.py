"""The hand-written script that Convoke is compared with: peer.py CONTACTS STATE.parquet

Contacts are a CSV or a Parquet file. Two phases in DuckDB: first the keys whose content hash differs from the last
run's (narrow columns, no wide sort), then the request bodies of those alone, built in SQL and sent by four requests at a
time. It keeps row ids, but only when the whole run has succeeded, and it looks nothing up after a lost answer: it does less
than Convoke does. What only sending needs is imported for sending: a run without changes does without it.
AUDIENCE_URL and COLUMN_IDS (a JSON object) come from the environment.
"""

import asyncio
import json
import os
import sys

import duckdb

from contacts import CELLS, reading

BATCH_ROWS = 500
IN_FLIGHT = 4
HEADERS = {"Authorization": "Bearer x", "Content-Type": "application/vnd.api+json", "User-Agent": "convoke-bench-peer"}


def find_changed(connection, source, state):
    """Fills the table `changed` with key, content hash, order value and known row id; returns how many there are."""
    newest = f"""SELECT {CELLS["Email"]} AS key, max(updated_at) AS latest,
        arg_max(hash({", ".join(CELLS.values())}), updated_at) AS content FROM {source} GROUP BY 1"""
    if os.path.exists(state):
        query = f"""SELECT newest.*, known.row_id FROM ({newest}) AS newest LEFT JOIN read_parquet('{state}') AS known
            USING (key) WHERE known.content IS NULL OR known.content <> newest.content"""
    else:
        query = f"SELECT *, NULL::VARCHAR AS row_id FROM ({newest})"
    connection.execute(f"CREATE TEMP TABLE changed AS {query}")
    return connection.execute("SELECT count(*) FROM changed").fetchone()[0]


def bodies(connection, source, column_ids):
    """Runs the query whose rows are key, content hash and the JSON of one row each."""
    cells = " || ',' || ".join(
        f"""'{{"columnId":"{column_ids[name]}","value":' || coalesce(to_json({cell})::VARCHAR, 'null') || '}}'"""
        for name, cell in CELLS.items())
    identity = """CASE WHEN row_id IS NULL THEN '' ELSE '"id":"' || row_id || '",' END"""
    return connection.execute(f"""SELECT key, content,
        '{{"type":"Row",' || {identity} || '"attributes":{{"values":[' || {cells} || ']}}}}'
        FROM {source} AS line JOIN changed ON {CELLS["Email"]} = changed.key AND line.updated_at = changed.latest""")


async def send_all(cursor):
    import aiohttp
    import orjson

    sent = {"key": [], "content": [], "row_id": []}
    slots = asyncio.Semaphore(IN_FLIGHT)
    url = os.environ["AUDIENCE_URL"] + "/rows/actions/bulk/upsert"

    async def send(session, rows):
        try:
            body = '{"data":[' + ",".join([row[2] for row in rows]) + "]}"
            async with session.post(url, data=body.encode()) as response:
                response.raise_for_status()
                answered = orjson.loads(await response.read())["data"]
        finally:
            slots.release()
        for row, answer in zip(rows, answered, strict=True):
            sent["key"].append(row[0])
            sent["content"].append(row[1])
            sent["row_id"].append(answer["id"])

    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session, asyncio.TaskGroup() as tasks:
        while rows := cursor.fetchmany(BATCH_ROWS):
            await slots.acquire()
            tasks.create_task(send(session, rows))
    return sent


def save(connection, sent, state):
    import pyarrow as pa

    table = pa.table({"key": sent["key"], "content": pa.array(sent["content"], pa.uint64()), "row_id": sent["row_id"]})
    connection.register("sent", table)
    query = "SELECT * FROM sent"
    if os.path.exists(state):
        query += f" UNION ALL SELECT known.* FROM read_parquet('{state}') AS known ANTI JOIN sent USING (key)"
    connection.execute(f"COPY ({query}) TO '{state}.part' (FORMAT parquet, COMPRESSION zstd)")
    os.replace(f"{state}.part", state)


def main():
    source, state = reading(sys.argv[1]), sys.argv[2]
    connection = duckdb.connect()
    connection.execute("SET threads = 2; SET preserve_insertion_order = false")
    if find_changed(connection, source, state):
        cursor = bodies(connection, source, json.loads(os.environ["COLUMN_IDS"]))
        save(connection, asyncio.run(send_all(cursor)), state)


if __name__ == "__main__":
    main()
