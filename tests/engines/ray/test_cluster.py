"""A real Ray cluster: the same requests get the same answers, and changes lose none."""

import io
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest

from shipway.artifact.bundle import open_artifact
from shipway.artifact.digests import write_sums
from shipway.artifact.manifest import Requirements
from shipway.artifact.samples import file_of
from shipway.payloads.request import Request
from shipway.releases.models_file import Model, write_models
from tests.conftest import retold
from tests.servers import until
from tests.serving.test_service import JSON, Served

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from benchmarks.ray_cluster import BIN, RayCluster, ray_cluster
from shipway.engines.ports import free_ports

pytestmark = pytest.mark.ray

TASKS = ("images", "classifier", "table")
OTHER_VERSION = (
    "import ray; ray.__version__ = '2.0.0'; from ray.scripts.scripts import main; main()"
)


@pytest.fixture(scope="module")
def served(tiny_artifact, tiny_classifier, tiny_table) -> dict[str, Served]:
    artifacts = (tiny_artifact, tiny_classifier, tiny_table)
    return {task: Served(task, each) for task, each in zip(TASKS, artifacts, strict=True)}


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster(8) as running:
        yield running


@pytest.fixture(scope="module")
def paths(served):
    return [each.artifact.path for each in served.values()]


def deploy(cluster: RayCluster, *arguments: object):
    given = ("--cores", 1, "--max-replicas", 1, "--address", cluster.address)
    return cluster.run("shipway", "deploy", "ray", *given, *arguments)


@pytest.fixture(scope="module")
def http(cluster, served, tmp_path_factory):
    """A client of what a models file says: among others that a batch has two requests at most."""
    file = tmp_path_factory.mktemp("file") / "models.yaml"
    said = [
        Model(
            name=each.manifest.name,
            version=each.manifest.version,
            artifact=each.artifact.path,
            workers=1,
            batch_size=2,
        )
        for each in served.values()
    ]
    write_models(file, said)
    [port] = free_ports(1)
    done = deploy(cluster, "--models", file, "--port", port)
    assert done.returncode == 0, done.stderr
    address = f"http://127.0.0.1:{port}"
    assert f"{address}/predictions/" in done.stdout
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(params=TASKS)
def one(request, served) -> Served:
    return served[request.param]


def post(http, one: Served, request: Request, path: str = "/predictions/{}") -> httpx.Response:
    headers = {"content-type": "application/octet-stream", **request.headers}
    body = bytes(request.fields["body"])
    return http.post(path.format(one.manifest.name), content=body, headers=headers)


def is_the_handlers_own(one: Served, request: Request, reply: httpx.Response) -> None:
    """The same bytes, status and headers that the handler gives TorchServe for this request."""
    headers = {"content-type": "application/octet-stream", **request.headers}
    [expected] = one.service.answer([Request(request.fields, headers)])
    assert reply.status_code == expected.status, reply.text
    assert reply.content == expected.body
    for name, value in expected.headers.items():
        if name not in ("Server-Timing", "Shipway-Batch"):
            assert reply.headers[name] == value
    assert "total;dur=" in reply.headers["server-timing"]


def test_every_form_gets_the_handlers_own_reply(http, one):
    [item] = one.inputs(1)
    requests = [one.natural(item), one.v2([item], binary=False), one.v2([item], binary=True)]
    requests.append(one.v2_bytes([item]))
    wanted = {**requests[0].headers, "accept": "application/octet-stream"}
    requests.append(Request(requests[0].fields, wanted))
    for request in requests:
        is_the_handlers_own(one, request, post(http, one, request))
    v2 = requests[2]
    is_the_handlers_own(one, v2, post(http, one, v2, "/v2/models/{}/infer"))
    is_the_handlers_own(one, v2, post(http, one, v2, "/v2/models/{}/versions/1.0/infer"))


