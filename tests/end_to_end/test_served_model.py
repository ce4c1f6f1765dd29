"""EfficientNet-Lite0 as it is exported, packed and served by the real TorchServe."""

import base64
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.engines.errors import PredictionFailed
from shipway.payloads.images import decode_image
from shipway.runtime.program import open_program
from shipway.tasks.classes import rank
from tests.conftest import DEMO_VARIABLE, PHOTOS, REPOSITORY, encoded, export_demo, retold
from tests.servers import SHIPWAY, RunningServer, running_server, until

MODEL = "efficientnet_lite0"
HOUSE_CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat
ESPRESSO = 967
TOGETHER_MS = 400
"""Long enough for eight clients' requests to meet in one batch."""


@pytest.fixture(scope="module")
def mars(demo_artifact, tmp_path_factory) -> dict[str, Path]:
    """Version 1.0 as exported, and a 2.0 that differs by its version alone."""
    folder = tmp_path_factory.mktemp("mars")
    second = retold(demo_artifact, folder / "second", version="2.0")
    return {"1.0": pack(demo_artifact, folder), "2.0": pack(second, folder)}


@pytest.fixture(scope="module")
def server(mars, tmp_path_factory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "model_store").mkdir()
    shutil.copy(mars["1.0"], folder / "model_store")
    with running_server(folder) as running:
        running.management.register(
            mars["1.0"].name,
            name=MODEL,
            version="1.0",
            batch_size=8,
            max_batch_delay_ms=TOGETHER_MS,
            workers=1,
        )
        yield running


