"""Nothing becomes the default of a model that nobody promoted, on the real server."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.archive.store import stored
from shipway.artifact.bundle import Artifact
from shipway.artifact.samples import file_of
from shipway.engines.errors import ModelNotFound
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve import launch
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.tokens import bearer, tokens_of
from shipway.releases.errors import NoFallback, NotPromoted
from shipway.releases.history import Release, Releases, read_releases, write_releases
from shipway.releases.readiness import ask_why_not_ready
from shipway.releases.rollout import changing
from shipway.releases.settings import version_of
from tests.conftest import retold
from tests.servers import SHIPWAY, RunningServer, running_server, shipway, until, write_config

MODEL = "tiny-table"
ROW = json.dumps([0.3, -1.2, 0.8, 0.1, 2.0])


@pytest.fixture(scope="module")
def store(tiny_table: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.0 and 2.0 of one network, and 3.0, whose certified outputs it does not give."""
    folder = tmp_path_factory.mktemp("versions")
    shutil.copytree(tiny_table.path, folder / "wrong")
    sample = folder / "wrong" / file_of(tiny_table.manifest.outputs[0].name)
    np.save(sample, -np.load(sample))
    wrong = replace(tiny_table, path=folder / "wrong")
    pack(tiny_table, folder / "store")
    pack(retold(tiny_table, folder / "second", version="2.0"), folder / "store")
    pack(retold(wrong, folder / "third", version="3.0"), folder / "store")
    return folder / "store"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def empty(server: RunningServer) -> Iterator[StateDirectory]:
    """A server without models and without a history."""
    server.state.releases_file.unlink(missing_ok=True)
    yield server.state
    try:
        versions = server.management.describe(MODEL)
    except ModelNotFound:
        return
    for one in sorted(versions, key=lambda version: version.default):
        unregister(server.state, one.version)


def register(state: StateDirectory, store: Path, version: str) -> None:
    info = inspect_mar(store / f"{MODEL}-{version}.mar")
    own = Path(state.require_running().model_store)
    with (
        changing(state, f"registering {version}") as rollout,
        stored(info.path, own, digest=info.digest),
    ):
        rollout.register(MODEL, version, version_of(info, own))


def promote(state: StateDirectory, version: str) -> None:
    with changing(state, f"promoting {version}") as rollout:
        rollout.promote(MODEL, version, inspect=inspect_mar)


def unregister(state: StateDirectory, version: str) -> None:
    with changing(state, f"unregistering {version}") as rollout:
        rollout.unregister(MODEL, version)


def served(state: StateDirectory) -> dict[str, bool]:
    """By version, whether it is the default."""
    with closing(ManagementClient(state)) as management:
        try:
            return {one.version: one.default for one in management.describe(MODEL)}
        except ModelNotFound:
            return {}


def answer_of(state: StateDirectory, path: str = f"/predictions/{MODEL}") -> httpx.Response:
    """What any client gets from the inference API."""
    record = state.require_running()
    return httpx.post(
        f"{record.addresses.inference}{path}",
        content=ROW,
        headers=bearer(tokens_of(state, record).get("inference"))
        | {"content-type": "application/json"},
        timeout=30,
        trust_env=False,
    )


def manage(state: StateDirectory, method: str, path: str) -> httpx.Response:
    """What any client gets from the management API."""
    record = state.require_running()
    return httpx.request(
        method,
        f"{record.addresses.management}{path}",
        headers=bearer(tokens_of(state, record).get("management")),
        timeout=30,
        trust_env=False,
    )


@pytest.fixture
def stopped(store: Path, tmp_path: Path) -> Iterator[StateDirectory]:
    """No server; 2.0 should be served with settings of its own, beside 1.0."""
    own = shutil.copytree(store, tmp_path / "model_store")
    write_config(tmp_path)
    state = StateDirectory(tmp_path / ".shipway")
    state.path.mkdir()
    versions = {
        "1.0": version_of(inspect_mar(own / f"{MODEL}-1.0.mar"), own),
        "2.0": version_of(inspect_mar(own / f"{MODEL}-2.0.mar"), own, batch_size=3),
    }
    release = Release(versions=versions, default="2.0", before=("1.0",))
    write_releases(state, Releases(models={MODEL: release}))
    yield state
    if state.running():
        launch.stop(state)


