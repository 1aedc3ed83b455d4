"""What is measured, each with how it is prepared and started, and the destination that it writes to."""

import json
import os
import subprocess
import sys
import urllib.request

from measuring import HERE, fresh

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

    def make_audience(self, name, extra_columns=()):
        kinds = {column: kind for column, (kind, _) in COLUMNS.items()} | dict(extra_columns)
        columns = [{"type": "Column", "attributes": {"name": column, "dataType": kind, "columnType": "CUSTOM"}}
                   for column, kind in kinds.items()]
        attributes = {"name": name, "type": "CONTACT", "origin": "CUSTOM", "columns": columns}
        made = self.call("POST", "/gtm/studio/v1/audiences", {"data": {"type": "Audience", "attributes": attributes}})
        ids = {column["attributes"]["name"]: column["id"] for column in made["data"]["attributes"]["columns"]}
        return self.origin + "/gtm/studio/v1/audiences/" + made["data"]["id"], ids

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Peer:
    name = "script"
    writes = True

    def __init__(self, stand_in, options):
        self.folder = os.path.join(options.work, "peer")
        self.stand_in = stand_in

    def prepare(self):
        fresh(self.folder)
        self.url, self.column_ids = self.stand_in.make_audience(self.name)

    def command(self, path, _is_new):
        environment = os.environ | {"AUDIENCE_URL": self.url, "COLUMN_IDS": json.dumps(self.column_ids)}
        state = os.path.join(self.folder, "state.parquet")
        return [sys.executable, os.path.join(HERE, "peer.py"), path, state], environment


class KeyHashDiff:
    """A floor: it tells what has changed, and writes to no audience."""

    name = "key-hash diff"
    writes = False

    def __init__(self, _stand_in, options):
        self.folder = os.path.join(options.work, "key-hash-diff")

    def prepare(self):
        fresh(self.folder)

    def command(self, path, _is_new):
        snapshot = os.path.join(self.folder, "snapshot.parquet")
        return [sys.executable, os.path.join(HERE, "key_hash_diff.py"), path, snapshot], dict(os.environ)


class Convoke:
    name = "convoke"
    writes = True

    def __init__(self, stand_in, options):
        self.folder = os.path.join(options.work, "convoke")
        self.stand_in = stand_in
        self.binary = os.path.abspath(options.binary)
        self.memory_limit = options.memory_limit
        self.format = options.format

    def prepare(self):
        fresh(self.folder)
        for name in ("source", "state", "config/syncs"):
            os.makedirs(os.path.join(self.folder, name))
        for name, text in self.configuration().items():
            with open(os.path.join(self.folder, "config", name), "w", encoding="utf-8") as file:
                file.write(text)

    def command(self, path, is_new):
        if is_new:
            self.put_source(path)
        return self.command_line("run", "contacts"), dict(os.environ)

    def put_source(self, path):
        target = os.path.join(self.folder, "source", f"contacts.{self.format}")
        # A hard link costs no disk; replacing it gives the folder a new file, as an export would.
        if os.path.exists(target):
            os.remove(target)
        os.link(path, target)
        os.utime(target)

    def command_line(self, *words):
        return [self.binary, *words, "--config", os.path.join(self.folder, "config")]

    def configuration(self):
        folder = os.path.join(self.folder, "source")
        sources = {
            "csv": f"csv_drop: {{ path: {folder}, mode: snapshot, settle: 0s, processed: keep }}",
            "parquet": f's3_parquet: {{ url: "file://{folder}/*.parquet", mode: snapshot }}',
        }
        mapping = "\n".join(f"  {name}: {{ {how}, type: {kind} }}" for name, (kind, how) in COLUMNS.items())
        return {
            "convoke.yaml": f"state_dir: {self.folder}/state\nmemory_limit: {self.memory_limit}\n",
            "connections.yaml": f"""\
stand-in:
  gtm:
    base_url: {self.stand_in.origin}/gtm/studio/v1
    client_id: bench
    client_secret: bench
    rate: unlimited
    max_commit_delay: 1s
""",
            "syncs/contacts.yaml": f"""\
sync: contacts
source:
  {sources[self.format]}
map:
{mapping}
key: [Email]
dedupe: {{ keep: latest, by: updated_at }}
audience:
  gtm: {{ connection: stand-in, name: convoke, type: CONTACT, folder: Benchmark }}
mode: upsert
""",
        }
