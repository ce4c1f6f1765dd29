"""Versions changed under load, refused, taken back, and found again after a crash."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torch import nn

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.artifact.samples import file_of
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve import launch
from shipway.engines.torchserve.config import read_config
from shipway.engines.torchserve.inference import HttpPredictor
from shipway.engines.torchserve.java import find_java
from shipway.engines.torchserve.management import ManagementClient
from shipway.export.pipeline import export
from shipway.releases.errors import ChangeUnderWay, NoFallback, NotPromoted
from shipway.releases.history import Release, Releases, read_releases, write_releases
from shipway.releases.readiness import ask_why_not_ready
from shipway.releases.rollout import changing
from shipway.releases.settings import version_of
from shipway.runtime.program import open_program
from shipway.tasks.classes import rank
from tests.conftest import DATA, Silent, retold
from tests.load import load_on
from tests.servers import (
    RunningServer,
    build_mar,
    is_worker,
    running_server,
    shipway,
    until,
    write_config,
)

MODEL = "tiny-table"
ROW = [0.3, -1.2, 0.8, 0.1, 2.0]
CLIENTS = 3
ROLLED_BACK_WITHIN_S = 2.0

SLOW = """
import time

class Slow:
    def initialize(self, context):
        pass

    def handle(self, rows, context):
        time.sleep(0.3)
        return ["answered"] * len(rows)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archives:
    mars: dict[str, Path]
    answers: dict[str, list]
    """By version, what ROW has to get."""


@pytest.fixture(scope="module")
def archives(tiny_table, tmp_path_factory) -> Archives:
    """1.0 and 2.0 with other weights; 3.0, which is 2.0 certified with 1.0's outputs."""
    folder = tmp_path_factory.mktemp("versions")
    torch.manual_seed(1)
    other = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))
    torch.save(other.state_dict(), folder / "other.pth")
    exported = export(
        str(DATA / "tiny_table_recipe.py"),
        Silent(),
        out=folder,
        weights=folder / "other.pth",
        version="2.0",
        only=("onnx_fp32",),
    )
    second = open_artifact(exported.path)
    artifacts = {"1.0": tiny_table, "2.0": second, "3.0": wrong(second, tiny_table, folder)}
    return Archives(
        mars={version: pack(each, folder / "store") for version, each in artifacts.items()},
        answers={version: answer_of(each) for version, each in artifacts.items()},
    )


def wrong(artifact: Artifact, other: Artifact, folder: Path) -> Artifact:
    """The artifact as 3.0, with the outputs of another for its samples."""
    shutil.copytree(artifact.path, folder / "changed")
    file = file_of(artifact.manifest.outputs[0].name)
    (folder / "changed" / file).write_bytes((other.path / file).read_bytes())
    return retold(replace(artifact, path=folder / "changed"), folder / "third", version="3.0")


def answer_of(artifact: Artifact) -> list:
    manifest = artifact.manifest
    program = open_program(artifact, manifest.chosen, threads=1)
    logits = program.run([np.array([ROW], np.float32)])[0]
    return rank(logits, manifest.labels, manifest.top_k)[0]


def is_answer(found: list, expected: list) -> bool:
    return [each["label"] for each in found] == [each["label"] for each in expected] and all(
        abs(a["probability"] - b["probability"]) < 1e-6
        for a, b in zip(found, expected, strict=True)
    )


