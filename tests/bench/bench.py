"""Measures Convoke against a hand-written script, interleaved, and prints a Markdown table. See README.md; start it by `run`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = {"100k": 100_000, "1M": 1_000_000, "10M": 10_000_000}
# Name, the file that lies in the drop folder, and whether it is put there anew.
SCENARIOS = [
    ("first load", "contacts.csv", True),
    ("unchanged, file re-written", "contacts_rewritten.csv", True),
    ("the same file again", "contacts_rewritten.csv", False),
    ("1 % changed", "contacts_chg1.csv", True),
]
COLUMNS = {
    "Email": ("EMAIL", "sql: normalize_email(email)"),
    "Full Name": ("TEXT", "sql: \"first_name || ' ' || last_name\""),
    "Company": ("TEXT", "column: company"),
    "Domain": ("TEXT", "column: domain"),
    "Title": ("TEXT", "column: title"),
    "Phone": ("TEXT", "column: phone"),
    "City": ("TEXT", "column: city"),
    "Country": ("TEXT", "column: country"),
    "Employees": ("INTEGER", "column: employees"),
}


class StandIn:
    """The destination: a process of its own, so that its work counts for nobody."""

    def __init__(self, program, ids_only):
        command = [program] + (["--ids-only"] if ids_only else [])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.origin = "http://" + self.process.stdout.readline().strip()

    def call(self, method, path, body=None):
        headers = {"Authorization": "Bearer x", "Content-Type": "application/vnd.api+json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.origin + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def make_audience(self, name):
        columns = [{"type": "Column", "attributes": {"name": column, "dataType": kind, "columnType": "CUSTOM"}}
                   for column, (kind, _) in COLUMNS.items()]
        attributes = {"name": name, "type": "CONTACT", "origin": "CUSTOM", "columns": columns}
        made = self.call("POST", "/gtm/studio/v1/audiences", {"data": {"type": "Audience", "attributes": attributes}})
        ids = {column["attributes"]["name"]: column["id"] for column in made["data"]["attributes"]["columns"]}
        return self.origin + "/gtm/studio/v1/audiences/" + made["data"]["id"], ids

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Peer:
    name = "script"

    def __init__(self, work, stand_in, _options):
        self.folder = os.path.join(work, "peer")
        self.stand_in = stand_in

    def prepare(self):
        fresh(self.folder)
        self.url, self.column_ids = self.stand_in.make_audience(self.name)

    def command(self, data, file_name, _is_new):
        environment = os.environ | {"AUDIENCE_URL": self.url, "COLUMN_IDS": json.dumps(self.column_ids)}
        state = os.path.join(self.folder, "state.parquet")
        return [sys.executable, os.path.join(HERE, "peer.py"), os.path.join(data, file_name), state], environment


class Convoke:
    name = "convoke"

    def __init__(self, work, stand_in, options):
        self.folder = os.path.join(work, "convoke")
        self.stand_in = stand_in
        self.binary = os.path.abspath(options.binary)
        self.memory_limit = options.memory_limit

    def prepare(self):
        fresh(self.folder)
        for name in ("drop", "state", "config/syncs"):
            os.makedirs(os.path.join(self.folder, name))
        for name, text in configuration(self.folder, self.stand_in.origin, self.memory_limit).items():
            with open(os.path.join(self.folder, "config", name), "w", encoding="utf-8") as file:
                file.write(text)

    def command(self, data, file_name, is_new):
        if is_new:
            target = os.path.join(self.folder, "drop", "contacts.csv")
            # A hard link costs no disk; replacing it gives the drop folder a new file, as an export would.
            if os.path.exists(target):
                os.remove(target)
            os.link(os.path.join(data, file_name), target)
            os.utime(target)
        return [self.binary, "run", "contacts", "--config", os.path.join(self.folder, "config")], dict(os.environ)


def configuration(folder, origin, memory_limit):
    mapping = "\n".join(f"  {name}: {{ {how}, type: {kind} }}" for name, (kind, how) in COLUMNS.items())
    return {
        "convoke.yaml": f"state_dir: {folder}/state\nmemory_limit: {memory_limit}\n",
        "connections.yaml": f"""\
