"""What each pod would find below its configuration directory, held against Convoke itself."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from pods import config_texts, workloads_of


def problems(bundle, facts, scratch):
    found = []
    for workload in workloads_of(bundle):
        found += [f"{workload.name}: {problem}" for problem in workload_problems(bundle, workload, facts, scratch)]
    return found


def workload_problems(bundle, workload, facts, scratch):
    folder = workload.argument_after("--config")
    texts = {path: text for path, text in config_texts(bundle, workload).items() if path.startswith(f"{folder}/")}
    if f"{folder}/convoke.yaml" not in texts:
        yield f"mounts no convoke.yaml into {folder}"
        return
    yield from mount_problems(bundle, workload)
    secrets = secret_folder(workload)
    used = set().union(*(referenced_files(text) for text in texts.values()))
    for file in sorted(used):
        if not file.startswith(f"{secrets}/"):
            yield f"reads {file}, which no Secret is mounted for"
        elif file.removeprefix(f"{secrets}/") not in facts.documented_secrets:
            yield f"reads {file}, which deploy/README.md does not tell to put into the Secret"
    yield from sync_problems(workload, folder, texts)
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        write_below(Path(place), texts, used)
        yield from check_with_convoke(facts, place, folder)
        yield from refused_arguments(facts, workload.container["args"])


def mount_problems(bundle, workload):
    """Kubernetes starts no pod that mounts what is not there."""
    keys = {resource["metadata"]["name"]: resource["data"].keys() for resource in bundle.of_kind("ConfigMap")}
    for mount, volume in workload.mounts():
        name = (volume or {}).get("configMap", {}).get("name")
        if name and name not in keys:
            yield f"mounts the ConfigMap `{name}`, which does not exist"
        elif name and mount.get("subPath", next(iter(keys[name]))) not in keys[name]:
            yield f"mounts `{mount['subPath']}`, which the ConfigMap `{name}` does not hold"


def secret_folder(workload):
    mounted = (mount["mountPath"] for mount, volume in workload.mounts() if volume and "secret" in volume)
    return next(mounted, "no secret")


def sync_problems(workload, folder, texts):
    """A Job names a sync that is there."""
    command, *rest = workload.container["args"]
    if command in ("run", "backfill") and f"{folder}/syncs/{rest[0]}.yaml" not in texts:
        yield f"runs `{rest[0]}`, which is no sync"


def referenced_files(text):
    """Files that a configuration names and that are mounted beside it."""
    return set(re.findall(r"\$\{file:([^}]+)\}", text)) | set(re.findall(r"^\s+ca_file: (\S+)", text, re.M))


def write_below(place, texts, files):
    """Writes the configuration below `place`, with every file that it names, moved there too."""
    for file in files:
        path = place / file.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("stands in for a secret\n")
    for path, text in texts.items():
        for file in files:
            text = text.replace(file, f"{place}{file}")
        target = place / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def check_with_convoke(facts, place, folder):
    command = [facts.convoke, "check", "--config", f"{place}{folder}"]
    checked = run(command)
    if checked.returncode != 0:
        yield f"`convoke check` ends with {checked.returncode}: {one_line(checked.stderr).replace(place, '')}"


def refused_arguments(facts, arguments):
    """Arguments that Convoke does not know; with `--help` behind them nothing is carried out."""
    answer = run([facts.convoke, *arguments, "--help"])
    if answer.returncode != 0:
        yield f"`convoke {' '.join(arguments)}` is refused: {one_line(answer.stderr)}"


def run(command):
    # No variable of this machine may stand in for what a pod would not have.
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def one_line(text):
    return " ".join(text.split())


def check_folder(facts, scratch, folder, secrets, mounted):
    """Checks a configuration directory of deploy/ in which secrets lie below `secrets`, one file for each of `mounted`."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        shutil.copytree(folder, Path(place) / "source")
        sources = sorted((Path(place) / "source").rglob("*.yaml"))
        texts = {f"/etc/convoke/{path.relative_to(Path(place) / 'source')}": path.read_text() for path in sources}
        used = set().union(*(referenced_files(text) for text in texts.values()))
        for file in sorted(used - {f"{secrets}/{name}" for name in mounted}):
            yield f"reads {file}, which is no secret of the service"
        write_below(Path(place), texts, used)
        yield from check_with_convoke(facts, place, "/etc/convoke")
