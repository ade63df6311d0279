"""The Kubernetes manifest of a job: what KubeRay's own schema and Kueue's rules take."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import fields
from importlib import metadata as installed
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sweeps.cli import main
from sweeps.config import SweepConfig
from sweeps.jobs.driver import _parser
from sweeps.jobs.errors import JobError
from sweeps.jobs.manifest import ManifestOptions, manifest, resource_name

SCHEMA = Path(__file__).parent / "kuberay" / "rayjob-v1.schema.json"
URI = "s3://bucket/it's here?endpoint_override=10.0.0.1:9000&scheme=http"
METADATA = {"tracerank": "1", "tracerank_id": "digits-1", "tracerank_trials": "4"}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Kubernetes drops what it doesn't know, and says nothing: here that is an error."""
    schema = {
        key: {name: strict(each) for name, each in value.items()}
        if key == "properties"
        else strict(value)
        if key == "items"
        else value
        for key, value in schema.items()
    }
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


@pytest.fixture(scope="module")
def valid() -> Callable[[Any], None]:
    schema = strict(json.loads(SCHEMA.read_text()))
    return jsonschema.Draft202012Validator(schema).validate


@pytest.fixture(scope="module")
def settings() -> SweepConfig:
    return config()


def config(**resources: Any) -> SweepConfig:
    return SweepConfig.model_validate(
        {
            "name": "digits",
            "task": "wine",
            "budget": {"epochs": 6, "batch_size": 32},
            "trials": 4,
            "space": {"architecture": "mlp", "learning_rate": 0.1},
            "resources": resources,
        }
    )


def made(
    settings: SweepConfig, options: ManifestOptions, job_id: str = "digits-1", storage: str = URI
) -> tuple[dict[str, Any], dict[str, Any]]:
    text = manifest(
        settings, options, job_id=job_id, attempt=job_id, storage=storage, metadata=METADATA
    )
    config_map, job = yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return config_map, job


CHOICES: dict[str, list[Any]] = {
    "image": ["registry/tracerank:1"],
    "namespace": [None, "team-a"],
    "pods": [1, 3],
    "max_pods": [None, 3, 8],
    "per_pod": [1, 4],
    "head_memory": ["4Gi", "1.5Gi"],
    "queue": [None, "user-queue"],
    "service_account": [None, "tracerank"],
    "secret": [None, "bucket.credentials"],
    "claim": [None, "runs"],
    "token": [True, False],
    "ray_version": [None, "2.61.10"],
    "retries": [0, 2],
    "deadline": [None, 3600],
}
FIELDS = {field.name for field in fields(ManifestOptions)}