@pytest.mark.parametrize(
    "body, headers",
    [
        (b"", {}),
        (b"\xff", {"content-type": "text/plain"}),
        (b'{"inputs": [{"datatype": "FP32"}]}', JSON),
        (b"[1, 2]", {"inference-header-content-length": "-1"}),
        (b"x", {"content-type": "application/xml"}),
        (b"[]", JSON),
    ],
)
def test_what_is_wrong_is_refused_in_the_handlers_words(http, one, body, headers):
    request = Request({"body": body}, headers)
    is_the_handlers_own(one, request, post(http, one, request))


def test_forms_are_taken_apart(http, served):
    one = served["images"]
    [image] = one.inputs(1)
    path = f"/predictions/{one.manifest.name}"
    one.is_answer(http.post(path, files={"image": ("a.png", image)}).json(), image)
    one = served["classifier"]
    [text] = one.inputs(1)
    path = f"/predictions/{one.manifest.name}"
    one.is_answer(http.post(path, data={"text": text}).json(), text)
    broken = http.post(
        path, content=b"no part", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert (broken.status_code, broken.json()["type"]) == (400, "BadRequest")


def test_what_is_not_served_is_not_found(http, served):
    for path, kind in (
        ("/predictions/unknown", "ModelNotFoundException"),
        ("/predictions/tiny-table/9.9", "ModelVersionNotFoundException"),
        ("/predictions", "ResourceNotFoundException"),
    ):
        reply = http.post(path, content=b"[]")
        assert (reply.status_code, reply.json()["type"]) == (404, kind)


def test_a_request_has_a_largest_size(http):
    reply = http.post("/predictions/tiny-table", content=bytes(20 * 2**20 + 1))
    assert (reply.status_code, reply.json()["type"]) == (413, "RequestTooLarge")


def test_the_metadata_are_those_of_the_protocol(http, one):
    found = http.get(f"/v2/models/{one.manifest.name}").json()
    assert found == one.service.describe()["metadata"]


def test_requests_share_batches_and_get_their_own_answers(http, served):
    one = served["table"]
    items = one.inputs(64)
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda item: post(http, one, one.natural(item)), items))
    for item, reply in zip(items, replies, strict=True):
        one.is_answer(reply.json(), item)
    assert max(int(each.headers["shipway-batch"]) for each in replies) == 2


def test_stages_are_in_rays_metrics(http, cluster, served):
    one = served["table"]
    post(http, one, one.natural(one.inputs(1)[0]))
    post(http, one, Request({"body": b"["}, JSON))

    stages = ("queue", "decode", "preprocess", "inference", "postprocess")
    wanted = [("stage_seconds_bucket", f'stage="{each}"') for each in stages]
    wanted += [("requests_total", 'status="400"'), ("errors_total", "kind="), ("model_info", "")]

    def all_are_shown() -> bool:  # a replica tells its node every few seconds
        shown = httpx.get(cluster.nodes[0].metrics, trust_env=False).text
        lines = [each for each in shown.splitlines() if 'model="tiny-table"' in each]
        return all(
            any(line.startswith(f"ray_shipway_{name}") and label in line for line in lines)
            for name, label in wanted
        )

    until(all_are_shown, within_s=60)


def is_refused(cluster, http, served, said: str, *arguments: object) -> None:
    """Nothing is changed, and what runs answers."""
    before = cluster.details()["applications"].keys()
    done = deploy(cluster, *arguments)
    assert done.returncode == 1, done.stdout
    assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert cluster.details()["applications"].keys() == before
    one = served["table"]
    [item] = one.inputs(1)
    one.is_answer(post(http, one, one.natural(item)).json(), item)


def test_an_artifact_that_fits_no_node_is_refused(cluster, http, served, paths, tmp_path):
    elsewhere = Requirements(machine="riscv64")
    manifest = served["table"].manifest
    programs = {
        name: each.model_copy(update={"requires": elsewhere})
        for name, each in manifest.programs.items()
    }
    unfit = retold(served["table"].artifact, tmp_path / "a", version="3.0", programs=programs)
    is_refused(cluster, http, served, "made for riscv64", *paths[:2], unfit.path)


def test_more_cores_than_a_node_has_are_refused(cluster, http, served, paths):
    is_refused(cluster, http, served, "No node has 99 cores", *paths, "--cores", 99)


