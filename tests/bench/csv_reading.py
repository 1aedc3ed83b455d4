"""Measures reading CSV against DuckDB, interleaved, and prints a Markdown table. See README.md; start it by `csv`."""

import argparse
import os
import sys
import tempfile

from measuring import HERE, SIZES, best, data_folder, measure, peak

DUCKDB, CONVOKE = "duckdb", "convoke"
ALL = ["id", "email", "first_name", "last_name", "company", "domain", "title", "phone", "city", "country", "employees",
       "updated_at"]
SCENARIOS = {"all 12 columns": ALL, "3 of 12 columns": ["email", "company", "updated_at"]}


def commands(reader, path, columns):
    """What is measured; each prints the number of records and of bytes in their cells."""
    return {
        DUCKDB: [sys.executable, os.path.join(HERE, "duckdb_csv.py"), path, *columns],
        CONVOKE: [reader, path, *columns],
    }


def run_round(chosen, path, log, results):
    for scenario, columns in SCENARIOS.items():
        seen = set()
        for name, command in commands(chosen.reader, path, columns).items():
            with tempfile.TemporaryFile("w+", dir=chosen.work, encoding="utf-8") as output:
                result = measure(command, os.environ, output, log)
                output.seek(0)
                count, size, *cpu = output.read().split()
            # What Python and DuckDB need before they read does not count.
            result["cpu"] = float(cpu[0]) if cpu else result["cpu"]
            seen.add((count, size))
            results.setdefault((scenario, name), []).append(result)
            print(f"  {scenario:16} {name:8} {result['cpu']:7.2f} CPU s {result['wall']:7.2f} s", file=sys.stderr)
        if len(seen) != 1:
            sys.exit(f"{scenario}: the two did not see the same: {seen}")


def table(results):
    lines = ["| | DuckDB: CPU s, peak MB | Convoke: CPU s, peak MB | CPU ratio |", "| --- | ---: | ---: | ---: |"]
    for scenario in SCENARIOS:
        duckdb, convoke = results[scenario, DUCKDB], results[scenario, CONVOKE]
        figures = [f"{best(of, 'cpu'):.2f}, {peak(of):.0f}" for of in (duckdb, convoke)]
        ratio = best(convoke, "cpu") / best(duckdb, "cpu")
        lines.append(f"| {scenario} | {figures[0]} | {figures[1]} | {ratio:.2f} |")
    return "\n".join(lines)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reader", required=True, help="the release build of the example `read_csv` of convoke-formats")
    parser.add_argument("--work", required=True, help="folder for data")
    chosen = parser.parse_args()
    chosen.reader = os.path.abspath(chosen.reader)
    return chosen


def main():
    chosen = options()
    path = os.path.join(data_folder(chosen.work, chosen.size, "csv"), "contacts.csv")
    results = {}
    with open(os.path.join(chosen.work, "csv.log"), "w", encoding="utf-8") as log:
        for number in range(1, chosen.rounds + 1):
            print(f"round {number} of {chosen.rounds}", file=sys.stderr)
            run_round(chosen, path, log, results)
    print(f"{chosen.size} records, {os.path.getsize(path) >> 20} MB, best of {chosen.rounds}, interleaved\n")
    print(table(results))


if __name__ == "__main__":
    main()