def test_a_missing_default_is_told_to_every_request_until_its_archive_is_back(stopped, store):
    recorded = read_releases(stopped)
    missing = stopped.path.parent / "model_store" / f"{MODEL}-2.0.mar"
    missing.unlink()
    started = shipway(stopped, "serve", "--background")
    assert started.returncode == 1
    assert "tiny-table 2.0 was not restored: The archive" in started.stderr

    assert served(stopped) == {"1.0": False}
    for path in (f"/predictions/{MODEL}", f"/v2/models/{MODEL}/infer"):
        refused = answer_of(stopped, path)
        assert (refused.status_code, refused.json()["type"]) == (503, "NoDefaultVersion")
        assert "2.0 could not be restored" in refused.json()["message"]
    assert answer_of(stopped, f"/predictions/{MODEL}/1.0").status_code == 200
    not_ready = shipway(stopped, "ready")
    assert not_ready.returncode == 1
    assert "2.0 (the default version) is not registered: The archive" in not_ready.stderr
    assert f"{missing.name} is missing" in not_ready.stderr.replace("\n", "")

    # A registration by other means does not take its place.
    unregister(stopped, "1.0")
    url = f"/models?url={MODEL}-1.0.mar&initial_workers=1&synchronous=true"
    assert manage(stopped, "POST", url).is_success
    assert served(stopped) == {"1.0": False}
    assert answer_of(stopped).status_code == 503
    assert read_releases(stopped).models[MODEL].default == "2.0"

    shutil.copy(store / missing.name, missing)
    back = shipway(stopped, "register", missing)
    assert back.returncode == 0, back.stderr
    assert "it is the default version; 8 samples match the certificate" in back.stdout
    assert served(stopped) == {"1.0": False, "2.0": True}
    assert answer_of(stopped).headers["shipway-version"] == "2.0"
    assert ask_why_not_ready(stopped) == []
    release = read_releases(stopped).models[MODEL]
    assert release.versions["2.0"] == recorded.models[MODEL].versions["2.0"]
    assert release.default == "2.0"
    assert {event.default for event in release.history} == {"2.0"}


def test_a_first_version_that_does_not_answer_as_certified_is_not_registered(empty, server, store):
    with pytest.raises(NotPromoted, match=r"3\.0 was not registered: on 8 samples its output"):
        register(empty, store, "3.0")
    assert manage(empty, "GET", f"/models/{MODEL}").status_code == 404
    assert not list(server.model_store.glob("*.mar"))
    assert read_releases(empty).models == {}

    register(empty, store, "1.0")
    assert served(empty) == {"1.0": True}
    assert answer_of(empty).status_code == 200


def test_a_first_registration_that_is_killed_leaves_no_default(empty, store):
    words = ["register", store / f"{MODEL}-3.0.mar", "--state", empty.path]
    with subprocess.Popen([*SHIPWAY, *words], cwd=empty.path.parent) as process:
        until(lambda: "3.0" in served(empty), within_s=60)
        process.send_signal(signal.SIGKILL)
    assert served(empty) == {"3.0": False}
    until(lambda: answer_of(empty, f"/predictions/{MODEL}/3.0").status_code == 200)
    assert answer_of(empty).status_code == 503
    [reason] = ask_why_not_ready(empty)
    assert reason.startswith("tiny-table has no default version.")
    with pytest.raises(NotPromoted):
        promote(empty, "3.0")
    assert served(empty) == {"3.0": False}


def test_a_rollback_after_a_default_was_set_by_other_means_never_goes_forward(empty, server, store):
    shutil.copy(store / f"{MODEL}-2.0.mar", server.model_store)
    register(empty, store, "1.0")
    promote(empty, "2.0")
    assert manage(empty, "PUT", f"/models/{MODEL}/1.0/set-default").is_success
    with pytest.raises(NoFallback), changing(empty, "rolling back") as rollout:
        rollout.rollback(MODEL)
    assert served(empty) == {"1.0": True, "2.0": False}

    # To a version that was never the default, it is a promotion.
    assert manage(empty, "PUT", f"/models/{MODEL}/2.0/set-default").is_success
    with changing(empty, "rolling back") as rollout:
        assert rollout.rollback(MODEL) == ("1.0", "2.0")
    assert served(empty) == {"1.0": True, "2.0": False}
