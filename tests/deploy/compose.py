"""Rules about the compose file, and the script that prepares its first start."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from configuration import check_folder, refused_arguments
from facts import seconds

FILE = "deploy/compose.yaml"
# Services that run the image of Convoke.
OURS = ("convoke", "store")


def read(root):
    return yaml.safe_load((root / FILE).read_text())


def problems(file, facts, scratch):
    found = list(schema_problems(file, scratch))
    for name, service in file["services"].items():
        found += [f"{name}: {problem}" for problem in service_rules(service)]
    for name in OURS:
        found += [f"{name}: {problem}" for problem in our_rules(file["services"][name], facts)]
    found += wiring_rules(file, facts)
    mounted = file["services"]["convoke"]["secrets"]
    return found + list(check_folder(facts, scratch, facts.root / "deploy/compose/config", "/run/secrets", mounted))


def schema_problems(file, scratch):
    written = Path(scratch) / "compose.yaml"
    written.write_text(yaml.safe_dump(file))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema=vendor.compose-spec", "--output-format=json"]
    checked = subprocess.run([*command, str(written)], capture_output=True, text=True, timeout=60)
    if checked.returncode != 0:
        for error in json.loads(checked.stdout).get("errors", [{"path": "$", "message": checked.stderr}]):
            yield f"does not fit the Compose Specification: {error['path']}: {error['message']}"


def service_rules(service):
    if service.get("read_only") is not True:
        yield "has a root file system that can be written (read_only)"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield "keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges (no-new-privileges)"
    if str(service.get("user", "0")).split(":")[0] in ("0", "root"):
        yield "runs as root"
    _, _, tag = service["image"].rpartition(":")
    if "/" in tag or tag in (service["image"], "latest"):
        yield f"uses `{service['image']}`, an image without a fixed tag"
    if "mem_limit" not in service:
        yield "has no limit of memory (mem_limit)"
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            yield f"publishes {port} to the whole network"
    for name, value in service.get("environment", {}).items():
        if "PASSWORD" in name and not name.endswith("_FILE"):
            yield f"holds a secret in its environment ({name})"


def our_rules(service, facts):
    if service["image"] != f"convoke:{facts.version}":
        yield f"uses `{service['image']}`, not version {facts.version}"
    yield from refused_arguments(facts, service["command"])


def wiring_rules(file, facts):
    services, folder = file["services"], (facts.root / FILE).parent
    settings = yaml.safe_load((folder / "compose/config/convoke.yaml").read_text())
    convoke = services["convoke"]
    if seconds(convoke.get("stop_grace_period", "10s")) < seconds(settings["serve"]["drain"]) + 10:
        yield "convoke: is killed before draining has ended (stop_grace_period)"
    if "healthcheck" not in services["state"]:
        yield "state: has no health check"
    if convoke["depends_on"].get("state", {}).get("condition") != "service_healthy":
        yield "convoke: does not wait for its database (depends_on)"
    if not (folder / convoke["build"]["context"] / convoke["build"]["dockerfile"]).is_file():
        yield "convoke: is built from a Dockerfile that does not exist"
    for name, service in services.items():
        for secret in set(service.get("secrets", [])) - file["secrets"].keys():
            yield f"{name}: uses the secret `{secret}`, which does not exist"
    for name, secret in file["secrets"].items():
        if secret != {"file": f"./compose/secrets/{name}"}:
            yield f"{name}: is not a file that `prepare` makes"


def preparation_problems(facts, scratch):
    """Runs the script with the real store behind a stand-in for Docker, twice."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        folder = Path(place) / "compose"
        folder.mkdir()
        script = folder / "prepare"
        script.write_text((facts.root / "deploy/compose/prepare").read_text())
        docker = Path(place) / "docker"
        # Takes what follows the service's name, as the container would, and keeps the store in the temporary place.
        docker.write_text(f"""#!/usr/bin/env bash
while [[ $1 != -T ]]; do shift; done; shift 2
exec {facts.convoke} "${{@//\\/var\\/lib\\/convoke/{str(place).replace('/', chr(92) + '/')}}}"
""")
        docker.chmod(0o755)
        seen = []
        for _ in range(2):
            environment = {"PATH": f"{place}:/usr/bin:/bin", "HOME": place}
            ended = subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=60, env=environment)
            if ended.returncode != 0:
                return [f"prepare: ends with {ended.returncode}: {' '.join(ended.stderr.split())}"]
            seen.append({path.name: path.read_text() for path in (folder / "secrets").iterdir()})
        wanted = set(read(facts.root)["secrets"])
        found = []
        if seen[0].keys() != wanted or not all(len(secret) >= 8 for secret in seen[0].values()):
            found.append(f"prepare: makes {sorted(seen[0])}, not {sorted(wanted)}")
        if seen[0] != seen[1]:
            found.append("prepare: changes secrets that are there")
        if (folder / "secrets").stat().st_mode & 0o777 != 0o700:
            found.append("prepare: lets others into the folder of secrets")
        return found
