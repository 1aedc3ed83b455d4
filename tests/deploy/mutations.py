"""Copies with one mistake each: every one of them has to be noticed, and by the check that is meant for it."""

import copy

import compose
import configuration
import image
import manifests
import workloads


def unnoticed(subjects, known, facts, scratch):
    """The mistakes that no check speaks of in the words expected; what was `known` before does not count."""
    missed = []
    for name, mistake, change, expected in possible(subjects):
        changed = copy.deepcopy(subjects.bundles[name])
        change(changed)
        found = manifests.problems(changed, facts) + workloads.problems(changed, facts)
        if not noticed(found, known[name], expected):
            # Running Convoke takes longest, so it is asked only when nothing else has noticed.
            found += configuration.problems(changed, facts, scratch)
        missed += judged(f"{name}: {mistake}", found, known[name], expected)
    for mistake, change, expected in IMAGE:
        found = image.problems(change(subjects.recipe), facts, scratch)
        missed += judged(f"image: {mistake}", found, known["image"], expected)
    for mistake, change, expected in COMPOSE:
        changed = copy.deepcopy(subjects.compose)
        change(changed["services"])
        missed += judged(f"compose: {mistake}", compose.problems(changed, facts, scratch), known["compose"], expected)
    return missed


def noticed(found, known, expected):
    return any(expected in problem for problem in found if problem not in known)


def judged(mistake, found, known, expected):
    if noticed(found, known, expected):
        return []
    return [f"{mistake}: expected `{expected}`, found {[problem for problem in found if problem not in known] or 'nothing'}"]


def count(subjects):
    return len(possible(subjects)) + len(IMAGE) + len(COMPOSE)


def possible(subjects):
    """Without a renderer there is no result of the overlay that a mistake could be made in."""
    return [mutation for mutation in KUBERNETES if mutation[0] in subjects.bundles]


def resource(bundle, kind, name=None):
    return next(one for one in bundle.of_kind(kind) if name in (None, one["metadata"].get("name")))


def pod(bundle, kind="Deployment"):
    spec = resource(bundle, kind)["spec"]
    return (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]["spec"]


def container(bundle, kind="Deployment"):
    return pod(bundle, kind)["containers"][0]