@pytest.fixture(scope="module")
def server(archives, tmp_path_factory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(archives.mars["1.0"].parent, folder / "model_store")
    with running_server(folder) as running:
        yield running


@pytest.fixture
def first(server, archives) -> Iterator[RunningServer]:
    """The server with 1.0 alone, and no history of anything else."""
    server.state.releases_file.unlink(missing_ok=True)
    register(server.state, archives.mars["1.0"])
    yield server
    [default] = [one for one in server.management.describe(MODEL) if one.default]
    for one in server.management.describe(MODEL):
        if not one.default:
            server.management.unregister(MODEL, one.version)
    server.management.unregister(MODEL, default.version)


def register(state: StateDirectory, mar: Path) -> None:
    info = inspect_mar(mar)
    with changing(state, f"registering {info.name} {info.version}") as rollout:
        rollout.register(info.name, info.version, version_of(info, mar.parent))


def promote(state: StateDirectory, version: str, because: str | None = None):
    with changing(state, f"promoting {MODEL} {version}") as rollout:
        return rollout.promote(MODEL, version, inspect=inspect_mar, because=because)


def default_of(server: RunningServer) -> str:
    [default] = [one.version for one in server.management.describe(MODEL) if one.default]
    return default


def versions_of(server: RunningServer) -> list[str]:
    return [one.version for one in server.management.describe(MODEL)]


def test_a_promotion_and_a_rollback_under_load_lose_no_request_and_give_no_wrong_answer(
    first, archives
):
    with load_on(first.state, MODEL, ROW, clients=CLIENTS) as load:
        until(lambda: len(load.answers) > CLIENTS or bool(load.errors))
        promoted = shipway(first.state, "promote", MODEL, "2.0", "--because", "better [weights]")
        promoted_at = time.monotonic()
        time.sleep(0.3)
        start = time.monotonic()
        with changing(first.state, "rolling back") as rollout:
            assert rollout.rollback(MODEL) == ("1.0", "2.0")
        rolled_back_at = time.monotonic()
        time.sleep(0.3)
    assert promoted.returncode == 0, promoted.stderr
    assert (
        "promoted tiny-table 2.0 (previous default: 1.0): 8 samples match the certificate"
        in promoted.stdout
    )
    assert load.errors == []
    for asked, found in load.answers:
        assert is_answer(found.value, archives.answers[found.version])
        if promoted_at < asked < start:
            assert found.version == "2.0"
        if asked > rolled_back_at:
            assert found.version == "1.0"
    assert {found.version for _, found in load.answers} == {"1.0", "2.0"}
    assert versions_of(first) == ["1.0", "2.0"]

    history = read_releases(first.state).models[MODEL].history
    assert [(each.what, each.version, each.default) for each in history] == [
        ("registered", "1.0", "1.0"),
        ("registered", "2.0", "1.0"),
        ("promoted", "2.0", "2.0"),
        ("rolled back", "1.0", "1.0"),
    ]
    assert history[2].digest == inspect_mar(archives.mars["2.0"]).digest
    printed = shipway(first.state, "releases", MODEL).stdout
    assert all(word in printed for word in ("better [weights]", "rolled back", history[2].by))


@pytest.mark.long
def test_a_rollback_is_over_in_two_seconds(first):
    promote(first.state, "2.0")
    with load_on(first.state, MODEL, ROW, clients=CLIENTS) as load:
        until(lambda: len(load.answers) > CLIENTS or bool(load.errors))
        start = time.monotonic()
        with changing(first.state, "rolling back") as rollout:
            assert rollout.rollback(MODEL) == ("1.0", "2.0")
        took_s = time.monotonic() - start
    assert took_s < ROLLED_BACK_WITHIN_S


def test_a_version_that_does_not_answer_as_certified_is_not_promoted_and_leaves_again(first):
    refused = shipway(first.state, "promote", MODEL, "3.0")
    assert refused.returncode == 1
    assert "3.0 was not promoted: on 8 samples its output " in refused.stderr
    assert "has a relative error of" in refused.stderr.replace("\n", " ")
    assert versions_of(first) == ["1.0"]
    assert default_of(first) == "1.0"


def test_a_version_that_was_registered_before_it_was_refused_stays_beside_the_default(
    first, archives
):
    register(first.state, archives.mars["3.0"])
    with pytest.raises(NotPromoted, match="its certificate allows onnx_fp32 an error of 0.0001"):
        promote(first.state, "3.0")
    assert versions_of(first) == ["1.0", "3.0"]
    assert default_of(first) == "1.0"


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(first):
    def attempt(version: str):
        try:
            return promote(first.state, version)
        except ChangeUnderWay as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, ("2.0", "2.0")))
    [told] = [each for each in outcomes if isinstance(each, ChangeUnderWay)]
    assert "has been promoting tiny-table 2.0 since" in str(told)
    assert default_of(first) == "2.0"


def test_a_rollback_repeated_goes_further_back_and_ends_with_an_error(first):
    promote(first.state, "2.0")
    assert promote(first.state, "2.0").previous == "2.0"  # which changes nothing
    assert (
        "rolled back tiny-table from 2.0 to 1.0" in shipway(first.state, "rollback", MODEL).stdout
    )
    again = shipway(first.state, "rollback", MODEL)
    assert again.returncode == 1
    assert "tiny-table has no earlier default version that is still registered" in again.stderr
    assert default_of(first) == "1.0"


