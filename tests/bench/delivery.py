"""Measures delivering a ready plan against a plain loop, interleaved, and prints a Markdown table. Start it by `delivery`.

Of `convoke apply` two figures are taken: up to the moment at which the last answer is in the journal, which is what the loop
is compared with, and the whole command, which then folds the journal into the ledger.
"""

import argparse
import glob
import json
import os
import subprocess
import sys
import time

from measuring import SIZES, best, data_folder, measure, peak
from systems import Convoke, StandIn

LOOP, DELIVERED, WHOLE = "plain loop", "convoke, until the last answer is journalled", "convoke, the whole of `apply`"
KEY_COLUMN = "convoke_key"
MOST = 1.6


class PlainLoop:
    def __init__(self, program, stand_in):
        self.program = program
        self.stand_in = stand_in

    def command(self, creates):
        url, ids = self.stand_in.make_audience(LOOP, extra_columns={KEY_COLUMN: "TEXT"})
        return [self.program, creates], os.environ | {"AUDIENCE_URL": url, "COLUMN_IDS": json.dumps(ids)}


def run_round(stand_in, chosen, results, log):
    stand_in.call("POST", "/reset")
    convoke = Convoke(stand_in, chosen)
    convoke.prepare()
    plan, creates = ready_plan(convoke, chosen, log)
    loop, environment = PlainLoop(chosen.plain_loop, stand_in).command(creates)
    with open(os.path.join(chosen.work, "output"), "w", encoding="utf-8") as output:
        measured = {LOOP: measure(loop, environment, output, log)}
    measured |= apply(convoke.command_line("apply", plan), log)
    for name, result in measured.items():
        results.setdefault(name, []).append(result)
        print(f"  {name:45} {result['cpu']:7.2f} CPU s {result['wall']:7.2f} s {result['rss']:6.0f} MB", file=sys.stderr)
    stats = stand_in.call("GET", "/stats")
    check(stats[LOOP], stats[convoke.name])
    return stats[convoke.name]["rows"]


def apply(command, log):
    """Measures `convoke apply`, and what it had used when it said that everything is delivered."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True)
    delivered = None
    for line in process.stderr:
        if line.startswith("delivered:"):
            delivered = used_so_far(process.pid) | {"wall": time.monotonic() - started}
        log.write(line)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or delivered is None:
        sys.exit(f"`{' '.join(command)}` ended with {process.returncode}; see {log.name}")
    whole = {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "rss": usage.ru_maxrss / 1024}
    return {DELIVERED: delivered, WHOLE: whole}


def used_so_far(pid):
    """CPU seconds of a process, in hundredths, and its peak memory."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        (peak_kb,) = [line.split()[1] for line in status if line.startswith("VmHWM:")]
    return {"cpu": (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"), "rss": int(peak_kb) / 1024}


def ready_plan(convoke, chosen, log):
    """Makes the plan that both deliver: its id, and the file of its creates."""
    convoke.put_source(os.path.join(chosen.data, "contacts.parquet"))
    planning = subprocess.run(convoke.command_line("plan", "contacts", "--json"), stdout=subprocess.PIPE, stderr=log, check=False)
    if planning.returncode != 0:
        sys.exit(f"`convoke plan` ended with {planning.returncode}; see {log.name}")
    plan = json.loads(planning.stdout)["plan"]["id"]
    (creates,) = glob.glob(os.path.join(convoke.folder, "state", "plans", "*", "creates.parquet"))
    return plan, creates


def check(loop, convoke):
    """A measurement counts only if both left the same rows behind, none twice."""
    if loop["doubled"] or convoke["doubled"] or (loop["rows"], loop["checksum"]) != (convoke["rows"], convoke["checksum"]):
        sys.exit(f"the audiences differ, or hold rows twice: {loop} {convoke}")


def table(results):
    lines = ["| | CPU s | wall s | peak MB |", "| --- | ---: | ---: | ---: |"]
    for name, figures in results.items():
        lines.append(f"| {name} | {best(figures, 'cpu'):.2f} | {best(figures, 'wall'):.2f} | {peak(figures):.0f} |")
    ratio, whole = (best(results[name], "cpu") / best(results[LOOP], "cpu") for name in (DELIVERED, WHOLE))
    lines.append(f"\nConvoke's CPU until the last answer is journalled / the loop's: {ratio:.2f}, at most {MOST} "
                 f"({'met' if ratio <= MOST else 'not met'}); with the fold into the ledger {whole:.2f}")
    return "\n".join(lines)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--binary", required=True, help="the release build of convoke")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole-rows", action="store_true", help="answer with whole rows, not with row ids and key cells")
    parser.add_argument("--memory-limit", default="512MiB", help="memory_limit of the Convoke configuration")
    parser.add_argument("--work", required=True, help="folder for data and state")
    parser.add_argument("--stand-in", required=True, help="the stand-in's program")
    parser.add_argument("--plain-loop", required=True, help="the plain loop's program")
    chosen = parser.parse_args()
    chosen.format = "parquet"
    chosen.data = data_folder(chosen.work, chosen.size, chosen.format)
    return chosen


def main():
    chosen = options()
    stand_in = StandIn(chosen.stand_in, not chosen.whole_rows)
    results, rows = {}, 0
    try:
        with open(os.path.join(chosen.work, "delivery.log"), "w", encoding="utf-8") as log:
            for number in range(1, chosen.rounds + 1):
                print(f"round {number} of {chosen.rounds}", file=sys.stderr)
                rows = run_round(stand_in, chosen, results, log)
    finally:
        stand_in.stop()
    answers = "whole rows" if chosen.whole_rows else "row ids and key cells"
    print(f"{rows} creates, best of {chosen.rounds}, interleaved; the destination answers {answers}\n")
    print(table(results))


if __name__ == "__main__":
    main()