stand-in:
  gtm:
    base_url: {origin}/gtm/studio/v1
    client_id: bench
    client_secret: bench
    rate: unlimited
    max_commit_delay: 1s
""",
        "syncs/contacts.yaml": f"""\
sync: contacts
source:
  csv_drop: {{ path: {folder}/drop, mode: snapshot, settle: 0s, processed: keep }}
map:
{mapping}
key: [Email]
dedupe: {{ keep: latest, by: updated_at }}
audience:
  gtm: {{ connection: stand-in, name: convoke, type: CONTACT, folder: Benchmark }}
mode: upsert
""",
    }


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)


def measure(command, environment, log):
    """Runs a command; CPU seconds (user and system) and peak memory cover the children it waited for."""
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"`{' '.join(command)}` ended with {process.returncode}; see {log.name}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.monotonic() - started, "rss": usage.ru_maxrss / 1024}


def run_round(systems, stand_in, data, results, log):
    stand_in.call("POST", "/reset")
    for system in systems:
        system.prepare()
    for scenario, file_name, is_new in SCENARIOS:
        for system in systems:
            result = measure(*system.command(data, file_name, is_new), log)
            results.setdefault((scenario, system.name), []).append(result)
            print(f"  {scenario:28} {system.name:8} {result['cpu']:7.2f} CPU s {result['rss']:6.0f} MB", file=sys.stderr)
        check_agreement(stand_in.call("GET", "/stats"), [system.name for system in systems], scenario)


def check_agreement(stats, names, scenario):
    """A measurement counts only if both left the same rows behind, none twice."""
    if any(stats[name]["doubled"] for name in names):
        sys.exit(f"{scenario}: rows were created twice: {stats}")
    if len({(stats[name]["rows"], stats[name]["checksum"]) for name in names}) > 1:
        sys.exit(f"{scenario}: the audiences differ: {stats}")


def best(results, scenario, name, figure):
    return min(result[figure] for result in results[scenario, name])


def table(results, names):
    lines = ["| scenario | " + " | ".join(f"{name}: CPU s | wall s | peak MB" for name in names) + " | CPU ratio |",
             "| --- |" + " ---: |" * (3 * len(names) + 1)]
    for scenario, _, _ in SCENARIOS:
        cells = [scenario]
        for name in names:
            # Memory is the worst of all rounds, times are the best.
            peak = max(result["rss"] for result in results[scenario, name])
            cells += [f"{best(results, scenario, name, 'cpu'):.2f}", f"{best(results, scenario, name, 'wall'):.2f}", f"{peak:.0f}"]
        ratio = best(results, scenario, names[0], "cpu") / best(results, scenario, names[-1], "cpu")
        cells.append(f"{ratio:.2f}" if len(names) > 1 else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--binary", help="the release build of convoke; without it only the script is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ids-only", action="store_true", help="answer upserts with row ids and key cells, not with whole rows")
    parser.add_argument("--memory-limit", default="512MiB", help="memory_limit of the Convoke configuration")
    parser.add_argument("--work", required=True, help="folder for data and state")
    parser.add_argument("--stand-in", required=True, help="the stand-in's program")
    return parser.parse_args()


def main():
    chosen = options()
    data = os.path.join(chosen.work, "data", chosen.size)
    if not os.path.exists(os.path.join(data, "contacts_chg1.csv")):
        subprocess.run([sys.executable, os.path.join(HERE, "generate.py"), str(SIZES[chosen.size]), data], check=True)
    stand_in = StandIn(chosen.stand_in, chosen.ids_only)
    systems = [system(chosen.work, stand_in, chosen) for system in ([Peer, Convoke] if chosen.binary else [Peer])]
    results = {}
    try:
        with open(os.path.join(chosen.work, "bench.log"), "w", encoding="utf-8") as log:
            for number in range(1, chosen.rounds + 1):
                print(f"round {number} of {chosen.rounds}", file=sys.stderr)
                run_round(systems, stand_in, data, results, log)
    finally:
        stand_in.stop()
    answers = "row ids and key cells" if chosen.ids_only else "whole rows"
    print(f"{chosen.size} lines, best of {chosen.rounds}, interleaved; the destination answers {answers}\n")
    print(table(results, [system.name for system in systems]))


if __name__ == "__main__":
    main()
