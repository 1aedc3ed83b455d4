"""Checks deploy/ and prints every problem; start it by `check`.

First the files as they are, then copies with one mistake each: a mistake that no check notices is a problem too.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import bundles
import compose
import image
import mutations
from facts import Facts
from subjects import Subjects


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--convoke", type=Path, required=True)
    arguments = parser.parse_args()
    facts = Facts.of(arguments.root, arguments.convoke)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="convoke-deploy-") as scratch:
        check_everything(facts, Path(scratch), report)
    report.finish()


def check_everything(facts, scratch, report):
    renderer = bundles.find_renderer()
    report.note(renderer.description)
    subjects = Subjects.read(facts, renderer)
    found = {}
    for name, bundle in subjects.bundles.items():
        found[name] = subjects.problems_of(bundle, facts, scratch)
        report.section(f"Kubernetes: {name}, {len(bundle.resources)} resources", found[name])
    report.section("Kubernetes: files", bundles.file_problems(facts.root, renderer))
    found["image"] = image.problems(subjects.recipe, facts, scratch)
    report.section("image", found["image"])
    found["compose"] = compose.problems(subjects.compose, facts, scratch)
    report.section("compose", found["compose"])
    report.section("compose: preparation", compose.preparation_problems(facts, scratch))
    report.section(f"mistakes made on purpose, {mutations.count(subjects)} of them",
                   mutations.unnoticed(subjects, found, facts, scratch))


class Report:
    """Prints each section as it ends, and the outcome."""

    def __init__(self):
        self.failed = 0
        self.started = time.monotonic()

    def note(self, text):
        print(text, flush=True)

    def section(self, title, problems):
        print(f"{title}: {'ok' if not problems else f'{len(problems)} problems'}", flush=True)
        for problem in problems:
            print(f"  {problem}", flush=True)
        self.failed += len(problems)

    def finish(self):
        seconds = time.monotonic() - self.started
        if self.failed:
            sys.exit(f"deploy: {self.failed} problems, {seconds:.0f} s")
        print(f"deploy: all well, {seconds:.0f} s")


if __name__ == "__main__":
    main()