def test_the_choices_are_of_every_option() -> None:
    assert set(CHOICES) == FIELDS


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({name: st.sampled_from(each) for name, each in CHOICES.items()}))
def test_every_combination_is_a_ray_job(
    settings: SweepConfig, valid: Callable[[Any], None], chosen: dict[str, Any]
) -> None:
    most = chosen["max_pods"] or chosen["pods"]
    grows = most > chosen["pods"]
    assume(not (grows and chosen["queue"]))
    storage = "/data/runs" if chosen["claim"] else URI
    config_map, job = made(settings, ManifestOptions(**chosen), storage=storage)
    valid(job)
    spec, name = job["spec"], job["metadata"]["name"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert config_map["metadata"]["name"] == name == "digits-1"
    assert {d["metadata"].get("namespace") for d in (config_map, job)} == {chosen["namespace"]}
    # What Kueue asks for.
    assert spec["shutdownAfterJobFinishes"] is True
    assert "suspend" not in spec
    queue = job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name")
    assert queue == chosen["queue"]
    assert spec.get("activeDeadlineSeconds") == chosen["deadline"]
    assert spec["backoffLimit"] == chosen["retries"]
    cluster = spec["rayClusterSpec"]
    assert cluster.get("authOptions") == ({"mode": "token"} if chosen["token"] else None)
    # KubeRay takes a token only with a version.
    assert cluster["rayVersion"] == (chosen["ray_version"] or installed.version("ray"))
    assert cluster.get("enableInTreeAutoscaling", False) == grows
    head = cluster["headGroupSpec"]["template"]["spec"]
    (group,) = cluster["workerGroupSpecs"]
    worker = group["template"]["spec"]
    (container,), (trains,) = head["containers"], worker["containers"]
    assert container["image"] == trains["image"] == chosen["image"]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": chosen["head_memory"]}
    # The storage's credentials are the driver's alone, and so is the storage.
    secret = [{"secretRef": {"name": chosen["secret"]}}] if chosen["secret"] else None
    assert container.get("envFrom") == secret
    assert "envFrom" not in trains
    assert len(head["volumes"]) == (2 if chosen["claim"] else 1)
    assert "volumes" not in worker
    for pod, asks in ((head, grows), (worker, False)):
        assert pod.get("serviceAccountName") == chosen["service_account"]
        automatic = pod.get("automountServiceAccountToken")
        assert automatic == (None if chosen["service_account"] or asks else False)
    assert group["replicas"] == group["minReplicas"] == chosen["pods"]
    assert group["maxReplicas"] == most
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert group["rayStartParams"]["num-cpus"] == str(chosen["per_pod"])


def test_the_driver_understands_its_command(settings: SweepConfig) -> None:
    config_map, job = made(settings, ManifestOptions(image="i"))
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "sweeps.jobs.driver"]
    given = _parser().parse_args(words[3:])
    assert (given.id, given.attempt, given.storage) == ("digits-1", "digits-1", URI)
    assert given.import_path == []
    # Mounted where it looks, and the same configuration.
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,), (volume,) = head["containers"][0]["volumeMounts"], head["volumes"]
    assert given.config == Path(mount["mountPath"]) / "sweep.yaml"
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    from sweeps import yaml_text

    text = config_map["data"]["sweep.yaml"]
    assert text == settings.dump()
    assert SweepConfig.model_validate(yaml_text.read(text)).resolved() == settings.resolved()
    assert job["spec"]["metadata"] == METADATA
    assert job["spec"]["jobId"] == "digits-1"


@pytest.mark.parametrize(
    ("needs", "trainings", "amounts", "resources"),
    [
        ({}, 1, {"cpu": "1", "memory": "2048Mi"}, None),
        ({"cpus": 2, "memory": "3GiB"}, 2, {"cpu": "4", "memory": "7168Mi"}, None),
        ({"gpus": 0.5}, 3, {"cpu": "3", "memory": "4096Mi", "nvidia.com/gpu": "2"}, None),
        ({"gpus": 2}, 1, {"cpu": "1", "memory": "2048Mi", "nvidia.com/gpu": "2"}, None),
        (
            {"custom": {"disk": 1, "accelerator_type:A100": 0.5}},
            2,
            {"cpu": "2", "memory": "3072Mi"},
            {"disk": 2},
        ),
    ],
)
def test_a_worker_has_what_its_trainings_need(
    needs: dict[str, Any],
    trainings: int,
    amounts: dict[str, str],
    resources: dict[str, float] | None,
    valid: Callable[[Any], None],
) -> None:
    _, job = made(config(**needs), ManifestOptions(image="i", per_pod=trainings))
    valid(job)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    own = group["rayStartParams"].get("resources")
    # A shell takes one pair of quotes away.
    assert (own and json.loads("".join(shlex.split(own)))) == resources


def test_a_cluster_may_grow_and_a_storage_be_a_volume(
    settings: SweepConfig, valid: Callable[[Any], None]
) -> None:
    options = ManifestOptions(image="i", pods=1, max_pods=8, claim="runs")
    _, job = made(settings, options, storage="/data/runs")
    valid(job)
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 8)
    assert cluster["enableInTreeAutoscaling"] is True
    head = cluster["headGroupSpec"]["template"]["spec"]
    # The autoscaler asks Kubernetes for pods.
    assert "automountServiceAccountToken" not in head
    assert head["containers"][0]["volumeMounts"][1]["mountPath"] == "/data/runs"
    assert head["volumes"][1]["persistentVolumeClaim"] == {"claimName": "runs"}
    assert "volumes" not in group["template"]["spec"]