def job_rules_of(bundle, kind):
    spec = resource(bundle, kind)["spec"]
    return (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["podFailurePolicy"]["rules"]


def rewrite(config_map, key, old, new):
    def change(bundle):
        data = resource(bundle, "ConfigMap", config_map)["data"]
        assert old in data[key], f"{key} no longer holds `{old}`"
        data[key] = data[key].replace(old, new)
    return change


def put(mapping_of, key, value):
    return lambda bundle: mapping_of(bundle).__setitem__(key, value)


def drop(mapping_of, key):
    return lambda bundle: mapping_of(bundle).__delitem__(key)


def spec(kind):
    return lambda bundle: resource(bundle, kind)["spec"]


def security(bundle):
    return container(bundle)["securityContext"]


def mount_elsewhere(bundle):
    container(bundle)["volumeMounts"][1]["subPath"] = "conections.yaml"


def let_everybody_in(bundle):
    del resource(bundle, "NetworkPolicy")["spec"]["ingress"][0]["from"]


def block_postgres(bundle):
    resource(bundle, "NetworkPolicy")["spec"]["egress"].pop()


def add_secret(bundle):
    bundle.resources.append({"apiVersion": "v1", "kind": "Secret", "stringData": {"password": "hunter2"},
                             "metadata": {"name": "convoke-secrets", "namespace": "convoke", "labels": {}}})


def select_jobs_too(bundle):
    resource(bundle, "Service")["spec"]["selector"] = {"app.kubernetes.io/name": "someone-else"}


def forget_code(code):
    def change(bundle):
        for rule in job_rules_of(bundle, "CronJob"):
            values = rule.get("onExitCodes", {}).get("values", [])
            if code in values:
                values.remove(code)
    return change


def count_disruptions(bundle):
    rules = job_rules_of(bundle, "Job")
    rules.append(rules.pop(1))


def add_claim(bundle):
    volume = next(volume for volume in pod(bundle)["volumes"] if volume["name"] == "state")
    del volume["emptyDir"]
    volume["persistentVolumeClaim"] = {"claimName": "convoke-state"}


CRON, POSTGRES = "overlays/cronjob", "overlays/postgres"

# Bundle, mistake, how it is made, what has to be said about it.
KUBERNETES = [
    ("base", "a misspelt field", put(pod, "terminationGracePeriod", 90), "does not fit Kubernetes"),
    ("base", "a number as text", put(spec("Deployment"), "replicas", "one"), "does not fit Kubernetes"),
    ("base", "root is allowed", put(lambda bundle: pod(bundle)["securityContext"], "runAsNonRoot", False), "runAsNonRoot"),
    ("base", "a writable root file system", drop(security, "readOnlyRootFilesystem"), "readOnlyRootFilesystem"),
    ("base", "secrets that cannot be read", drop(lambda bundle: pod(bundle)["securityContext"], "fsGroup"), "fsGroup"),
    ("base", "a capability", put(security, "capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}), "keeps capabilities"),
    ("base", "a token", put(pod, "automountServiceAccountToken", True), "token of the Kubernetes API"),
    ("base", "the tag latest", put(container, "image", "registry.example.com/convoke:latest"), "without a fixed tag"),
    ("base", "an old version", put(container, "image", "registry.example.com/convoke:0.0.9"), "not version"),
    ("base", "no limits", drop(lambda bundle: container(bundle)["resources"], "limits"), "sets no resources"),
    ("base", "too little memory", rewrite("convoke-config", "convoke.yaml", "concurrency: 2", "concurrency: 8"),
     "8 runs may need"),
    ("base", "no readiness", drop(container, "readinessProbe"), "readinessProbe does not ask"),
    ("base", "killed while draining", put(pod, "terminationGracePeriodSeconds", 30), "is killed after 30 s"),
    ("base", "two writers of SQLite", put(spec("Deployment"), "replicas", 2), "one replica"),
    ("base", "old and new beside each other", put(spec("Deployment"), "strategy", {"type": "RollingUpdate"}), "Recreate"),
    ("base", "a volume for many pods", put(spec("PersistentVolumeClaim"), "accessModes", ["ReadWriteOnce"]),
     "ReadWriteOncePod"),
    ("base", "nodes cannot be drained", put(spec("PodDisruptionBudget"), "maxUnavailable", 0), "draining of nodes"),
    ("base", "everybody is let in", let_everybody_in, "lets everybody in"),
    ("base", "a value of a secret", add_secret, "do not belong into the repository"),
    ("base", "a service without pods", select_jobs_too, "selects []"),
    ("base", "listening on loopback", rewrite("convoke-config", "convoke.yaml", "0.0.0.0", "127.0.0.1"), "listens on"),
    ("base", "an unknown key", rewrite("convoke-config", "convoke.yaml", "memory_limit", "memory_limits"), "memory_limits"),
    ("base", "a connection that is not there", rewrite("convoke-syncs", "newsletter.yaml", "connection: lake", "connection: sea"),
     "`sea`"),
    ("base", "a time zone that does not exist", rewrite("convoke-syncs", "newsletter.yaml", "Europe/Berlin", "Europe/Atlantis"),
     "Atlantis"),
    ("base", "a secret that is not mounted", rewrite("convoke-config", "connections.yaml", "/var/run/secrets/convoke/lake-a",
                                                      "/srv/lake-a"), "which no Secret is mounted for"),
    ("base", "a secret that nobody knows of", rewrite("convoke-config", "connections.yaml", "lake-access-key-id", "lake-id"),
     "does not tell to put"),
    ("base", "a key that the map does not have", mount_elsewhere, "does not hold"),
    ("base", "an unknown option", put(container, "args", ["serve", "--config", "/etc/convoke", "--forever"]), "--forever"),
    (CRON, "restarts in place", put(lambda bundle: pod(bundle, "CronJob"), "restartPolicy", "OnFailure"), "restartPolicy"),
    (CRON, "a guard that is tried again", forget_code(4), "treats exit codes"),
    (CRON, "a code that nobody decided on", forget_code(6), "treats exit codes"),
    (CRON, "a sync beside itself", put(spec("CronJob"), "concurrencyPolicy", "Allow"), "concurrencyPolicy"),
    (CRON, "a time zone left open", drop(spec("CronJob"), "timeZone"), "timeZone"),
    (CRON, "a sync that is not there", put(lambda bundle: container(bundle, "CronJob"), "args",
                                           ["run", "nobody", "--config", "/etc/convoke"]), "is no sync"),
    ("jobs/backfill", "a lost node counts", count_disruptions, "DisruptionTarget before Count"),
    ("jobs/backfill", "no pause between request and kill", put(lambda bundle: pod(bundle, "Job"),
                                                               "terminationGracePeriodSeconds", 60), "is killed after 60 s"),
    ("jobs/backfill-postgres", "no way to the database", block_postgres, "port [5432]"),
    (POSTGRES, "one replica", put(spec("Deployment"), "replicas", 1), "neither replicated nor rolled over"),
    (POSTGRES, "a budget that blocks", put(spec("PodDisruptionBudget"), "minAvailable", 2), "disruption budget that keeps 2"),
    (POSTGRES, "a volume that only one can mount", add_claim, "still a volume of its own"),
    (POSTGRES, "a ledger on the pod's disk", rewrite("convoke-config", "convoke.yaml", "s3://example-convoke/ledger",
                                                     "file:///var/lib/convoke/ledger"), "other replicas cannot read"),
    (POSTGRES, "all on one node", drop(pod, "topologySpreadConstraints"), "on one node"),
]

IMAGE = [
    ("an open base", lambda recipe: recipe.with_dockerfile("cc-debian12:nonroot", "cc-debian12:latest"), "is not pinned"),
    ("another Debian", lambda recipe: recipe.with_dockerfile("1.95.0-bookworm", "1.95.0-trixie"), "glibc"),
    ("an old toolchain", lambda recipe: recipe.with_dockerfile("rust:1.95.0", "rust:1.80.0"), "is no Rust toolchain"),
    ("root", lambda recipe: recipe.with_dockerfile("USER 65532:65532", "USER root"), "runs as `root`"),
    ("a build of its own", lambda recipe: recipe.with_dockerfile(" --locked", ""), "--locked --release"),
    ("a download", lambda recipe: recipe.with_dockerfile("COPY LICENSE", "ADD https://example.com/LICENSE"), "uses ADD"),
    ("a shell", lambda recipe: recipe.with_dockerfile('["/usr/local/bin/convoke"]', "convoke"), "as lists"),
    ("another signal", lambda recipe: recipe.with_dockerfile("SIGTERM", "SIGKILL"), "is not stopped by SIGTERM"),
    ("sources that are left out", lambda recipe: recipe.without_ignore_line("!config"), "leaves it out"),
    ("embedded files left out", lambda recipe: recipe.with_dockerfile("COPY config config\n", ""), "embeds"),
    ("everything is sent", lambda recipe: recipe.without_ignore_line("*"), "leaving everything out"),
]

COMPOSE = [
    ("a misspelt key", lambda services: services["store"].update(comand=["store"]), "Compose Specification"),
    ("a writable root file system", lambda services: services["store"].pop("read_only"), "read_only"),
    ("capabilities", lambda services: services["state"].pop("cap_drop"), "keeps capabilities"),
    ("an open port", lambda services: services["convoke"].update(ports=["8080:8080"]), "to the whole network"),
    ("a secret in the environment", lambda services: services["state"]["environment"].update(POSTGRES_PASSWORD="x"),
     "POSTGRES_PASSWORD"),
    ("a secret that is not mounted", lambda services: services["convoke"]["secrets"].remove("store-client-id"),
     "is no secret of the service"),
    ("killed while draining", lambda services: services["convoke"].pop("stop_grace_period"), "stop_grace_period"),
    ("no waiting for the database", lambda services: services["convoke"]["depends_on"].pop("state"), "depends_on"),
]
