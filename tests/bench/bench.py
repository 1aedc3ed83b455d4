"""Measures Convoke against a hand-written script, interleaved, and prints a Markdown table. See README.md; start it by `run`."""

import argparse
import os
import sys

from measuring import SIZES, best, data_folder, measure, peak
from systems import Convoke, KeyHashDiff, Peer, StandIn

FIRST, REWRITTEN, SAME, CHANGED = "first load", "unchanged, file re-written", "the same file again", "1 % changed"
# Name, the file that lies in the source's folder, and whether it is put there anew.
SCENARIOS = [
    (FIRST, "contacts", True),
    (REWRITTEN, "contacts_rewritten", True),
    (SAME, "contacts_rewritten", False),
    (CHANGED, "contacts_chg1", True),
]


def run_round(systems, stand_in, chosen, results, log):
    stand_in.call("POST", "/reset")
    for system in systems:
        system.prepare()
    sent_before = 0
    for scenario, file_name, is_new in SCENARIOS:
        path = os.path.join(chosen.data, f"{file_name}.{chosen.format}")
        said = {}
        for system in systems:
            result, said[system.name] = run(*system.command(path, is_new), chosen, log)
            results.setdefault(scenario, {}).setdefault(system.name, []).append(result)
            print(f"  {scenario:28} {system.name:13} {result['cpu']:7.2f} CPU s {result['rss']:6.0f} MB", file=sys.stderr)
        stats = stand_in.call("GET", "/stats")
        check_agreement([stats[system.name] for system in systems if system.writes], scenario)
        sent = stats[Peer.name]["created"] + stats[Peer.name]["updated"]
        if KeyHashDiff.name in said:
            check_floor(int(said[KeyHashDiff.name]), sent - sent_before, scenario)
        sent_before = sent


def run(command, environment, chosen, log):
    """Measures a command, and tells what it printed."""
    with open(os.path.join(chosen.work, "output"), "w+", encoding="utf-8") as output:
        result = measure(command, environment, output, log)
        output.seek(0)
        said = output.read()
    log.write(said)
    log.flush()
    return result, said


def check_agreement(audiences, scenario):
    """A measurement counts only if all left the same rows behind, none twice."""
    if any(audience["doubled"] for audience in audiences):
        sys.exit(f"{scenario}: rows were created twice: {audiences}")
    if len({(audience["rows"], audience["checksum"]) for audience in audiences}) > 1:
        sys.exit(f"{scenario}: the audiences differ: {audiences}")


def check_floor(found, sent, scenario):
    """A floor counts only if it finds as many changes as were sent."""
    if found != sent:
        sys.exit(f"{scenario}: the key-hash diff found {found} changes, and {sent} were sent")


def table(results, names):
    lines = ["| scenario | " + " | ".join(f"{name}: CPU s | wall s | peak MB" for name in names) + " | CPU ratio |",
             "| --- |" + " ---: |" * (3 * len(names) + 1)]
    for scenario, systems in results.items():
        cells = [scenario]
        for name in names:
            figures = systems[name]
            cells += [f"{best(figures, 'cpu'):.2f}", f"{best(figures, 'wall'):.2f}", f"{peak(figures):.0f}"]
        cells.append(f"{cpu(results, scenario, Peer) / cpu(results, scenario, Convoke):.2f}" if Convoke.name in names else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cpu(results, scenario, system):
    return best(results[scenario][system.name], "cpu")


def bounds(results):
    """What Parquet is held to."""
    saved = cpu(results, FIRST, Peer) / cpu(results, FIRST, Convoke)
    rewritten, floor = cpu(results, REWRITTEN, Convoke), cpu(results, REWRITTEN, KeyHashDiff)
    upper = [
        ("unchanged, file re-written: Convoke's CPU / the key-hash diff's", rewritten / floor, 1.7),
        ("the same file again: Convoke's CPU s", cpu(results, SAME, Convoke), 0.2),
        ("1 % changed: Convoke's CPU / its own for the re-written file", cpu(results, CHANGED, Convoke) / rewritten, 1.6),
    ]
    lines = ["| bound | measured | wanted | |", "| --- | ---: | ---: | --- |",
             f"| first load: the script's CPU / Convoke's | {saved:.2f} | at least 2.5 | {verdict(saved >= 2.5)} |"]
    lines += [f"| {name} | {figure:.2f} | at most {most} | {verdict(figure <= most)} |" for name, figure, most in upper]
    return "\n".join(lines)


def verdict(is_met):
    return "met" if is_met else "not met"


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--binary", help="the release build of convoke; without it only the script is measured")
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv", help="what the contacts lie in; csv if left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ids-only", action="store_true", help="answer upserts with row ids and key cells, not with whole rows")
    parser.add_argument("--memory-limit", default="512MiB", help="memory_limit of the Convoke configuration")
    parser.add_argument("--work", required=True, help="folder for data and state")
    parser.add_argument("--stand-in", required=True, help="the stand-in's program")
    chosen = parser.parse_args()
    chosen.data = data_folder(chosen.work, chosen.size, chosen.format)
    return chosen


def main():
    chosen = options()
    kinds = [Peer] + ([KeyHashDiff] if chosen.format == "parquet" else []) + ([Convoke] if chosen.binary else [])
    stand_in = StandIn(chosen.stand_in, chosen.ids_only)
    systems = [kind(stand_in, chosen) for kind in kinds]
    results = {}
    try:
        with open(os.path.join(chosen.work, "bench.log"), "w", encoding="utf-8") as log:
            for number in range(1, chosen.rounds + 1):
                print(f"round {number} of {chosen.rounds}", file=sys.stderr)
                run_round(systems, stand_in, chosen, results, log)
    finally:
        stand_in.stop()
    answers = "row ids and key cells" if chosen.ids_only else "whole rows"
    print(f"{chosen.size} lines of {chosen.format}, best of {chosen.rounds}, interleaved; the destination answers {answers}\n")
    print(table(results, [system.name for system in systems]))
    if chosen.format == "parquet" and chosen.binary:
        print("\n" + bounds(results))


if __name__ == "__main__":
    main()
