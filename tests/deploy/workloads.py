"""Rules about pods, and about what starts and ends them."""

from facts import seconds, size
from pods import settings_of, workloads_of

# What a Job does with each way a run can end. A code that is not listed here fails the check: decide what it means.
ACTIONS = {
    "Failed": "Count",
    "Usage": "FailJob",
    # Not tried again: a further run of an unchanged source would end well and hide what was refused.
    "Partial": "FailJob",
    "Stopped": "FailJob",
    "Unbalanced": "FailJob",
    "WaitingForQuota": "Count",
    "Interrupted": "Count",
    "Terminated": "Count",
}

# Seconds between the end of draining and being killed: to write down what is in doubt.
MARGIN = 10
# What a process needs beside the memory of its runs.
BASE_MEMORY = 256 * 2**20


def problems(bundle, facts):
    found = []
    for workload in workloads_of(bundle):
        for rule in (pod_rules, container_rules, image_rules, time_rules, memory_rules):
            found += [f"{workload.name}: {problem}" for problem in rule(bundle, workload, facts)]
        kind_rules = deployment_rules if workload.kind == "Deployment" else job_rules
        found += [f"{workload.name}: {problem}" for problem in kind_rules(bundle, workload, facts)]
    for cron_job in bundle.of_kind("CronJob"):
        found += [f"CronJob {cron_job['metadata']['name']}: {problem}" for problem in cron_job_rules(cron_job["spec"])]
    return found


def pod_rules(_bundle, workload, _facts):
    pod = workload.pod
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "does not demand a user that is not root (runAsNonRoot, runAsUser)"
    if security.get("fsGroup") != security.get("runAsGroup"):
        yield "cannot read its secrets or write its state (fsGroup)"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "carries a token of the Kubernetes API"
    for option in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(option):
            yield f"shares the node's {option}"
    for volume in pod.get("volumes", []):
        if "hostPath" in volume:
            yield f"mounts a path of the node as `{volume['name']}`"


def container_rules(_bundle, workload, _facts):
    for container in workload.pod["containers"] + workload.pod.get("initContainers", []):
        security = container.get("securityContext", {})
        if security.get("readOnlyRootFilesystem") is not True:
            yield "has a root file system that can be written (readOnlyRootFilesystem)"
        if security.get("allowPrivilegeEscalation") is not False:
            yield "may gain privileges (allowPrivilegeEscalation)"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield "keeps capabilities"
        if any("value" in variable and "SECRET" in variable["name"].upper() for variable in container.get("env", [])):
            yield "has a secret in its environment"
    writable = {mount["mountPath"] for mount, volume in workload.mounts() if volume and not mount.get("readOnly")}
    if writable != {"/tmp", "/var/lib/convoke"}:
        yield f"can write {sorted(writable)}, not /tmp and /var/lib/convoke alone"
    for mount, volume in workload.mounts():
        if volume is None:
            yield f"mounts `{mount['name']}`, which is no volume"


def image_rules(_bundle, workload, facts):
    image = workload.container["image"]
    _, _, tag = image.rpartition(":")
    if "/" in tag or tag == image or tag == "latest":
        yield f"uses `{image}`, an image without a fixed tag"
    elif tag != facts.version:
        yield f"uses `{image}`, not version {facts.version}"


def time_rules(bundle, workload, facts):
    grace = workload.pod.get("terminationGracePeriodSeconds", 30)
    drain = facts.request_timeout
    if workload.kind == "Deployment":
        drain = seconds(settings_of(bundle, workload).get("serve", {}).get("drain", "25s"))
        if drain < facts.request_timeout:
            yield f"drains for {drain:.0f} s, less than a request may take ({facts.request_timeout:.0f} s)"
    if grace < drain + MARGIN:
        yield f"is killed after {grace} s, though draining takes up to {drain:.0f} s and needs {MARGIN} s more"


def memory_rules(bundle, workload, _facts):
    resources = workload.container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    absent = {"cpu", "memory", "ephemeral-storage"} - requests.keys() | {"memory", "ephemeral-storage"} - limits.keys()
    if absent:
        yield f"sets no resources for {sorted(absent)}"
        return
    settings = settings_of(bundle, workload)
    runs = settings.get("serve", {}).get("concurrency", 4) if workload.kind == "Deployment" else 1
    needed = runs * size(settings.get("memory_limit", "512MB")) + BASE_MEMORY
    if size(limits["memory"]) < needed:
        yield f"is limited to {limits['memory']}, though {runs} runs may need {needed >> 20} Mi"
    if "threads" not in settings:
        yield "has no limit of CPU, so `threads` in convoke.yaml has to say how many it uses"


