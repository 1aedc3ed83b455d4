"""Rules about every resource, and about those around the pods."""

import re

import kubernetes_validate

from bundles import identity
from pods import workloads_of

# 1.31 is the oldest release in which all that the manifests use is stable: pod failure policies, and budgets that let go
# of pods that are not ready, became so with it; ReadWriteOncePod with 1.29, time zones of CronJobs with 1.27.
# The other is the newest whose schemas the pinned package carries.
OLDEST, NEWEST = "1.31", "1.37"

NAMESPACE = "convoke"
# The name of a Secret is a reference; its contents are none of the repository's business.
FORBIDDEN_KINDS = ("Secret",)


def problems(bundle, facts):
    found = []
    for resource in bundle.resources:
        found += [f"{identity(resource)}: {problem}" for problem in resource_problems(resource)]
    found += selector_problems(bundle)
    found += network_problems(bundle)
    return found


def resource_problems(resource):
    if resource["kind"] in FORBIDDEN_KINDS:
        yield "values of secrets do not belong into the repository"
    if resource["kind"] != "Namespace" and resource["metadata"].get("namespace") != NAMESPACE:
        yield f"is not in the namespace `{NAMESPACE}`"
    if resource["metadata"].get("labels", {}).get("app.kubernetes.io/name") != "convoke":
        yield "lacks the label app.kubernetes.io/name: convoke"
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            yield f"does not fit Kubernetes {version}: {path}: {error.message}"


def selector_problems(bundle):
    """Services and budgets mean the pods that serve and no others; the network policy means all pods."""
    pods = [(workload, workload.labels) for workload in workloads_of(bundle)]
    serving = {workload.name for workload, _ in pods if workload.kind == "Deployment"}
    everything = {workload.name for workload, _ in pods}
    wanted = {"Service": serving, "PodDisruptionBudget": serving, "NetworkPolicy": everything, "Deployment": serving}
    for resource in bundle.of_kind(*wanted):
        labels = selector_of(resource)
        selected = {workload.name for workload, own in pods if labels.items() <= own.items()}
        if selected != wanted[resource["kind"]]:
            yield f"{identity(resource)}: selects {sorted(selected)}, not {sorted(wanted[resource['kind']])}"


def selector_of(resource):
    spec = resource["spec"]
    if resource["kind"] == "Service":
        return spec["selector"]
    return (spec["podSelector"] if resource["kind"] == "NetworkPolicy" else spec["selector"])["matchLabels"]


def network_problems(bundle):
    policies = bundle.of_kind("NetworkPolicy")
    if not policies:
        yield "there is no NetworkPolicy"
    for policy in policies:
        spec = policy["spec"]
        if sorted(spec["policyTypes"]) != ["Egress", "Ingress"]:
            yield f"{identity(policy)}: does not govern both directions"
        if any(not rule.get("from") for rule in spec.get("ingress", [])):
            yield f"{identity(policy)}: lets everybody in"
        if any(not rule.get("to") or not rule.get("ports") for rule in spec.get("egress", [])):
            yield f"{identity(policy)}: has an egress rule without addresses or ports"
        inward = ports_of(spec.get("ingress", []))
        served = {port for workload in workloads_of(bundle) for port in workload.container_ports().values()}
        if not served <= inward:
            yield f"{identity(policy)}: lets nobody reach port {sorted(served - inward)}"
        outward = ports_of(spec.get("egress", []))
        needed = {53, 443} | ({5432} if uses_postgres(bundle) else set())
        if not needed <= outward:
            yield f"{identity(policy)}: blocks the way out to port {sorted(needed - outward)}"


def ports_of(rules):
    return {port["port"] for rule in rules for port in rule.get("ports", [])}


def uses_postgres(bundle):
    texts = [text for resource in bundle.of_kind("ConfigMap") for text in resource["data"].values()]
    return any(re.search(r"^\s+postgres:", text, re.M) for text in texts)
