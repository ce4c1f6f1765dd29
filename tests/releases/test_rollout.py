"""The whole life of versions on an engine that the package knows nothing of."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.artifact.samples import file_of
from shipway.engines import ENGINES
from shipway.engines.connection import connect
from shipway.engines.errors import DefaultVersionInUse, NoServer, UnsupportedByEngine
from shipway.engines.state import StateDirectory
from shipway.registry import UnknownName
from shipway.releases.differences import differences
from shipway.releases.errors import NoFallback, NotPromoted
from shipway.releases.history import read_releases
from shipway.releases.readiness import ask_why_not_ready
from shipway.releases.rollout import changing
from shipway.releases.settings import version_of
from tests.conftest import retold
from tests.releases.toy_engine import toy_server

MODEL = "tiny-table"


@pytest.fixture(scope="module")
def store(tiny_table: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.0 and 2.0 of one network, and 3.0, whose certified outputs it does not give."""
    folder = tmp_path_factory.mktemp("versions")
    store = folder / "store"
    pack(tiny_table, store)
    pack(retold(tiny_table, folder / "second", version="2.0"), store)
    shutil.copytree(tiny_table.path, folder / "wrong")
    sample = folder / "wrong" / file_of(tiny_table.manifest.outputs[0].name)
    np.save(sample, -np.load(sample))
    wrong = replace(tiny_table, path=folder / "wrong")
    pack(retold(wrong, folder / "third", version="3.0"), store)
    return store


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path)


def register(state: StateDirectory, store: Path, version: str) -> None:
    info = inspect_mar(store / f"{MODEL}-{version}.mar")
    with changing(state, f"registering {version}") as rollout:
        rollout.register(MODEL, version, version_of(info, store))


def promote(state: StateDirectory, version: str) -> str:
    with changing(state, f"promoting {version}") as rollout:
        return rollout.promote(MODEL, version, inspect=inspect_mar).compared


def served(state: StateDirectory) -> dict[str, bool]:
    """By version, whether it is the default."""
    return {one.version: one.default for one in connect(state).versions(MODEL)}


def test_versions_are_registered_promoted_rolled_back_and_unregistered_on_any_engine(state, store):
    with toy_server(state, store, "life"):
        assert ask_why_not_ready(state) == ["no model is registered"]
        register(state, store, "1.0")
        assert ask_why_not_ready(state) == []
        assert "8 samples match the certificate" in promote(state, "2.0")
        assert served(state) == {"1.0": False, "2.0": True}
        with changing(state, "rolling back") as rollout:
            assert rollout.rollback(MODEL) == ("1.0", "2.0")
        assert served(state) == {"1.0": True, "2.0": False}
        with changing(state, "unregistering") as rollout:
            with pytest.raises(DefaultVersionInUse):
                rollout.unregister(MODEL, "1.0")
            assert rollout.unregister(MODEL, "2.0")
            with pytest.raises(NoFallback):
                rollout.rollback(MODEL)
        assert served(state) == {"1.0": True}
        assert (
            differences(MODEL, read_releases(state).models[MODEL], connect(state).versions()) == []
        )
    assert [
        (each.what, each.version, each.default)
        for each in read_releases(state).models[MODEL].history
    ] == [
        ("registered", "1.0", "1.0"),
        ("registered", "2.0", "1.0"),
        ("promoted", "2.0", "2.0"),
        ("rolled back", "1.0", "1.0"),
        ("unregistered", "2.0", "1.0"),
    ]


def test_a_version_that_does_not_give_its_certified_outputs_is_not_promoted_and_leaves(
    state, store
):
    with toy_server(state, store, "refused"):
        register(state, store, "1.0")
        with pytest.raises(NotPromoted, match="its certificate allows"):
            promote(state, "3.0")
        assert served(state) == {"1.0": True}


def test_a_server_that_is_started_anew_gets_back_what_was_served(state, store):
    with toy_server(state, store, "first"):
        register(state, store, "1.0")
        promote(state, "2.0")
    with toy_server(state, store, "second"):
        assert ask_why_not_ready(state) == [f"{MODEL} is not registered"]
        with changing(state, "restoring") as rollout:
            restored = list(rollout.restore(lambda doing: None))
        assert restored == [(MODEL, "2.0", None), (MODEL, "1.0", None)]
        assert served(state) == {"1.0": False, "2.0": True}
        assert ask_why_not_ready(state) == []


def test_what_an_engine_cannot_do_is_said_and_changes_nothing(state, store):
    with toy_server(state, store, "scaled"):
        register(state, store, "1.0")
        before = read_releases(state)
        with (
            changing(state, "scaling") as rollout,
            pytest.raises(UnsupportedByEngine, match="The toy engine has one worker a version"),
        ):
            rollout.scale(MODEL, "1.0", 2)
        assert read_releases(state) == before


def test_without_a_server_nothing_can_be_changed(state):
    with pytest.raises(NoServer), changing(state, "promoting"):
        pass


def test_an_engine_that_is_not_installed_is_named_beside_those_that_are():
    with pytest.raises(
        UnknownName, match=r"no engine named 'abacus'.*ray, torchserve.*shipway\.engines"
    ):
        ENGINES.get("abacus")
