"""Measures reading a table against psql, interleaved, and prints a Markdown table. See README.md; start it by `postgres`."""

import argparse
import os
import signal
import subprocess
import sys

from cluster import DATABASE, PORT, USER, running
from measuring import SIZES, best, data_folder, measure, peak

COLUMNS = {
    "id": "integer",
    "email": "text",
    "first_name": "text",
    "last_name": "text",
    "company": "text",
    "domain": "text",
    "title": "text",
    "phone": "text",
    "city": "text",
    "country": "text",
    "employees": "integer",
    "updated_at": "timestamptz",
}
SELECT = f"SELECT {', '.join(COLUMNS)} FROM contacts"
PSQL, CONVOKE, SERVER = "psql", "convoke", "server alone"
# With as many sessions as this beside one.
SESSIONS = 2
PARALLEL = f"convoke, {SESSIONS} sessions"


def load(cluster, path):
    """Puts the contacts into a table as one that has long been there: frozen, so that no reader has anything to write."""
    definition = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    # COPY freezes rows only in the transaction that makes their table.
    tell(cluster, f"""BEGIN;
CREATE TABLE contacts ({definition});
\copy contacts FROM '{path}' (FORMAT csv, HEADER, FREEZE)
COMMIT;
VACUUM ANALYZE contacts;
CHECKPOINT;
""")


def tell(cluster, script):
    done = subprocess.run(cluster.psql() + ["--quiet"], input=script, text=True, env=cluster.environment(), stdout=cluster.log,
                          stderr=cluster.log, check=False)
    if done.returncode != 0:
        sys.exit(f"psql failed; see {cluster.log.name}")


def commands(cluster, reader):
    """What is measured; each ends its output with the number of rows, for which `\\copy` is taken: COPY does not tell it."""
    def psql(statement):
        return cluster.psql() + ["--command", statement]

    return {
        PSQL: psql(f"\\copy ({SELECT}) TO '/dev/null' (FORMAT binary)"),
        CONVOKE: [reader, cluster.folder, PORT, DATABASE, USER, "contacts", "1"],
        PARALLEL: [reader, cluster.folder, PORT, DATABASE, USER, "contacts", str(SESSIONS)],
        SERVER: psql(f"COPY ({SELECT}) TO '/dev/null' (FORMAT binary)"),
    }


def run_round(cluster, reader, rows, results):
    for name, command in commands(cluster, reader).items():
        with open(os.path.join(cluster.folder, "output"), "w+", encoding="utf-8") as output:
            result = measure(command, cluster.environment(), output, cluster.log)
            output.seek(0)
            count = int(output.read().split()[-1])
        if count != rows:
            sys.exit(f"{name} saw {count} rows of {rows}")
        results.setdefault(name, []).append(result)
        print(f"  {name:20} {result['cpu']:7.2f} CPU s {result['wall']:7.2f} s {result['rss']:5.0f} MB", file=sys.stderr)


def table(results):
    lines = ["| | client's CPU s | wall s | throughput / psql | peak MB |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in (PSQL, CONVOKE, PARALLEL):
        cpu, wall = (best(results[name], figure) for figure in ("cpu", "wall"))
        throughput = best(results[PSQL], "wall") / wall
        lines.append(f"| {name} | {cpu:.2f} | {wall:.2f} | {throughput:.2f} | {peak(results[name]):.0f} |")
    lines.append(f"| {SERVER}, common to both | | {best(results[SERVER], 'wall'):.2f} | | |")
    return "\n".join(lines)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reader", required=True, help="the release build of the example `read_table` of convoke-source-postgres")
    parser.add_argument("--work", required=True, help="folder for data and the server")
    return parser.parse_args()


def main():
    chosen = options()
    # Ends by an exception, so that the server is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    path = os.path.join(data_folder(chosen.work, chosen.size, "csv"), "contacts.csv")
    results = {}
    with open(os.path.join(chosen.work, "postgres.log"), "w", encoding="utf-8") as log, running(chosen.work, log) as cluster:
        load(cluster, path)
        for number in range(1, chosen.rounds + 1):
            print(f"round {number} of {chosen.rounds}", file=sys.stderr)
            run_round(cluster, os.path.abspath(chosen.reader), SIZES[chosen.size], results)
    print(f"{chosen.size} rows, best of {chosen.rounds}, interleaved; Unix socket\n")
    print(table(results))


if __name__ == "__main__":
    main()