def test_a_secret_is_named_and_never_there(
    settings: SweepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "hidden-value")
    options = ManifestOptions(image="i", secret="bucket")
    text = manifest(
        settings, options, job_id="a", attempt="a", storage="s3://bucket", metadata=METADATA
    )
    assert "hidden-value" not in text
    assert "secretRef" in text


@pytest.mark.parametrize(
    ("change", "storage", "words"),
    [
        ({"image": "two words"}, URI, "image: got 'two words'"),
        ({"namespace": "Team_A"}, URI, "namespace: got 'Team_A'"),
        ({"queue": "a.b"}, URI, "queue: got 'a.b'"),
        ({"secret": "-a"}, URI, "secret: got '-a'"),
        ({"service_account": "a..b"}, URI, "service_account: got 'a..b'"),
        ({"pods": 0}, URI, "pods: got 0; must be at least 1"),
        ({"pods": 3, "max_pods": 2}, URI, "max_pods: got 2; must be at least 3"),
        ({"per_pod": 0}, URI, "per_pod: got 0"),
        ({"retries": -1}, URI, "retries: got -1"),
        ({"deadline": 0}, URI, "deadline: got 0"),
        ({"head_memory": "4 GB"}, URI, "head_memory: got '4 GB'"),
        ({"ray_version": "2.60"}, URI, "ray_version: got '2.60'; must be such as 2.60.0"),
        ({"ray_version": "v2.60.0"}, URI, "ray_version: got 'v2.60.0'"),
        ({"ray_version": "2.60.0\n"}, URI, "ray_version: got '2.60.0\\n'"),
        ({"ray_version": ""}, URI, "ray_version: got ''"),
        ({"queue": "q", "max_pods": 9}, URI, "max_pods: got 9; with a queue"),
        ({}, "/data", "storage: got '/data', a folder"),
        ({"claim": "c"}, "data", "storage: got 'data', a folder"),
        ({"claim": "c"}, URI, "claim: is for a storage that is a folder"),
        ({}, "s3://bucket/$(id)", "hands to a shell"),
    ],
)
def test_what_kubernetes_would_refuse_is_said(
    change: dict[str, Any], storage: str, words: str, settings: SweepConfig
) -> None:
    with pytest.raises(JobError) as refused:
        made(settings, ManifestOptions(**{"image": "i"} | change), storage=storage)
    assert words in str(refused.value)


IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True).filter(
    lambda text: "--" not in text
)


@given(IDS, IDS)
def test_a_name_is_one_for_kubernetes_and_another_for_another_id(one: str, other: str) -> None:
    import re

    for job_id in (one, other):
        name = resource_name(job_id)
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 47
        assert resource_name(job_id) == name
    assert one == other or resource_name(one) != resource_name(other)


def test_a_name_that_is_one_stays() -> None:
    assert resource_name("digits-20260101-120000-ab12") == "digits-20260101-120000-ab12"
    assert resource_name("Digits.V2").startswith("digits-v2-")
    assert resource_name("2026").startswith("job-2026-")


def test_the_command_writes_what_kubernetes_takes(
    tmp_path: Path, valid: Callable[[Any], None], settings: SweepConfig
) -> None:
    (tmp_path / "sweep.yaml").write_text(settings.dump())
    given = ["submit", str(tmp_path / "sweep.yaml"), "--id", "digits-1", "--workers", "7"]
    given += ["--storage", "s3://bucket/runs", "--image", "registry/tracerank:1"]
    given += ["--pods", "3", "--queue", "user-queue", "--secret", "bucket"]
    done = CliRunner().invoke(main, [*given, "--manifest", str(tmp_path / "job.yaml")])
    assert (done.exit_code, done.stdout) == (0, "digits-1\n"), done.output
    config_map, job = yaml.safe_load_all((tmp_path / "job.yaml").read_text())
    valid(job)
    kept = SweepConfig.from_dict(yaml.safe_load(config_map["data"]["sweep.yaml"]), "job.yaml")
    assert kept == settings.model_copy(update={"workers": 7})
    shown = CliRunner().invoke(main, [*given, "--manifest", "-"])
    assert shown.stdout == (tmp_path / "job.yaml").read_text()


