"""A PostgreSQL server for one measurement: a cluster of its own, reached over a Unix socket alone."""

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import sys

from measuring import fresh

# Where Debian and its relatives keep the programs of each version, which are not on the path there.
VERSIONS = "/usr/lib/postgresql/*/bin"
USER = "convoke"
PORT = "5432"
DATABASE = "postgres"
# It is thrown away: nothing has to survive a crash, and nothing else may run beside the measurement.
SETTINGS = """
listen_addresses = ''
fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 8GB
autovacuum = off
"""


@contextlib.contextmanager
def running(work, log):
    """A server that is stopped and removed in the end, as is one that a killed run has left."""
    cluster = Cluster(work, log)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Cluster:
    def __init__(self, work, log):
        self.folder = os.path.join(work, "postgres")
        self.data = os.path.join(self.folder, "data")
        self.server_log = os.path.join(self.folder, "log")
        self.log = log
        self.programs = find_programs()
        self.owner = find_owner()

    def start(self):
        self.stop()
        fresh(self.folder)
        # Whoever reaches the socket is let in: nobody but the server's user and root.
        os.chmod(self.folder, 0o700)
        if self.owner:
            os.chown(self.folder, self.owner.pw_uid, self.owner.pw_gid)
        self.check_reachable()
        self.run("initdb", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=trust",
                 "--username", USER, "--pgdata", self.data)
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(SETTINGS + f"port = {PORT}\nunix_socket_directories = '{self.folder}'\n")
        self.control("start", "--log", self.server_log)

    def stop(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.control("stop", "--mode=immediate", check=False)
        if os.path.exists(self.server_log):
            with open(self.server_log, encoding="utf-8") as server_log:
                self.log.write(server_log.read())
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self):
        """What psql finds the server by."""
        return os.environ | {"PGHOST": self.folder, "PGPORT": PORT, "PGUSER": USER, "PGDATABASE": DATABASE}

    def psql(self):
        """The beginning of a command: nobody's settings, and an error ends it."""
        return [os.path.join(self.programs, "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1"]

    def control(self, verb, *arguments, check=True):
        self.run("pg_ctl", verb, "--silent", "--wait", "--pgdata", self.data, *arguments, check=check)

    def run(self, program, *arguments, check=True):
        command = [os.path.join(self.programs, program), *arguments]
        if self.as_owner(command).returncode != 0 and check:
            sys.exit(f"`{' '.join(command)}` failed; see {self.log.name}")

    def check_reachable(self):
        if self.as_owner(["test", "-w", self.folder]).returncode != 0:
            sys.exit(f"the user `{self.owner.pw_name}`, as which PostgreSQL runs here, does not reach {self.folder}; "
                     "set BENCH_WORK to a folder that it reaches")

    def as_owner(self, command):
        other = {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []} if self.owner else {}
        # Into a file: a server that is started would keep a pipe open.
        return subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, check=False, **other)


def find_programs():
    """The folder of PostgreSQL's programs: that on the path, else the newest version."""
    by_version = sorted(glob.glob(VERSIONS), key=lambda folder: float(folder.split("/")[-2]), reverse=True)
    on_path = shutil.which("initdb")
    for folder in ([os.path.dirname(on_path)] if on_path else []) + by_version:
        if all(os.access(os.path.join(folder, program), os.X_OK) for program in ("initdb", "pg_ctl", "psql")):
            return folder
    sys.exit("PostgreSQL is not installed; install it with `apt-get install -y postgresql`")


def find_owner():
    """The user to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        sys.exit("PostgreSQL does not run as root, and there is no user `postgres`; make one with "
                 "`useradd --system --user-group postgres`, or run this as another user")
