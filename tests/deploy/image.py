"""Rules about the Dockerfile and what of the repository it gets to see."""

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from configuration import refused_arguments
from facts import version_of

# A Debian release has a name in one base image and a number in the other.
DEBIAN = {"bookworm": "debian12", "trixie": "debian13"}

# Targets that Cargo leaves out when it builds an image.
NOT_BUILT = (["test"], ["bench"], ["example"])


@dataclass(frozen=True)
class Recipe:
    dockerfile: str
    ignored: str

    @staticmethod
    def read(root):
        return Recipe((root / "deploy/Dockerfile").read_text(), (root / ".dockerignore").read_text())

    def with_dockerfile(self, old, new):
        assert old in self.dockerfile, f"the Dockerfile no longer holds `{old}`"
        return replace(self, dockerfile=self.dockerfile.replace(old, new))

    def without_ignore_line(self, line):
        lines = self.ignored.splitlines()
        assert line in lines, f".dockerignore no longer holds `{line}`"
        return replace(self, ignored="\n".join(other for other in lines if other != line))

    def instructions(self):
        """Keyword and arguments of each instruction, comments left out and continued lines joined."""
        lines = [line for line in self.dockerfile.splitlines() if not line.lstrip().startswith("#")]
        joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
        return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]

    def last_stage(self):
        instructions = self.instructions()
        start = max(index for index, (keyword, _) in enumerate(instructions) if keyword == "FROM")
        return instructions[start:]


def problems(recipe, facts, scratch):
    found = [f"Dockerfile: {problem}" for rule in (base_rules, build_rules, final_rules) for problem in rule(recipe, facts)]
    return found + [f"build context: {problem}" for problem in context_rules(recipe, facts, scratch)]


def base_rules(recipe, facts):
    instructions = recipe.instructions()
    defaults = dict(argument.split("=", 1) for keyword, argument in instructions if keyword == "ARG" and "=" in argument)
    bases = []
    for keyword, argument in instructions:
        if keyword == "FROM":
            reference = argument.split()[0]
            variable = re.fullmatch(r"\$\{(\w+)\}", reference)
            bases.append(defaults.get(variable[1], "") if variable else reference)
    for base in bases:
        _, _, tag = base.rpartition(":")
        if not tag or "/" in tag or tag == "latest":
            yield f"`{base}` is not pinned"
    if len(bases) != 2:
        yield f"has {len(bases)} stages, not one that builds and one that runs"
        return
    rust = re.search(r"rust:([\d.]+)-(\w+)", bases[0])
    if not rust or version_of(rust[1]) < facts.rust_version:
        yield f"`{bases[0]}` is no Rust toolchain of at least {facts.rust_version}"
    elif DEBIAN.get(rust[2], "?") not in bases[1]:
        yield f"builds on {rust[2]} and runs on `{bases[1]}`, whose glibc may be older"


def build_rules(recipe, facts):
    for keyword, argument in recipe.instructions():
        if keyword == "ADD":
            yield "uses ADD, which unpacks and downloads; use COPY"
        if keyword in ("ARG", "ENV") and re.search(r"SECRET|PASSWORD|TOKEN|CREDENTIAL", argument, re.I):
            yield f"{keyword} {argument.split('=')[0]} would leave a secret in the image"
        for build in re.findall(r"cargo build[^&;]*", argument):
            if "--locked" not in build or "--release" not in build:
                yield f"`{build.strip()}` builds something else than what was tested (--locked --release)"
        if keyword == "ARG" and argument.startswith("VERSION=") and argument != f"VERSION={facts.version}":
            yield f"labels the image with {argument}, not {facts.version}"


def final_rules(recipe, facts):
    stage = dict(recipe.last_stage())
    user = stage.get("USER", "")
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user):
        yield f"runs as `{user}`, not as a number that is not root's"
    if stage.get("STOPSIGNAL") != "SIGTERM":
        yield "is not stopped by SIGTERM, which drains"
    if "RUN" in stage:
        yield "runs commands in the image that is shipped, which has no shell"
    try:
        json.loads(stage["ENTRYPOINT"])
        arguments = json.loads(stage["CMD"])
    except (KeyError, ValueError):
        yield "has no ENTRYPOINT and CMD as lists, so a shell would take the signals"
        return
    yield from refused_arguments(facts, arguments)
    labels = stage.get("LABEL", "")
    for name in ("title", "version", "revision", "licenses"):
        if f"org.opencontainers.image.{name}=" not in labels:
            yield f"lacks the label org.opencontainers.image.{name}"


def context_rules(recipe, facts, scratch):
    """What is copied is sent, what is sent is copied, and Cargo finds all that it builds."""
    copied = copied_paths(recipe)
    lines = [line for line in recipe.ignored.splitlines() if line and not line.startswith("#")]
    sent = {line[1:] for line in lines if line.startswith("!")}
    if lines[:1] != ["*"]:
        yield ".dockerignore does not begin by leaving everything out"
    for path in sorted(copied - sent):
        yield f"`{path}` is copied, but .dockerignore leaves it out"
    for path in sorted(sent - copied):
        yield f"`{path}` is sent, but never copied"
    absent = {path for path in copied if not (facts.root / path).exists()}
    if absent:
        yield f"{sorted(absent)} do not exist"
        return
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        context = Path(place)
        copy_context(facts.root, context, copied & sent)
        yield from cargo_problems(context)
        yield from included_problems(context)


def copied_paths(recipe):
    copies = [argument.split() for keyword, argument in recipe.instructions() if keyword == "COPY"]
    from_context = [words for words in copies if not any(word.startswith("--from") for word in words)]
    return {word for words in from_context for word in words[:-1] if not word.startswith("--")}


def copy_context(root, context, paths):
    for path in paths:
        target = context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (root / path).is_dir():
            shutil.copytree(root / path, target)
        else:
            shutil.copy(root / path, target)


def cargo_problems(context):
    command = ["cargo", "metadata", "--no-deps", "--format-version=1", "--locked", "--offline"]
    read = subprocess.run(command, cwd=context, capture_output=True, text=True, timeout=60)
    if read.returncode != 0:
        yield f"Cargo refuses it: {' '.join(read.stderr.split())}"
        return
    for package in json.loads(read.stdout)["packages"]:
        for target in package["targets"]:
            if target["kind"] not in NOT_BUILT and not Path(target["src_path"]).exists():
                yield f"{package['name']} names {target['src_path']}, which is not there"


def included_problems(context):
    """Files that the sources embed."""
    for source in (context / "crates").glob("*/src/**/*.rs"):
        for embedded in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text()):
            if not (source.parent / embedded).exists():
                yield f"{source.relative_to(context)} embeds {embedded}, which is not there"