GIVEN: dict[str, tuple[list[str], Any]] = {
    "image": (["--image", "other:2"], "other:2"),
    "namespace": (["--namespace", "team-a"], "team-a"),
    "pods": (["--pods", "5"], 5),
    "max_pods": (["--max-pods", "9"], 9),
    "per_pod": (["--per-pod", "3"], 3),
    "head_memory": (["--head-memory", "16Gi"], "16Gi"),
    "queue": (["--queue", "user-queue"], "user-queue"),
    "service_account": (["--service-account", "tracerank"], "tracerank"),
    "secret": (["--secret", "bucket"], "bucket"),
    "claim": (["--claim", "runs"], "runs"),
    "token": (["--no-token"], False),
    "ray_version": (["--ray-version", "2.61.10"], "2.61.10"),
    "retries": (["--retries", "2"], 2),
    "deadline": (["--deadline", "60"], 60),
}


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_option_reaches_the_manifest(
    field: str, tmp_path: Path, settings: SweepConfig, valid: Callable[[Any], None]
) -> None:
    words, value = GIVEN[field]
    (tmp_path / "sweep.yaml").write_text(settings.dump())
    storage = "/data/runs" if field == "claim" else "s3://bucket/runs"
    command = ["submit", str(tmp_path / "sweep.yaml"), "--id", "digits-1", "--manifest", "-"]
    command += ["--storage", storage, "--image", "registry/tracerank:1", *words]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    _, job = yaml.safe_load_all(done.stdout)
    valid(job)
    options = {"image": "registry/tracerank:1"} | {field: value}
    assert ManifestOptions(**options) != ManifestOptions(image="registry/tracerank:1")
    _, expected = made(settings, ManifestOptions(**options), storage=storage)
    del job["spec"]["metadata"], expected["spec"]["metadata"]
    assert job == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-pods", "1"], "max_pods: got 1; must be at least 2"),
        (["--head-memory", "4 GB"], "head_memory: got '4 GB'; must be such as 4Gi or 500Mi"),
        (["--ray-version", "latest"], "ray_version: got 'latest'; must be such as 2.60.0"),
    ],
)
def test_a_refusal_names_the_option(
    words: list[str], said: str, tmp_path: Path, settings: SweepConfig
) -> None:
    (tmp_path / "sweep.yaml").write_text(settings.dump())
    command = ["submit", str(tmp_path / "sweep.yaml"), "--manifest", str(tmp_path / "job.yaml")]
    done = CliRunner().invoke(
        main, [*command, "--storage", "s3://bucket/runs", "--image", "registry/tracerank:1", *words]
    )
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (tmp_path / "job.yaml").exists()


def test_no_token_belongs_to_a_manifest_too(tmp_path: Path, settings: SweepConfig) -> None:
    (tmp_path / "sweep.yaml").write_text(settings.dump())
    done = CliRunner().invoke(main, ["submit", str(tmp_path / "sweep.yaml"), "--no-token"])
    assert done.exit_code == 2
    assert "--no-token belongs to --manifest FILE" in done.stderr


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("--image", "needs --image"),
        ("--manifest", "belongs to --manifest"),
        ("--storage", "needs --storage"),
    ],
)
def test_what_the_command_needs(
    left_out: str, said: str, tmp_path: Path, settings: SweepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACERANK_STORAGE", raising=False)
    (tmp_path / "sweep.yaml").write_text(settings.dump())
    options = {"--storage": "s3://b/runs", "--image": "r/t:1", "--manifest": str(tmp_path / "job")}
    del options[left_out]
    words = [word for option in options.items() for word in option]
    done = CliRunner().invoke(main, ["submit", str(tmp_path / "sweep.yaml"), *words])
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "job").exists()


def test_what_is_of_no_use_with_it(tmp_path: Path, settings: SweepConfig) -> None:
    (tmp_path / "sweep.yaml").write_text(settings.dump())
    words = ["--storage", "s3://b/runs", "--image", "r/t:1", "--manifest", "-"]
    for more in (["--wait"], ["--include", "*.csv"], ["--exclude", "*.csv"]):
        done = CliRunner().invoke(main, ["submit", str(tmp_path / "sweep.yaml"), *words, *more])
        assert done.exit_code == 2
        assert f"{more[0]} has no use with --manifest" in done.stderr
