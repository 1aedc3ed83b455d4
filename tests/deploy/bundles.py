"""Sets of resources that an operator applies together, as plain files and as Kustomize renders them."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from os import environ

import yaml

OLDEST_KUBECTL = (1, 27)
KUBERNETES = "deploy/kubernetes"


@dataclass(frozen=True)
class Bundle:
    name: str
    resources: list

    def of_kind(self, *kinds):
        return [resource for resource in self.resources if resource["kind"] in kinds]


@dataclass(frozen=True)
class Renderer:
    description: str
    # None: there is no kubectl.
    kubectl: str | None

    def render(self, folder):
        command = [self.kubectl, "kustomize", str(folder)]
        rendered = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if rendered.returncode != 0:
            raise SystemExit(f"{folder} cannot be rendered: {rendered.stderr.strip()}")
        return list(yaml.safe_load_all(rendered.stdout))


def find_renderer():
    kubectl = shutil.which("kubectl")
    found = "no kubectl is installed"
    if kubectl:
        version = subprocess.run([kubectl, "version", "--client", "--output=json"], capture_output=True, text=True, timeout=60)
        client = json.loads(version.stdout)["clientVersion"]
        numbers = (int(client["major"]), int(client["minor"].rstrip("+")))
        found = f"kubectl {client['gitVersion']}"
        if numbers >= OLDEST_KUBECTL:
            return Renderer(f"overlays are rendered by {found}", kubectl)
        found += " is too old"
    if environ.get("CONVOKE_REQUIRE_KUBECTL"):
        raise SystemExit(f"{found}; install kubectl {OLDEST_KUBECTL[0]}.{OLDEST_KUBECTL[1]} or later")
    return Renderer(f"NOT RENDERED: {found}, so overlays are checked piece by piece", None)


def load(root, renderer):
    """The plain base, what each overlay makes of it, and each Job beside what it needs."""
    folder = root / KUBERNETES
    plain = Bundle("base", read_all(sorted((folder / "base/manifests").glob("*.yaml"))))
    rendered = [overlaid(overlay, plain, renderer) for overlay in overlays(folder)]
    jobs = [job(path, plain) for path in sorted(folder.glob("jobs/*.yaml"))]
    return [plain, *(bundle for bundle in rendered if bundle), *jobs]


def overlays(folder):
    return sorted(path.parent for path in folder.glob("overlays/*/kustomization.yaml"))


def overlaid(overlay, plain, renderer):
    """The overlay's result; without a renderer the base with the overlay's own whole resources, if it has any."""
    name = f"overlays/{overlay.name}"
    if renderer.kubectl:
        return Bundle(name, renderer.render(overlay))
    listed = read_one(overlay / "kustomization.yaml")["resources"]
    own = read_all(overlay / name for name in listed if name.endswith(".yaml"))
    return Bundle(name, plain.resources + own) if own else None


WHAT_SERVES = ("Deployment", "Service", "PodDisruptionBudget")
# How the name of a Job's file ends that is meant for state in PostgreSQL.
ON_POSTGRES = "-postgres"


def job(path, plain):
    """A Job with everything that is there when it is created, except what serves."""
    around = [resource for resource in plain.resources if resource["kind"] not in WHAT_SERVES]
    if path.stem.endswith(ON_POSTGRES):
        around = on_postgres(around, path.parent.parent / "overlays/postgres/configuration.yaml")
    return Bundle(f"jobs/{path.stem}", around + read_all([path]))


def on_postgres(resources, patch):
    """What the overlay makes of a Job's surroundings, done here because no overlay holds the Jobs."""
    kept = [resource for resource in resources if resource["kind"] != "PersistentVolumeClaim"]
    patched = by_identity(read_all([patch]))
    return [{**resource, "data": resource["data"] | patched[identity(resource)]["data"]} if identity(resource) in patched
            else resource for resource in kept]


def file_problems(root, renderer):
    """Files that nothing would apply, patches without a target, and a base that differs from its plain files."""
    folder = root / KUBERNETES
    problems = []
    for customised in [folder / "base", *overlays(folder)]:
        problems += listing_problems(customised, folder)
    plain = read_all(sorted((folder / "base/manifests").glob("*.yaml")))
    if renderer.kubectl and by_identity(renderer.render(folder / "base")) != by_identity(plain):
        problems.append("base: `kubectl apply -k` and `kubectl apply -f` would not give the same")
    return problems


def listing_problems(customised, folder):
    file = read_one(customised / "kustomization.yaml")
    patches = [patch["path"] for patch in file.get("patches", []) if "path" in patch]
    listed = {name for name in [*file["resources"], *patches] if name.endswith(".yaml")}
    present = {str(path.relative_to(customised)) for path in customised.rglob("*.yaml")} - {"kustomization.yaml"}
    place = customised.relative_to(folder)
    problems = [f"{place}: {name} is in no list" for name in sorted(present - listed)]
    problems += [f"{place}: {name} is listed and missing" for name in sorted(listed - present)]
    known = by_identity(read_all(sorted((folder / "base/manifests").glob("*.yaml"))))
    for name in sorted(set(patches) & present):
        for target in by_identity(read_all([customised / name])).keys() - known.keys():
            problems.append(f"{place}: {name} patches {target}, which the base does not have")
    return problems


def by_identity(resources):
    return {identity(resource): resource for resource in resources}


def identity(resource):
    metadata = resource["metadata"]
    return f"{resource['kind']} {metadata.get('name') or metadata.get('generateName')}"


def read_all(paths):
    return [resource for path in paths for resource in yaml.safe_load_all(path.read_text()) if resource]


def read_one(path):
    return yaml.safe_load(path.read_text())
