"""A job as a Kubernetes manifest: a RayJob (ray.io/v1), and its configuration as a ConfigMap.

For clusters on which KubeRay makes a Ray cluster for each job, and Kueue has it wait its turn. The
code is the image's; the configuration is mounted where the driver runs. No secret stands in it: the
storage's credentials are named, and Kubernetes puts them into the head's environment alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata as installed
from typing import TYPE_CHECKING, Any

import yaml

from sweeps.jobs.errors import JobError
from sweeps.jobs.job import checked_id, entrypoint

if TYPE_CHECKING:
    from sweeps.config import SweepConfig
    from sweeps.config_sections import ResourceSettings

MOUNT = "/etc/tracerank"
"""Where the driver finds its configuration."""

CONFIGURATION = "sweep.yaml"

_HEAD_CPUS = "1"
"""Of the head: for the driver, beside Ray's own processes."""

_KEPT_SECONDS = 300
"""How long a cluster stays after its job, for those who look at what Ray logged there."""

_GIB = 2**30
_LONGEST_NAME = 47
"""Characters: KubeRay appends to a RayJob's name, and a service's may have 63."""

_LARGEST_CONFIGURATION = 900_000
"""Bytes: a ConfigMap takes 1 MiB."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([KMGT]i|[kMGT])?")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/@-]*", re.ASCII)


@dataclass(frozen=True)
class ManifestOptions:
    """What a manifest says beside the job itself. Fields are called as the command's options are,
    so that messages name what was typed.

    ``image`` holds tracerank and whatever modules the configuration names. There are ``pods`` for
    trainings, each with room for ``per_pod`` at once; with ``max_pods`` above that Ray's autoscaler
    adds more while there is work. ``secret`` holds the variables of the storage's credentials,
    ``claim`` is the volume of a storage that is a folder. Without ``token`` the cluster asks for
    none. ``retries`` make a new cluster for a job that failed, which goes on from what is stored;
    ``deadline`` is in seconds. ``ray_version`` is the image's, where it isn't the one installed
    here.
    """

    image: str
    namespace: str | None = None
    pods: int = 2
    max_pods: int | None = None
    per_pod: int = 1
    head_memory: str = "4Gi"
    queue: str | None = None
    service_account: str | None = None
    secret: str | None = None
    claim: str | None = None
    token: bool = True
    retries: int = 0
    deadline: int | None = None
    ray_version: str | None = None


def manifest(
    settings: SweepConfig,
    options: ManifestOptions,
    *,
    job_id: str,
    attempt: str,
    storage: str,
    metadata: Mapping[str, str],
) -> str:
    """The YAML of both, for ``kubectl apply``.

    ``metadata`` is what Ray keeps with the job, as of a job that is submitted. Raises JobError for
    an option that Kubernetes, KubeRay or Kueue would refuse.
    """
    checked_id(job_id)
    _check(options, storage, metadata)
    text = settings.dump()
    if len(text.encode()) > _LARGEST_CONFIGURATION:
        raise JobError(
            f"the configuration has {len(text.encode())} bytes; a ConfigMap holds at most "
            f"{_LARGEST_CONFIGURATION}"
        )
    name = resource_name(job_id)
    common: dict[str, Any] = {"name": name}
    if options.namespace:
        common["namespace"] = options.namespace
    labels = {"app.kubernetes.io/name": "tracerank", "app.kubernetes.io/instance": name}
    # Kueue itself suspends what has its label, until it is admitted.
    queued = {"kueue.x-k8s.io/queue-name": options.queue} if options.queue else {}
    documents = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": common | {"labels": labels},
            "data": {CONFIGURATION: text},
        },
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": common
            | {"labels": labels | queued, "annotations": {"tracerank/id": job_id}},
            "spec": {
                # Modules that the configuration names are on the PYTHONPATH of the image.
                "entrypoint": entrypoint(job_id, attempt, storage, f"{MOUNT}/{CONFIGURATION}", ()),
                "jobId": attempt,
                "metadata": dict(metadata),
                **_life(options),
                "rayClusterSpec": _cluster(settings.resources, options, name, storage),
            },
        },
    ]
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True
    )


def resource_name(job_id: str) -> str:
    """A name for Kubernetes made from an id, the same each time, and another for another id.

    An id that is a name as it is stays; else it is put into small letters, digits and hyphens and
    what it was goes into eight digits at the end.
    """
    name = re.sub(r"[^a-z0-9]+", "-", job_id.lower()).strip("-")
    name = name if name[:1].isalpha() else f"job-{name}"
    if name == job_id and len(name) <= _LONGEST_NAME:
        return name
    digits = hashlib.sha256(job_id.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-')}-{digits}"


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Text of several lines as such: people read it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _life(options: ManifestOptions) -> dict[str, Any]:
    """The fields of a RayJob's spec that say when it ends, and what follows."""
    life: dict[str, Any] = {
        # Kueue admits no other, and a cluster that idles is nobody's wish.
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEPT_SECONDS,
        "backoffLimit": options.retries,
    }
    if options.deadline is not None:
        life["activeDeadlineSeconds"] = options.deadline
    return life