def test_a_fallback_that_was_unregistered_is_none(first):
    promote(first.state, "2.0")
    assert shipway(first.state, "unregister", MODEL, "1.0").returncode == 0
    with pytest.raises(NoFallback), changing(first.state, "rolling back") as rollout:
        rollout.rollback(MODEL)
    assert default_of(first) == "2.0"


def test_what_was_done_by_other_means_is_told_and_noted_at_the_next_change(first, archives):
    info = inspect_mar(archives.mars["2.0"])
    first.management.register(
        info.path.name,
        name=MODEL,
        version="2.0",
        batch_size=2,
        max_batch_delay_ms=5,
        workers=1,
    )
    first.management.promote(MODEL, "2.0")
    told = shipway(first.state, "models").stderr
    assert "tiny-table 2.0 was registered without Shipway" in told
    assert "the default of tiny-table is 2.0; the record says 1.0" in told

    assert shipway(first.state, "rollback", MODEL).returncode == 0
    release = read_releases(first.state).models[MODEL]
    assert [(each.what, each.version, each.default) for each in release.history[1:]] == [
        ("found", "2.0", "2.0"),
        ("rolled back", "1.0", "1.0"),
    ]
    assert release.versions["2.0"].digest == info.digest
    assert release.versions["2.0"].batch_size == 2
    assert shipway(first.state, "models").stderr == ""


def test_a_version_is_unregistered_when_it_has_answered(server, tmp_path):
    """Two workers, each with a request in its hands, and more in the queue."""
    mar = build_mar(tmp_path, "slow", "1.0", SLOW)
    shutil.copy(mar, server.model_store)
    server.management.register(
        mar.name, name="slow", version="1.0", batch_size=1, max_batch_delay_ms=0, workers=2
    )
    with ThreadPoolExecutor(7) as pool:
        asked = [pool.submit(server.inference.predict, "slow", b"x") for _ in range(7)]
        until(lambda: server.management.describe("slow")[0].requests_waiting > 0)
        with changing(server.state, "unregistering slow 1.0") as rollout:
            assert rollout.unregister("slow", "1.0")
        assert [each.result() for each in asked] == ["answered"] * 7
    assert "slow" not in server.management.names()


def readyz(server: RunningServer) -> tuple[int, str]:
    answer = httpx.get(f"{server.record.addresses.exporter}/readyz", trust_env=False)
    return answer.status_code, answer.text


def test_ready_is_a_server_whose_defaults_are_warm(first, archives, tmp_path):
    assert ask_why_not_ready(first.state) == []
    assert shipway(first.state, "ready").stdout == "ready\n"
    until(lambda: readyz(first) == (200, "ready\n"))  # the exporter asks every few seconds
    # What TorchServe has started: a worker alone would be replaced before anybody sees it.
    for process in [each for each in first.processes() if is_worker(each)]:
        process.kill()
    until(lambda: ask_why_not_ready(first.state) != [])
    [reason] = ask_why_not_ready(first.state)
    assert reason == "tiny-table 1.0 (the default version): 0 of 1 workers are ready"
    assert shipway(first.state, "ready", MODEL, "--wait", "30").returncode == 0

    assert ask_why_not_ready(first.state, "nothing") == ["nothing is not registered"]
    nowhere = shipway(StateDirectory(tmp_path / "nowhere"), "ready")
    assert nowhere.returncode == 1
    assert "not ready: No server is running for" in nowhere.stderr


@pytest.fixture
def crashed(archives, tmp_path) -> Iterator[StateDirectory]:
    """What a server that was killed left: 2.0 the default, 1.0 its fallback."""
    shutil.copytree(archives.mars["1.0"].parent, tmp_path / "model_store")
    state = StateDirectory(tmp_path / ".shipway")
    launched = launch.start(
        read_config(write_config(tmp_path)),
        java=find_java(),
        model_store=tmp_path / "model_store",
        state=state,
        dies_with_us=True,
    )
    info = inspect_mar(archives.mars["1.0"])
    with changing(state, "registering") as rollout:
        settings = version_of(info, tmp_path, batch_size=3, max_batch_delay_ms=7)
        rollout.register(MODEL, "1.0", settings)
    promote(state, "2.0")
    os.kill(launched.record.pid, signal.SIGKILL)
    launched.process.wait()
    yield state
    if state.running():
        launch.stop(state)


