"""Workloads and their pods, whatever kind of resource they are in."""

from dataclasses import dataclass

import yaml

from bundles import identity


@dataclass(frozen=True)
class Workload:
    kind: str
    name: str
    # `spec` of the Deployment or Job; of a CronJob the one of its Jobs.
    spec: dict
    pod: dict
    labels: dict

    @property
    def container(self):
        return next(container for container in self.pod["containers"] if container["name"] == "convoke")

    def container_ports(self):
        return {port.get("name"): port["containerPort"] for port in self.container.get("ports", [])}

    def volume(self, name):
        return next((volume for volume in self.pod.get("volumes", []) if volume["name"] == name), None)

    def mounts(self):
        """Each mount of the container with its volume, none for one that does not exist."""
        return [(mount, self.volume(mount["name"])) for mount in self.container.get("volumeMounts", [])]

    def argument_after(self, option):
        arguments = self.container["args"]
        return arguments[arguments.index(option) + 1] if option in arguments else None


def workloads_of(bundle):
    return [workload_of(resource) for resource in bundle.of_kind("Deployment", "Job", "CronJob")]


def workload_of(resource):
    spec = resource["spec"]["jobTemplate"]["spec"] if resource["kind"] == "CronJob" else resource["spec"]
    template = spec["template"]
    return Workload(resource["kind"], identity(resource), spec, template["spec"], template["metadata"]["labels"])


def config_texts(bundle, workload):
    """What the pod would find below its configuration directory: path to (text, name of the ConfigMap)."""
    maps = {resource["metadata"]["name"]: resource["data"] for resource in bundle.of_kind("ConfigMap")}
    texts = {}
    for mount, volume in workload.mounts():
        if not volume or "configMap" not in volume:
            continue
        data = maps.get(volume["configMap"]["name"], {})
        if "subPath" in mount:
            if mount["subPath"] in data:
                texts[mount["mountPath"]] = data[mount["subPath"]]
        else:
            texts.update({f"{mount['mountPath']}/{key}": text for key, text in data.items()})
    return texts


def settings_of(bundle, workload):
    """`convoke.yaml` as the pod would find it."""
    folder = workload.argument_after("--config")
    return yaml.safe_load(config_texts(bundle, workload).get(f"{folder}/convoke.yaml", "")) or {}