def _cluster(
    needs: ResourceSettings, options: ManifestOptions, name: str, storage: str
) -> dict[str, Any]:
    head = _container("head", options, _HEAD_CPUS, options.head_memory)
    head["volumeMounts"] = [{"name": "configuration", "mountPath": MOUNT, "readOnly": True}]
    volumes: list[dict[str, Any]] = [{"name": "configuration", "configMap": {"name": name}}]
    if options.secret:
        head["envFrom"] = [{"secretRef": {"name": options.secret}}]
    if options.claim:
        head["volumeMounts"].append({"name": "storage", "mountPath": storage})
        claim = {"claimName": options.claim}
        volumes.append({"name": "storage", "persistentVolumeClaim": claim})
    most = options.max_pods or options.pods
    grows = most > options.pods
    cluster: dict[str, Any] = {"rayVersion": options.ray_version or installed.version("ray")}
    if options.token:
        # KubeRay makes one, and the secret that holds it.
        cluster["authOptions"] = {"mode": "token"}
    if grows:
        cluster["enableInTreeAutoscaling"] = True
    cluster["headGroupSpec"] = {
        # The driver needs no place of Ray's; without CPUs no training comes here.
        "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},
        "template": _pod(head, options, volumes, may_ask_kubernetes=grows),
    }
    cluster["workerGroupSpecs"] = [
        {
            "groupName": "trainings",
            "replicas": options.pods,
            "minReplicas": options.pods,
            "maxReplicas": most,
            "rayStartParams": _worker_parameters(needs, options),
            "template": _pod(_worker(needs, options), options, []),
        }
    ]
    return cluster


def _worker_parameters(needs: ResourceSettings, options: ManifestOptions) -> dict[str, str]:
    parameters = {"num-cpus": str(needs.cpus * options.per_pod)}
    # With a colon, Ray finds it out itself.
    own = {name: each * options.per_pod for name, each in needs.custom.items() if ":" not in name}
    if own:
        # KubeRay hands it to a shell, quotes included.
        parameters["resources"] = shlex.quote(json.dumps(own))
    return parameters


def _worker(needs: ResourceSettings, options: ManifestOptions) -> dict[str, Any]:
    # One GiB each where nothing is said, and one for Ray's own processes.
    size = options.per_pod * (needs.memory or _GIB) + _GIB
    gpus = math.ceil(needs.gpus * options.per_pod)
    cpus = str(needs.cpus * options.per_pod)
    return _container("worker", options, cpus, f"{math.ceil(size / 2**20)}Mi", gpus)


def _container(
    name: str, options: ManifestOptions, cpus: str, memory: str, gpus: int = 0
) -> dict[str, Any]:
    amounts = {"cpu": cpus, "memory": memory} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {
        "name": name,
        "image": options.image,
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        # Both the same: Kueue counts the requests, the kernel keeps to the limits.
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _pod(
    container: dict[str, Any],
    options: ManifestOptions,
    volumes: list[dict[str, Any]],
    *,
    may_ask_kubernetes: bool = False,
) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [container]}
    if volumes:
        spec["volumes"] = volumes
    if any("persistentVolumeClaim" in volume for volume in volumes):
        # The image's user, who shall write there.
        spec["securityContext"] = {"fsGroup": 1000}
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    elif not may_ask_kubernetes:
        # A job that isn't given an account has no business with Kubernetes.
        spec["automountServiceAccountToken"] = False
    return {"spec": spec}


def _check(options: ManifestOptions, storage: str, metadata: Mapping[str, str]) -> None:
    if not _IMAGE.fullmatch(options.image):
        raise JobError(f"image: got {options.image!r}; must be one such as registry/name:tag")
    for key, rule, pattern in (
        ("namespace", "63 small letters, digits and hyphens at most", _LABEL),
        ("queue", "63 small letters, digits and hyphens at most", _LABEL),
        ("service_account", "small letters, digits, hyphens and dots", _SUBDOMAIN),
        ("secret", "small letters, digits, hyphens and dots", _SUBDOMAIN),
        ("claim", "small letters, digits, hyphens and dots", _SUBDOMAIN),
    ):
        value = getattr(options, key)
        if value is not None and not pattern.fullmatch(value):
            raise JobError(f"{key}: got {value!r}; must be a name of Kubernetes ({rule})")
    for key, least in (
        ("pods", 1),
        ("max_pods", options.pods),
        ("per_pod", 1),
        ("retries", 0),
        ("deadline", 1),
    ):
        value = getattr(options, key)
        if value is not None and not least <= value < 2**31:
            raise JobError(f"{key}: got {value}; must be at least {least}")
    if not _QUANTITY.fullmatch(options.head_memory):
        raise JobError(f"head_memory: got {options.head_memory!r}; must be such as 4Gi or 500Mi")
    if options.ray_version is not None and not _VERSION.fullmatch(options.ray_version):
        raise JobError(f"ray_version: got {options.ray_version!r}; must be such as 2.60.0")
    if options.queue and (options.max_pods or 0) > options.pods:
        raise JobError(
            f"max_pods: got {options.max_pods}; with a queue it must be that of pods "
            f"({options.pods}), as Kueue admits no cluster that grows"
        )
    folder = "://" not in storage
    if folder and not (storage.startswith("/") and options.claim):
        raise JobError(
            f"storage: got {storage!r}, a folder, which is lost with its pod: give a URI "
            "(s3://bucket/folder), or the full path and the claim of its volume"
        )
    if options.claim and not folder:
        raise JobError(f"claim: is for a storage that is a folder, and it is {storage!r}")
    # What KubeRay writes between double quotes of a shell.
    for text in (storage, *metadata.values()):
        if re.search(r"[$`\\\"\n]", text):
            raise JobError(f'{text!r}: holds one of $ ` \\ " that KubeRay hands to a shell')