def described(state: StateDirectory) -> list[tuple]:
    with closing(ManagementClient(state)) as management:
        return [
            (one.version, one.default, one.batch_size, one.max_batch_delay_ms, one.workers)
            for one in management.describe(MODEL)
        ]


def test_after_a_crash_the_same_versions_defaults_and_settings_are_served(crashed, archives):
    before = read_releases(crashed)
    served = shipway(crashed, "serve", "--background")
    assert served.returncode == 0, served.stderr
    settings = inspect_mar(archives.mars["2.0"])
    assert described(crashed) == [
        ("1.0", False, 3, 7, 1),
        ("2.0", True, settings.batch_size, settings.max_batch_delay_ms, settings.workers),
    ]
    assert read_releases(crashed) == before
    assert ask_why_not_ready(crashed) == []
    with closing(HttpPredictor(crashed)) as predictor:
        found = predictor.predict(MODEL, json.dumps(ROW).encode(), content_type="application/json")
    assert is_answer(found, archives.answers["2.0"])
    assert shipway(crashed, "rollback", MODEL).returncode == 0


@pytest.fixture
def stopped(archives, tmp_path) -> Iterator[StateDirectory]:
    """No server; 2.0 should be served, with 1.0 as its fallback."""
    shutil.copytree(archives.mars["1.0"].parent, tmp_path / "model_store")
    write_config(tmp_path)
    state = StateDirectory(tmp_path / ".shipway")
    state.path.mkdir()
    versions = {
        version: version_of(inspect_mar(archives.mars[version]), tmp_path)
        for version in ("1.0", "2.0")
    }
    release = Release(versions=versions, default="2.0", before=("1.0",))
    write_releases(state, Releases(models={MODEL: release}))
    yield state
    if state.running():
        launch.stop(state)


def test_an_archive_that_changed_is_told_and_the_other_versions_come_back(stopped):
    (stopped.path.parent / "model_store" / f"{MODEL}-2.0.mar").write_bytes(b"another")
    served = shipway(stopped, "serve", "--background")
    assert served.returncode == 1
    assert "tiny-table 2.0 was not restored: The archive" in served.stderr
    assert "is not the file that was registered" in served.stderr
    assert [(version, default) for version, default, *_ in described(stopped)] == [("1.0", False)]
    [reason] = ask_why_not_ready(stopped)
    assert reason.startswith("tiny-table 2.0 (the default version) is not registered: The archive")
    assert read_releases(stopped).models[MODEL].default == "2.0"
    # What is wanted is what can be served, once somebody says so.
    assert shipway(stopped, "unregister", MODEL, "2.0").returncode == 0
    [reason] = ask_why_not_ready(stopped)
    assert reason.startswith("tiny-table has no default version.")
    back = shipway(stopped, "rollback", MODEL)
    assert back.stdout == "rolled back tiny-table to 1.0\n"
    assert ask_why_not_ready(stopped) == []


def test_a_server_may_start_afresh_and_with_an_archive_of_its_own(stopped, archives):
    stopped.releases_file.write_text("{")
    damaged = shipway(stopped, "serve", "--background")
    assert damaged.returncode == 1
    assert "releases.json cannot be read" in damaged.stderr
    assert not stopped.running()

    mar = str(archives.mars["1.0"])
    served = shipway(stopped, "serve", "--background", "--fresh", "--register", mar)
    assert served.returncode == 0, served.stderr
    [aside] = stopped.path.glob("releases-until-*.json")
    assert aside.read_text() == "{"
    assert [(version, default) for version, default, *_ in described(stopped)] == [("1.0", True)]


def test_sigterm_is_obeyed_when_what_was_asked_is_answered(tmp_path):
    mar = build_mar(tmp_path, "slow", "1.0", SLOW)
    with running_server(tmp_path) as running:
        shutil.copy(mar, running.model_store)
        running.management.register(
            mar.name, name="slow", version="1.0", batch_size=1, max_batch_delay_ms=0, workers=1
        )
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(running.inference.predict, "slow", b"x") for _ in range(5)]
            until(lambda: running.management.describe("slow")[0].requests_waiting >= 3)
            stopped = pool.submit(launch.stop, running.state)
            until(running.state.stopping_file.exists)
            assert ask_why_not_ready(running.state) == ["the server is stopping"]
            assert readyz(running) == (503, "the server is stopping\n")
            assert [each.result() for each in asked] == ["answered"] * 5
            stopped.result()