def deployment_rules(bundle, workload, _facts):
    settings = settings_of(bundle, workload)
    yield from probe_rules(workload, settings)
    budgets = [budget["spec"] for budget in bundle.of_kind("PodDisruptionBudget")]
    if len(budgets) != 1:
        yield f"has {len(budgets)} disruption budgets, not one"
        return
    if "postgres" in settings.get("state", {}):
        yield from replicated_rules(bundle, workload, settings, budgets[0])
    else:
        yield from single_rules(bundle, workload, budgets[0])


def probe_rules(workload, settings):
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    ports = workload.container_ports()
    for probe, path in paths.items():
        request = workload.container.get(probe, {}).get("httpGet", {})
        if request.get("path") != path or request.get("port") not in ports:
            yield f"{probe} does not ask for {path} on a port of the container"
    listen = settings.get("serve", {}).get("listen", "127.0.0.1:8080")
    host, _, port = listen.rpartition(":")
    if host not in ("0.0.0.0", "[::]") or int(port) not in ports.values():
        yield f"listens on {listen}, where nothing outside of the container reaches it at {sorted(ports.values())}"


def single_rules(bundle, workload, budget):
    """State in SQLite: never two at a time."""
    if workload.spec.get("replicas") != 1 or workload.spec.get("strategy", {}).get("type") != "Recreate":
        yield "has its state in SQLite and has to be one replica with the strategy Recreate"
    yield from claim_rules(bundle, workload)
    if budget.get("maxUnavailable") != 1:
        yield "is one replica whose disruption budget would hold up the draining of nodes"


def claim_rules(bundle, workload):
    claimed = (workload.volume("state") or {}).get("persistentVolumeClaim", {}).get("claimName")
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in bundle.of_kind("PersistentVolumeClaim")}
    if claims.get(claimed, {}).get("accessModes") != ["ReadWriteOncePod"]:
        yield "has its state in SQLite and no volume that one pod alone may mount (ReadWriteOncePod)"


def replicated_rules(bundle, workload, settings, budget):
    replicas = workload.spec.get("replicas", 1)
    if replicas < 2 or workload.spec.get("strategy", {}).get("type") != "RollingUpdate":
        yield "has its state in PostgreSQL and is neither replicated nor rolled over"
    if not 1 <= budget.get("minAvailable", 0) < replicas:
        yield f"has {replicas} replicas and a disruption budget that keeps {budget.get('minAvailable', 'none')}"
    if not workload.pod.get("topologySpreadConstraints"):
        yield "has replicas that may all stand on one node"
    yield from scratch_rules(bundle, workload, settings)


def scratch_rules(bundle, workload, settings):
    """State in PostgreSQL: nothing that lasts may be left on the pod's own disk."""
    if "emptyDir" not in (workload.volume("state") or {}) or bundle.of_kind("PersistentVolumeClaim"):
        yield "has its state in PostgreSQL and still a volume of its own"
    if not settings["state"].get("ledger", {}).get("url", "").startswith("s3://"):
        yield "keeps its ledger where other replicas cannot read it"


def job_rules(bundle, workload, facts):
    if workload.pod.get("restartPolicy") != "Never":
        yield "restarts containers in place, so that its failure policy does not count (restartPolicy)"
    if not 1 <= workload.spec.get("backoffLimit", 6) <= 20:
        yield "does not bound how often it is tried again (backoffLimit)"
    yield from failure_policy_rules(workload, facts)
    settings = settings_of(bundle, workload)
    if "postgres" in settings.get("state", {}):
        yield from scratch_rules(bundle, workload, settings)
    else:
        yield from claim_rules(bundle, workload)


def failure_policy_rules(workload, facts):
    policy = workload.spec.get("podFailurePolicy", {}).get("rules", [])
    named = {}
    for rule in policy:
        codes = rule.get("onExitCodes", {})
        if codes and (codes.get("containerName") != "convoke" or codes.get("operator") != "In"):
            yield "has a failure rule that does not list codes of the container `convoke`"
        for code in codes.get("values", []):
            named.setdefault(code, rule["action"])
    wanted = {code: ACTIONS.get(name, "no decision") for name, code in facts.exit_codes.items() if name != "Success"}
    if named != wanted:
        yield f"treats exit codes as {named}, not as {wanted} (podFailurePolicy)"
    actions = [rule["action"] for rule in policy]
    disrupted = [rule["action"] for rule in policy for condition in rule.get("onPodConditions", [])
                 if condition["type"] == "DisruptionTarget"]
    if disrupted != ["Ignore"] or actions.index("Ignore") > actions.index("Count"):
        yield "counts the loss of a node as a failure (podFailurePolicy, DisruptionTarget before Count)"


def cron_job_rules(spec):
    if spec.get("concurrencyPolicy") != "Forbid":
        yield "may start a sync beside itself (concurrencyPolicy)"
    if not spec.get("timeZone"):
        yield "leaves its time zone to the cluster (timeZone)"
    if not spec.get("startingDeadlineSeconds"):
        yield "does not say how late it may start (startingDeadlineSeconds)"
