"""Measures reading Parquet against DuckDB, interleaved, and prints Markdown tables. See README.md; start it by `parquet`."""

import argparse
import os
import re
import subprocess
import sys

import duckdb

from measuring import HERE, best, measure, peak

SIZES = {"1M": 1_000_000, "5M": 5_000_000, "20M": 20_000_000}
FILES = {"one": "one row group", "groups": "row groups of 100k"}
THREADS = (1, 2)
CONVOKE, DUCKDB = "convoke", "duckdb"

# What a query does before it reads: its CPU is taken off.
START = "SELECT 1"


def query(path):
    """Looks at every value of every column, as cheaply as can be: lengths of texts, sums of numbers."""
    described = duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()

    def looked_at(name, kind):
        if kind == "VARCHAR":
            return f'sum(strlen("{name}"))'
        return f'max("{name}")' if kind.startswith("TIMESTAMP") else f'sum("{name}")'

    looks = ", ".join(looked_at(name, kind) for name, kind, *_ in described)
    return f"SELECT count(*), {looks} FROM '{path}'"


def duckdb_command(statement, threads):
    script = f"import duckdb; c = duckdb.connect(); c.execute('SET threads = {threads}'); " \
             f"c.execute('SET enable_external_file_cache = false'); print(c.execute({statement!r}).fetchone()[0])"
    return [sys.executable, "-c", script]


def data(chosen, rows):
    folder = os.path.join(chosen.work, "data", f"parquet-{rows}")
    groups, one = (os.path.join(folder, f"{name}.parquet") for name in ("groups", "one"))
    if not os.path.exists(groups):
        subprocess.run([sys.executable, os.path.join(HERE, "parquet_files.py"), str(rows), groups], check=True)
    if not os.path.exists(one):
        subprocess.run([chosen.reader, groups, "--regroup", f"{one}.part"], check=True, stdout=subprocess.DEVNULL)
        os.replace(f"{one}.part", one)
    return folder


class Scans:
    def __init__(self, chosen, log):
        self.chosen, self.log, self.results, self.requests = chosen, log, {}, {}

    def run(self, name, command, rows):
        with open(os.path.join(self.chosen.work, "parquet-output"), "w+", encoding="utf-8") as output:
            result = measure(command, dict(os.environ), output, self.log)
            output.seek(0)
            numbers = [int(number) for number in re.findall(r"\d+", output.read())]
        if numbers[-1] != rows:
            sys.exit(f"{name} saw {numbers[-1]} rows of {rows}")
        self.results.setdefault(name, []).append(result)
        return numbers[0]

    def round(self, size, folder):
        rows = SIZES[size]
        for file in FILES:
            path = os.path.join(folder, f"{file}.parquet")
            for threads in THREADS:
                place = (size, file, threads)
                self.run((DUCKDB, *place), duckdb_command(query(path), threads), rows)
                command = [os.path.abspath(self.chosen.reader), path, "--threads", str(threads)]
                self.requests[place] = self.run((CONVOKE, *place), command, rows)
        self.run((START,), duckdb_command(START, 1), 1)

    def table(self):
        start = best(self.results[(START,)], "cpu")
        lines = ["| records | file | threads | DuckDB: CPU s, peak MB | Convoke: CPU s, peak MB, requests | CPU ratio |",
                 "| --- | --- | ---: | ---: | ---: | ---: |"]
        for place, requests in self.requests.items():
            theirs, ours = self.results[(DUCKDB, *place)], self.results[(CONVOKE, *place)]
            duckdb_cpu, convoke_cpu = best(theirs, "cpu") - start, best(ours, "cpu")
            size, file, threads = place
            lines.append(f"| {size} | {FILES[file]} | {threads} | {duckdb_cpu:.2f}, {peak(theirs):.0f} "
                         f"| {convoke_cpu:.2f}, {peak(ours):.0f}, {requests} | {convoke_cpu / duckdb_cpu:.2f} |")
        return "\n".join(lines)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reader", required=True, help="the release build of the example `scan_parquet` of convoke-formats")
    parser.add_argument("--work", required=True, help="folder for data")
    return parser.parse_args()


def main():
    chosen = options()
    with open(os.path.join(chosen.work, "parquet.log"), "w", encoding="utf-8") as log:
        scans = Scans(chosen, log)
        for size in chosen.rows:
            folder = data(chosen, SIZES[size])
            for number in range(1, chosen.rounds + 1):
                print(f"{size}, round {number} of {chosen.rounds}", file=sys.stderr)
                scans.round(size, folder)
    print(f"best of {chosen.rounds}, interleaved; DuckDB's start is taken off its CPU\n")
    print(scans.table())


if __name__ == "__main__":
    main()