def test_a_version_does_not_become_another_artifact(cluster, http, served, paths, tmp_path):
    other = retold(served["table"].artifact, tmp_path / "a", chosen_because="of another reason")
    is_refused(cluster, http, served, "Versions are immutable", *paths[:2], other.path)


def test_a_program_that_is_not_as_certified_takes_nobodys_place(
    cluster, http, served, paths, tmp_path
):
    output = served["table"].manifest.outputs[0].name
    folder = tmp_path / "a"
    retold(served["table"].artifact, folder, version="4.0")
    sample = folder / file_of(output)
    np.save(sample, -np.load(sample))
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)
    open_artifact(folder)
    is_refused(cluster, http, served, "its certificate allows", *paths[:2], folder)


def test_a_new_version_takes_over_without_an_error(cluster, http, served, paths, tmp_path):
    one = served["table"]
    newer = tmp_path / "newer"
    retold(one.artifact, newer, version="2.0")
    replies: list[httpx.Response] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            replies.append(post(http, one, one.natural(one.inputs(1)[0])))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for each in threads:
        each.start()
    done = deploy(cluster, *paths[:2], newer)
    time.sleep(0.5)
    over.set()
    for each in threads:
        each.join()
    assert done.returncode == 0, done.stderr
    assert {each.status_code for each in replies} == {200}
    versions = [each.headers["shipway-version"] for each in replies]
    assert versions[0] == "1.0"
    assert versions[-1] == "2.0"
    assert "tiny-table@1.0" not in cluster.details()["applications"]
    assert http.post("/predictions/tiny-table/1.0", content=b"[]").status_code == 404


def test_the_config_is_one_that_serve_takes(paths, tmp_path):
    import yaml
    from ray.serve.schema import ServeDeploySchema

    from shipway.cli.deploy_ray import ray_version
    from shipway.deploy.versions import read_versions
    from shipway.engines.ray.config import serve_config

    versions = [ray_version(model, one) for model, one in read_versions(paths, None)]
    config = serve_config(versions)
    read = ServeDeploySchema.model_validate(yaml.safe_load(io.StringIO(yaml.safe_dump(config))))
    assert [each.name for each in read.applications][-1] == "shipway"


def test_no_cluster_is_said_at_once(cluster, paths):
    [port] = free_ports(1)
    start = time.monotonic()
    done = cluster.run("shipway", "deploy", "ray", *paths, "--address", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"There is no Ray cluster at 127.0.0.1:{port}" in done.stderr
    assert time.monotonic() - start < 30


def test_what_listens_and_is_no_cluster_is_said_soon(cluster, paths):
    address = cluster.dashboard.removeprefix("http://")
    start = time.monotonic()
    done = cluster.run("shipway", "deploy", "ray", *paths, "--address", address)
    assert done.returncode == 1
    assert "does not speak gRPC" in done.stderr, done.stderr
    assert time.monotonic() - start < 30


def test_a_cluster_of_another_version_is_refused(paths):
    with ray_cluster(2, head=(sys.executable, "-c", OTHER_VERSION)) as other:
        done = other.run("shipway", "deploy", "ray", *paths, "--address", other.address)
        assert done.returncode == 1
        assert "Ray: 2.0.0" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_cluster_it_serves_on_this_machine_until_ctrl_c(cluster, served):
    one = served["table"]
    [port] = free_ports(1)
    command = [BIN / "shipway", "deploy", "ray", one.artifact.path, "--cores", "1"]
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=cluster.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert f"http://127.0.0.1:{port}/predictions/tiny-table" in process.stdout.readline()
        [item] = one.inputs(1)
        reply = httpx.post(
            f"http://127.0.0.1:{port}/predictions/tiny-table", json=item, trust_env=False
        )
        one.is_answer(reply.json(), item)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert "stopped" in process.communicate(timeout=60)[0]
        assert process.returncode == 0
        until(lambda: not any(each.is_running() for each in started))
    finally:
        process.kill()
        process.stdout.close()
