"""The whole life of versions on an engine that the package knows nothing of."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shipway.archive.errors import StoreError
from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.artifact.samples import file_of
from shipway.engines import ENGINES
from shipway.engines.connection import connect
from shipway.engines.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    NoServer,
    PredictionFailed,
    UnsupportedByEngine,
)
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


def restore(state: StateDirectory) -> dict[str, bool]:
    """By version, whether it was restored."""
    with changing(state, "restoring") as rollout:
        return {version: error is None for _, version, error in rollout.restore(lambda doing: None)}


def refusal(state: StateDirectory) -> str:
    """What a request that names no version gets from a model without a default."""
    with pytest.raises(PredictionFailed) as refused:
        connect(state).infer(MODEL, {})
    assert refused.value.code == 503
    return str(refused.value)


def test_a_default_that_cannot_be_restored_leaves_no_other_in_its_place_until_it_is_registered(
    state, store, tmp_path
):
    own = shutil.copytree(store, tmp_path / "own")
    with toy_server(state, own, "before the loss"):
        register(state, own, "1.0")
        promote(state, "2.0")
    recorded = read_releases(state)
    (own / f"{MODEL}-2.0.mar").unlink()
    with toy_server(state, own, "after the loss"):
        assert restore(state) == {"2.0": False, "1.0": True}
        assert served(state) == {"1.0": False}
        assert "2.0 could not be restored" in refusal(state)
        [reason] = ask_why_not_ready(state)
        assert reason.startswith(
            f"{MODEL} 2.0 (the default version) is not registered: The archive"
        )
        assert "is missing" in reason
        assert read_releases(state) == recorded
        # Others come and go; none of them becomes the default.
        register(state, own, "3.0")
        with changing(state, "unregistering") as rollout:
            for version in ("3.0", "1.0"):
                rollout.unregister(MODEL, version)
        assert "2.0 could not be restored" in refusal(state)
        assert ask_why_not_ready(state) == [reason]
        register(state, own, "1.0")
        assert served(state) == {"1.0": False}

        shutil.copy(store / f"{MODEL}-2.0.mar", own)
        register(state, own, "2.0")
        assert served(state) == {"1.0": False, "2.0": True}
        assert ask_why_not_ready(state) == []
    assert "found" not in {each.what for each in read_releases(state).models[MODEL].history}


def test_a_missing_default_can_be_rolled_back_or_replaced_by_a_promotion(state, store, tmp_path):
    own = shutil.copytree(store, tmp_path / "own")
    with toy_server(state, own, "whole"):
        register(state, own, "1.0")
        promote(state, "2.0")
    (own / f"{MODEL}-2.0.mar").unlink()
    with toy_server(state, own, "rolled back"):
        restore(state)
        with changing(state, "rolling back") as rollout:
            assert rollout.rollback(MODEL) == ("1.0", "2.0")
        assert served(state) == {"1.0": True}
        assert ask_why_not_ready(state) == []
    shutil.copy(store / f"{MODEL}-2.0.mar", own)
    (own / f"{MODEL}-1.0.mar").unlink()
    with toy_server(state, own, "promoted"):
        assert restore(state) == {"1.0": False, "2.0": True}
        assert served(state) == {"2.0": False}
        promote(state, "2.0")
        assert served(state) == {"2.0": True}
        assert ask_why_not_ready(state) == []


def test_the_only_version_of_a_model_can_be_missing_too(state, store, tmp_path):
    own = shutil.copytree(store, tmp_path / "own")
    with toy_server(state, own, "one version"):
        register(state, own, "1.0")
    (own / f"{MODEL}-1.0.mar").unlink()
    with toy_server(state, own, "no version"):
        assert restore(state) == {"1.0": False}
        assert "1.0 could not be restored" in refusal(state)
        assert "is missing" in ask_why_not_ready(state)[0]
        register(state, own, "2.0")
        assert served(state) == {"2.0": False}
        with changing(state, "unregistering") as rollout:
            for version in ("1.0", "2.0"):
                rollout.unregister(MODEL, version)
        assert ask_why_not_ready(state) == ["no model is registered"]
        with pytest.raises(ModelNotFound):
            connect(state).infer(MODEL, {})


def test_a_default_that_is_given_up_leaves_a_model_without_one(state, store, tmp_path):
    own = shutil.copytree(store, tmp_path / "own")
    with toy_server(state, own, "with it"):
        register(state, own, "1.0")
        promote(state, "2.0")
    (own / f"{MODEL}-2.0.mar").unlink()
    with toy_server(state, own, "without it"):
        restore(state)
        with changing(state, "unregistering") as rollout:
            rollout.unregister(MODEL, "2.0")
        assert served(state) == {"1.0": False}
        assert ask_why_not_ready(state) == [
            f"{MODEL} has no default version. Make one the default with `shipway promote {MODEL} "
            "1.0`"
        ]
        with changing(state, "rolling back") as rollout:
            assert rollout.rollback(MODEL) == ("1.0", None)
        assert ask_why_not_ready(state) == []


def test_a_default_that_was_replaced_by_another_archive_is_not_taken_for_it(state, store, tmp_path):
    own = shutil.copytree(store, tmp_path / "own")
    with toy_server(state, own, "the archive"):
        register(state, own, "1.0")
        promote(state, "2.0")
    # Of the same name and version, and a good one of its own.
    mar = own / f"{MODEL}-2.0.mar"
    other = retold(
        unpacked(mar, tmp_path / "unpacked"), tmp_path / "other", labels=("other", "words", "here")
    )
    mar.unlink()
    pack(other, own)
    with toy_server(state, own, "another archive"):
        assert restore(state) == {"2.0": False, "1.0": True}
        for change in (lambda: register(state, own, "2.0"), lambda: promote(state, "2.0")):
            with pytest.raises(StoreError, match="Versions are immutable"):
                change()
        assert served(state) == {"1.0": False}
        assert "is not the file that was registered" in ask_why_not_ready(state)[0]


def unpacked(mar: Path, folder: Path) -> Artifact:
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(folder)
    return open_artifact(folder / "artifact")


def test_a_first_version_is_compared_as_one_that_is_promoted_and_leaves_if_it_differs(state, store):
    with toy_server(state, store, "first version"):
        with pytest.raises(NotPromoted, match=r"3\.0 was not registered: on 8 samples"):
            register(state, store, "3.0")
        assert connect(state).versions() == []
        assert read_releases(state).models == {}
        register(state, store, "1.0")
        assert served(state) == {"1.0": True}
        with pytest.raises(NotPromoted, match=r"3\.0 was not promoted"):
            promote(state, "3.0")
        assert served(state) == {"1.0": True}


def test_a_first_promotion_that_fails_leaves_no_default(state, store):
    with toy_server(state, store, "first promotion"):
        with pytest.raises(NotPromoted):
            promote(state, "3.0")
        assert connect(state).versions() == []
        promote(state, "1.0")
        assert served(state) == {"1.0": True}


@pytest.mark.parametrize(
    ("found", "expected"), [("2.0", "1.0"), ("1.0", None), ("4.0", "5.0"), ("5.0", "2.0")]
)
def test_a_rollback_goes_back_from_the_default_that_somebody_set_by_other_means(
    state, store, tiny_table, tmp_path, found, expected
):
    """1.0, 2.0 and 5.0 were the default, in this order; 4.0 never was."""
    own = shutil.copytree(store, tmp_path / "own")
    for version in ("4.0", "5.0"):
        pack(retold(tiny_table, tmp_path / version, version=version), own)
    with toy_server(state, own, f"set to {found}"):
        for version in ("1.0", "4.0"):
            register(state, own, version)
        for version in ("2.0", "5.0"):
            promote(state, version)
        connect(state).set_default(MODEL, found)
        with changing(state, "rolling back") as rollout:
            if expected:
                assert rollout.rollback(MODEL) == (expected, found)
            else:
                with pytest.raises(NoFallback):
                    rollout.rollback(MODEL)
        assert served(state)[expected or found]


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
