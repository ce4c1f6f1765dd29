"""Tasks, backends and handlers of one's own, and archives of an older version, on a real server.

No file of the package is touched: what is added lies beside a recipe, or in the project's folder.
"""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.export.pipeline import export
from tests.conftest import DATA, Silent
from tests.servers import SHIPWAY, RunningServer, running_server

OLD_MAR = DATA / "tiny-table-format-1.mar"
OWN_HANDLERS = DATA / "handlers"


def exported(recipe: str, technique: str, out: Path) -> Artifact:
    return open_artifact(export(str(DATA / recipe), Silent(), out=out, only=(technique,)).path)


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> Artifact:
    out = tmp_path_factory.mktemp("points")
    return exported("plugin_task/points_recipe.py", "onnx_fp32", out)


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Artifact:
    out = tmp_path_factory.mktemp("dense")
    return exported("plugin_backend/dense_recipe.py", "numpy_dense", out)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("own-parts")) as running:
        yield running


@pytest.fixture(scope="module")
def http(server) -> Iterator[httpx.Client]:
    address = server.record.addresses.inference
    bearer = {"Authorization": f"Bearer {server.tokens.get('inference')}"}
    with httpx.Client(base_url=address, headers=bearer, timeout=60, trust_env=False) as client:
        yield client


def registered(server: RunningServer, mar: Path, name: str) -> None:
    """Puts an archive into the store and registers it with plain TorchServe's API."""
    server.model_store.mkdir(exist_ok=True)
    shutil.copy(mar, server.model_store)
    server.management.register(
        mar.name, name=name, version="1.0", batch_size=4, max_batch_delay_ms=0, workers=1
    )


def test_a_task_of_a_plugin_is_served_from_its_archive_alone(server, http, points, tmp_path):
    mar = pack(points, tmp_path)
    with zipfile.ZipFile(mar) as archive:
        assert "artifact/plugins/points.py" in archive.namelist()
        assert b"GenericHandler" in archive.read("handler.py")
    registered(server, mar, "points")
    reply = http.post(
        "/predictions/points", content=b"3 4; 0 1", headers={"Content-Type": "text/plain"}
    )
    assert reply.status_code == 200, reply.text
    assert [answer["distance"] for answer in reply.json()] == pytest.approx([5.0, 1.0])
    refused = http.post(
        "/predictions/points", content=b"3 4 5", headers={"Content-Type": "text/plain"}
    )
    assert refused.status_code == 400
    assert refused.json()["message"] == "'3 4 5' is not a point. " + (
        'Send points as text, such as "3 4; 0 1".'
    )


def test_a_backend_of_a_plugin_is_chosen_and_served_from_its_archive_alone(
    server, http, dense, tmp_path
):
    program = dense.manifest.programs[dense.manifest.chosen]
    assert (program.runtime, program.format) == ("numpy_dense", "dense_npz")
    registered(server, pack(dense, tmp_path), "dense")
    rows = np.load(dense.path / "samples/features.npy")
    logits = np.load(dense.path / "samples/logits.npy")
    reply = http.post("/predictions/dense", json=rows.tolist())
    assert reply.status_code == 200, reply.text
    assert reply.headers["Shipway-Program"] == "numpy_dense"
    labels = np.array(["no", "yes"])[logits.argmax(1)].tolist()
    assert [answer[0]["label"] for answer in reply.json()] == labels


def photo() -> bytes:
    """A PNG file with a square of red on blue."""
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[20:60, 20:60] = (255, 0, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def answers_with_percents(http: httpx.Client, name: str) -> None:
    """The answers of tests/data/handlers/image_classification.py."""
    reply = http.post(f"/predictions/{name}", files={"photo": photo()})
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert [sorted(each) for each in answer] == [["label", "percent"]] * 5
    assert all(isinstance(each["percent"], int) for each in answer)
    assert 0 < sum(each["percent"] for each in answer) <= 102
    refused = http.post(f"/predictions/{name}", files={"image": photo()})
    assert refused.status_code == 400
    assert "no field `photo`" in refused.json()["message"]


def test_the_handler_of_a_project_is_packed_in_place_of_shipways(
    server, http, tiny_artifact, tmp_path
):
    shutil.copytree(OWN_HANDLERS, tmp_path / "handlers")
    done = subprocess.run(
        [*SHIPWAY, "package", tiny_artifact.path, "--model-store", "store"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    registered(server, tmp_path / "store/tiny-1.0.mar", "tiny")
    answers_with_percents(http, "tiny")


def test_a_handler_is_packed_by_hand_with_torch_model_archiver(
    server, http, tiny_artifact, tmp_path
):
    build = tmp_path / "build"
    shutil.copytree(tiny_artifact.path, build / "artifact")
    subprocess.run(
        [
            *(Path(sys.executable).with_name("torch-model-archiver"), "--model-name", "by-hand"),
            *("--version", "1.0", "--handler", OWN_HANDLERS / "image_classification.py"),
            *("--extra-files", build, "--export-path", tmp_path),
        ],
        check=True,
    )
    registered(server, tmp_path / "by-hand.mar", "by-hand")
    answers_with_percents(http, "by-hand")


def test_an_archive_of_the_version_before_is_inspected_registered_promoted_and_answers(
    server, http
):
    info = inspect_mar(OLD_MAR)
    assert (info.name, info.version) == ("tiny-table", "1.0")
    with zipfile.ZipFile(OLD_MAR) as archive:
        assert json.loads(archive.read("artifact/manifest.json"))["format"] == 1
        assert any(name.startswith("handlers/") for name in archive.namelist())

    def shipway(*words: str | Path) -> None:
        done = subprocess.run(
            [*SHIPWAY, *words, "--state", server.state.path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    shipway("register", OLD_MAR)
    shipway("promote", "tiny-table", "1.0")
    reply = http.post("/predictions/tiny-table", json=[1, 2, 3, 4, 5])
    assert reply.status_code == 200, reply.text
    assert {each["label"] for each in reply.json()} == {"red", "green", "blue"}
    assert sum(each["probability"] for each in reply.json()) == pytest.approx(1)