@pytest.fixture
def shipway(server):
    """Runs a `shipway` command against the server and returns what it did."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SHIPWAY, *map(str, words), "--state", str(server.state.path)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def curl(server):
    """Runs plain curl with the right token; returns status and body."""

    def run(kind: str, method: str, path: str, *arguments: str) -> tuple[int, str]:
        address = getattr(server.record.addresses, kind)
        token = json.loads(server.tokens.key_file.read_text())[kind]["key"]
        done = subprocess.run(
            ["curl", "-sS", "-X", method, "-H", f"Authorization: Bearer {token}"]
            + ["-w", "\n%{http_code}", *arguments, f"{address}{path}"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    return run


def worker_pids(server: RunningServer) -> list[int]:
    return sorted(pid for one in server.management.describe(MODEL) for pid in one.worker_pids)


def ask(server: RunningServer, body: bytes, content_type: str = "application/octet-stream"):
    """Status and parsed body of one plain POST."""
    token = json.loads(server.tokens.key_file.read_text())["inference"]["key"]
    reply = httpx.post(
        f"{server.record.addresses.inference}/predictions/{MODEL}",
        content=body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": content_type},
        timeout=60,
        trust_env=False,
    )
    return reply.status_code, reply.json()


def same(found: list, expected: list, within: float = 1e-5) -> None:
    assert [each["class_id"] for each in found] == [each["class_id"] for each in expected]
    for a, b in zip(found, expected, strict=True):
        assert a["label"] == b["label"]
        assert a["probability"] == pytest.approx(b["probability"], abs=within)


@pytest.fixture(scope="module")
def in_process(demo_artifact):
    """The same answer without a server: the artifact, the runtime, the ranking."""
    manifest = demo_artifact.manifest
    program = open_program(demo_artifact, manifest.chosen, threads=2)

    def predict(data: bytes) -> list:
        pixels = decode_image(data, manifest.preprocessing)
        return rank(program.run([pixels[None]])[0], manifest.labels, manifest.top_k)[0]

    return predict


@pytest.mark.long
@pytest.mark.timeout(780)
def test_the_report_names_every_technique_and_an_int8_program_wins(tmp_path):
    techniques = ("torchscript", "torch_export", "aot_inductor", "onnx_fp32", "onnx_int8")
    given = os.environ.get(DEMO_VARIABLE)  # `make model` has exported the same
    demo_artifact = (
        open_artifact(REPOSITORY / given) if given else export_demo(tmp_path, *techniques)
    )
    report = (demo_artifact.path / "report.html").read_text()
    for name in techniques:
        assert name in report
        assert demo_artifact.certificate.candidates[name].passed
    chosen = demo_artifact.manifest.chosen
    certificate = demo_artifact.certificate
    assert demo_artifact.manifest.programs[chosen].precision == "int8"
    for shape, by_threads in certificate.eager.items():
        eager_ms = min(each.median_ms for each in by_threads.values())
        assert certificate.candidates[chosen].best_ms(shape) < eager_ms


def test_the_archive_is_small(mars):
    assert mars["1.0"].stat().st_size <= 40e6


def test_http_grpc_and_the_runtime_give_the_same_probabilities(server, in_process):
    for name, classes in (("chelsea.png", HOUSE_CATS), ("coffee.png", {ESPRESSO})):
        data = (PHOTOS / name).read_bytes()
        expected = in_process(data)
        assert expected[0]["class_id"] in classes
        same(server.inference.predict(MODEL, data), expected)
        same(server.grpc.predict(MODEL, data), expected)


def test_no_thread_of_a_worker_that_answers_yields_to_others(server, cat):
    """As the one did that imported torch: the others must not have their priority from it."""
    server.inference.predict(MODEL, cat.read_bytes())
    threads = [each.id for pid in worker_pids(server) for each in psutil.Process(pid).threads()]
    assert {os.sched_getscheduler(each) for each in threads} == {os.SCHED_OTHER}


def test_each_form_of_a_request_gets_the_same_answer(server, curl, in_process, cat, tmp_path):
    expected = in_process(cat.read_bytes())
    text = base64.b64encode(cat.read_bytes()).decode()
    status, found = ask(server, json.dumps({"image": text}).encode(), "application/json")
    assert status == 200
    same(found, expected)
    for field in ("image", "data"):
        path = f"/predictions/{MODEL}"
        status, body = curl("inference", "POST", path, "-F", f"{field}=@{cat}")
        assert status == 200, body
        same(json.loads(body), expected)
    status, body = curl("inference", "POST", f"/predictions/{MODEL}/1.0", "-T", str(cat))
    assert status == 200, body
    same(json.loads(body), expected)


@pytest.mark.parametrize(
    ("format", "mode"),
    [("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("WEBP", "RGB"), ("PNG", "RGBA")],
)
def test_each_image_format_is_recognised(server, format, mode):
    photo = Image.open(PHOTOS / "coffee.png").convert("RGB").convert(mode)
    status, found = ask(server, encoded(photo, format))
    assert status == 200
    assert found[0]["class_id"] in ({ESPRESSO} if mode != "L" else {ESPRESSO, 968, 969, 504})


def test_three_broken_requests_among_eight_get_errors_and_five_get_answers(server, in_process):
    cat, coffee = ((PHOTOS / name).read_bytes() for name in ("chelsea.png", "coffee.png"))
    jpeg = encoded(Image.open(PHOTOS / "rocket.jpg"), "JPEG")
    bodies = [cat, jpeg[: len(jpeg) // 2], coffee, b"no image at all", cat, b"", coffee, cat]
    before = worker_pids(server)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: ask(server, body), bodies))
    assert worker_pids(server) == before
    assert [status for status, _ in answers] == [200, 400, 200, 415, 200, 400, 200, 200]
    errors = [body for status, body in answers if status != 200]
    assert [error["type"] for error in errors] == ["BadImage", "NotAnImage", "BadRequest"]
    for body, (status, found) in zip(bodies, answers, strict=True):
        if status == 200:
            # int8 rounds in a larger batch as it does alone: same within the promise.
            same(found, in_process(body))


def bomb() -> bytes:
    """A PNG whose header promises four billion pixels."""
    import zlib

    data = bytearray(encoded(Image.new("1", (8, 8))))
    data[16:24] = (65_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


HOSTILE = {
    "no image": (b"hello", "application/octet-stream", 415),
    "nothing": (b"", "application/octet-stream", 400),
    "a truncated JPEG": (
        encoded(np.zeros((64, 64, 3), np.uint8), "JPEG")[:300],
        "image/jpeg",
        400,
    ),
    "a decompression bomb": (bomb(), "image/png", 413),
    "100 megapixels": (encoded(Image.new("1", (10_000, 10_000))), "image/png", 413),
    "JSON that does not parse": (b'{"image": ', "application/json", 400),
    "JSON that is a list": (b"[1, 2, 3]", "application/json", 400),
    "a wrong field name": (b'{"picture": "aGVsbG8="}', "application/json", 400),
    "no base64": (b'{"image": "!!"}', "application/json", 400),
    "base64 of no image": (b'{"image": "aGVsbG8="}', "application/json", 415),
    "text": (b"hello", "text/plain", 415),
    "a header that is no UTF-8": (b"\xff\xfe", "text/plain; charset=utf-8", 415),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_bad_input_is_told_what_was_found_and_what_is_accepted(server, case):
    body, content_type, expected = HOSTILE[case]
    before = worker_pids(server)
    status, error = ask(server, body, content_type)
    assert status == expected, error
    assert error["code"] == expected
    assert error["type"] in ("NotAnImage", "BadImage", "ImageTooLarge", "BadRequest")
    assert len(error["message"]) > 20
    assert worker_pids(server) == before


def test_a_wrong_multipart_field_is_named(curl, cat):
    status, body = curl("inference", "POST", f"/predictions/{MODEL}", "-F", f"photo=@{cat}")
    assert status == 400
    assert "`photo`" in json.loads(body)["message"]


def test_a_bad_image_is_an_error_over_grpc_too(server):
    with pytest.raises(PredictionFailed, match="Unsupported image format"):
        server.grpc.predict(MODEL, b"no image")


def test_a_version_is_registered_promoted_and_unregistered_by_shipway_alone(
    server, shipway, mars, cat
):
    assert shipway("register", mars["2.0"]).returncode == 0
    again = shipway("register", mars["2.0"])
    assert again.returncode == 1
    assert "2.0" in again.stderr
    for version in ("1.0", "2.0"):
        done = shipway("predict", MODEL, cat, "--version", version, "--json")
        assert json.loads(done.stdout)["predictions"][0]["class_id"] in HOUSE_CATS
    refused = shipway("unregister", MODEL, "1.0")
    assert refused.returncode == 1
    assert "1.0" in refused.stderr and "default" in refused.stderr
    assert shipway("promote", MODEL, "2.0").returncode == 0
    assert shipway("unregister", MODEL, "1.0").returncode == 0
    unknown = shipway("predict", MODEL, cat, "--version", "1.0")
    assert unknown.returncode == 1
    # Back to how this module found it.
    assert shipway("register", mars["1.0"], "--max-batch-delay", str(TOGETHER_MS)).returncode == 0
    assert shipway("promote", MODEL, "1.0").returncode == 0
    assert shipway("unregister", MODEL, "2.0").returncode == 0
    listed = json.loads(shipway("models", "--json").stdout)
    assert "2.0" not in json.dumps(listed)


def test_a_version_is_registered_promoted_and_unregistered_by_curl_alone(server, curl, mars, cat):
    shutil.copy(mars["2.0"], server.model_store)
    query = f"?url={mars['2.0'].name}&initial_workers=1"
    status, body = curl("management", "POST", f"/models{query}&batch_size=8&max_batch_delay=0")
    assert status == 200, body
    assert curl("management", "POST", f"/models{query}")[0] == 409
    for version in ("1.0", "2.0"):
        status, body = curl("inference", "POST", f"/predictions/{MODEL}/{version}", "-T", str(cat))
        assert status == 200, body
        assert json.loads(body)[0]["class_id"] in HOUSE_CATS
    assert curl("management", "DELETE", f"/models/{MODEL}/1.0")[0] == 403
    assert curl("management", "PUT", f"/models/{MODEL}/2.0/set-default")[0] == 200
    assert curl("management", "PUT", f"/models/{MODEL}/1.0/set-default")[0] == 200
    assert curl("management", "DELETE", f"/models/{MODEL}/2.0")[0] == 200

    def ask_it() -> int:
        return curl("inference", "POST", f"/predictions/{MODEL}/2.0", "-T", str(cat))[0]

    # The front follows within a second. A request in it may arrive before that, and find no worker.
    if (status := ask_it()) != 404:
        assert status == 503
        until(lambda: ask_it() == 404, within_s=1)


def test_batching_is_on_for_those_who_register_with_curl_and_say_nothing(
    server, curl, mars, demo_artifact
):
    shutil.copy(mars["2.0"], server.model_store)
    assert curl("management", "POST", f"/models?url={mars['2.0'].name}&initial_workers=1")[0] == 200
    _, body = curl("management", "GET", f"/models/{MODEL}/2.0")
    assert json.loads(body)[0]["batchSize"] == demo_artifact.manifest.serving.batch_size
    assert curl("management", "DELETE", f"/models/{MODEL}/2.0")[0] == 200


def corrupted(mar: Path, destination: Path) -> str:
    """A whole zip in which one program has one byte changed; returns the program's name."""
    victim = ""
    with zipfile.ZipFile(mar) as old, zipfile.ZipFile(destination, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if not victim and "/programs/" in name:
                victim, data = name, data[:-1] + bytes([data[-1] ^ 1])
            new.writestr(name, data)
    return victim


def test_a_corrupted_archive_is_refused_by_register_and_by_the_worker(
    server, shipway, curl, mars, tmp_path, cat
):
    broken = tmp_path / mars["2.0"].name
    victim = corrupted(mars["2.0"], broken)
    before = worker_pids(server)
    refused = shipway("register", broken)
    assert refused.returncode == 1
    assert victim in refused.stderr

    # Round the check: straight into the model store and to TorchServe.
    (server.model_store / "round.mar").write_bytes(broken.read_bytes())
    status, body = curl("management", "POST", "/models?url=round.mar&initial_workers=1")
    assert status == 500, body
    assert Path(victim).name in server.state.worker_log.read_text()
    until(lambda: worker_pids(server) == before)  # the refused one ends in its own time
    assert ask(server, cat.read_bytes())[0] == 200


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_refused_by_name(server, shipway, tmp_path, content, cat):
    path = tmp_path / "broken-1.0.mar"
    path.write_bytes(content)
    refused = shipway("register", path)
    assert refused.returncode == 1
    assert "broken-1.0.mar" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert ask(server, cat.read_bytes())[0] == 200


def test_five_hundred_requests_in_any_company_get_their_own_answers(server, in_process):
    random = np.random.default_rng(0)
    photos = [Image.open(PHOTOS / name).convert("RGB") for name in ("chelsea.png", "coffee.png")]
    bodies = []
    for index in range(40):
        width, height = random.integers(60, 400, 2)
        bodies.append(encoded(photos[index % 2].resize((int(width), int(height))), "JPEG"))
    expected = [in_process(body) for body in bodies]
    order = random.integers(0, len(bodies), 500)
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda index: ask(server, bodies[index]), order))
    for index, (status, found) in zip(order, answers, strict=True):
        assert status == 200
        same(found, expected[index])


def test_a_worker_uses_the_model_and_little_else(server):
    (pid,) = worker_pids(server)
    assert psutil.Process(pid).memory_info().rss < 1e9
