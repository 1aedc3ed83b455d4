"""What the benchmarks share: sizes, data, and how a command is measured."""

import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = {"100k": 100_000, "1M": 1_000_000, "5M": 5_000_000, "10M": 10_000_000, "20M": 20_000_000}


def data_folder(work, size, file_format):
    """The folder with the contacts in this format; what is missing is written."""
    folder = os.path.join(work, "data", size)
    # The generator writes this one last.
    if not os.path.exists(os.path.join(folder, f"contacts_chg1.{file_format}")):
        generate = [sys.executable, os.path.join(HERE, "generate.py"), str(SIZES[size]), folder, file_format]
        subprocess.run(generate, check=True)
    return folder


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)


def measure(command, environment, output, log):
    """Runs a command; CPU seconds (user and system) and peak memory cover the children it waited for."""
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=output, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"`{' '.join(command)}` ended with {process.returncode}; see {log.name}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "rss": usage.ru_maxrss / 1024}


def best(results, figure):
    """Of times the least counts: what else ran on the machine only adds to them."""
    return min(result[figure] for result in results)


def peak(results):
    """Of memory the greatest of all rounds counts."""
    return max(result["rss"] for result in results)
