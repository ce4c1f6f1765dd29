"""A server that is brought from one models file to the next while it answers."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.artifact.samples import file_of
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.management import ManagementClient
from shipway.releases.history import read_releases
from shipway.releases.readiness import ask_why_not_ready
from tests.conftest import retold
from tests.end_to_end.test_releases import CLIENTS, MODEL, ROW, shipway
from tests.load import load_on
from tests.servers import SHIPWAY, until, write_config

Described = set[tuple[str, str, bool, int, int]]


@pytest.fixture(scope="module")
def mars(tiny_table, tiny_array, tmp_path_factory) -> dict[str, Path]:
    """1.0 and 2.0 of a model; 3.0, which does not answer as certified; another model."""
    folder = tmp_path_factory.mktemp("archives")
    second = retold(tiny_table, folder / "second", version="2.0")
    third = retold(doubled(tiny_table, folder / "doubled"), folder / "third", version="3.0")
    artifacts = {"1.0": tiny_table, "2.0": second, "3.0": third, "array": tiny_array}
    return {key: pack(each, folder / "archives") for key, each in artifacts.items()}


def doubled(artifact: Artifact, folder: Path) -> Artifact:
    """The artifact, certified with twice the outputs that it gives."""
    shutil.copytree(artifact.path, folder)
    outputs = folder / file_of(artifact.manifest.outputs[0].name)
    np.save(outputs, 2 * np.load(outputs))
    return replace(artifact, path=folder)


@contextmanager
def served(folder: Path) -> Iterator[StateDirectory]:
    """`shipway serve --models models.yaml` in the foreground, started and not yet ready."""
    write_config(folder)
    state = StateDirectory(folder / ".shipway")
    command = [*SHIPWAY, "serve", "--models", "models.yaml"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            yield state
        finally:
            process.send_signal(signal.SIGTERM)


def write(folder: Path, *models: dict[str, object]) -> None:
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": list(models)}))


def one(mars: dict[str, Path], version: str, **settings: object) -> dict[str, object]:
    return {"name": MODEL, "version": version, "archive": str(mars[version])} | settings


def described(state: StateDirectory) -> Described:
    with closing(ManagementClient(state)) as management:
        return {
            (each.name, each.version, each.default, each.workers_ready, each.batch_size)
            for each in management.models()
        }


@pytest.fixture(scope="module")
def running(mars, tmp_path_factory) -> Iterator[StateDirectory]:
    folder = tmp_path_factory.mktemp("served")
    write(folder, one(mars, "1.0", workers=1, batch_size=4))
    with served(folder) as state:
        until(lambda: ask_why_not_ready(state) == [], within_s=120)
        yield state


def test_a_file_edited_three_times_is_reached_each_time_and_no_request_is_lost(running, mars):
    folder = running.path.parent
    assert described(running) == {(MODEL, "1.0", True, 1, 4)}
    first = one(mars, "1.0", workers=1, batch_size=4)
    second = one(mars, "2.0", workers=1, batch_size=4, default=True)
    with load_on(running, MODEL, ROW, clients=CLIENTS) as load:
        write(folder, first, second)
        shown = shipway(running, "apply", "models.yaml", "--dry-run")
        assert "+" not in shown.stdout and "make it the default instead of 1.0" in shown.stdout
        assert described(running) == {(MODEL, "1.0", True, 1, 4)}, "a dry run"

        done = shipway(running, "apply", "models.yaml")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(shown.stdout), "it is shown before it is done"
        assert f"promoted {MODEL} 2.0" in done.stdout
        assert described(running) == {(MODEL, "1.0", False, 1, 4), (MODEL, "2.0", True, 1, 4)}

        array = {"name": "tiny-array", "version": "1.0", "archive": str(mars["array"])}
        write(folder, second | {"workers": 2}, array | {"batch_size": 3})
        done = shipway(running, "apply", "models.yaml", "--because", "more [load]")
        assert done.returncode == 0, done.stderr
        assert "2 workers instead of 1" in done.stdout
        assert described(running) == {(MODEL, "2.0", True, 2, 4), ("tiny-array", "1.0", True, 1, 3)}

        # Back, and with other settings, which a version takes while it is not the default.
        write(folder, first | {"batch_size": 2, "default": True}, second | {"default": False})
        done = shipway(running, "apply", "models.yaml")
        assert done.returncode == 0, done.stderr
        assert described(running) == {(MODEL, "1.0", True, 1, 2), (MODEL, "2.0", False, 1, 4)}
    assert load.errors == []
    assert {found.version for _, found in load.answers} == {"1.0", "2.0"}
    applied = shipway(running, "apply", "models.yaml").stdout
    assert "the server already matches models.yaml" in applied
    history = read_releases(running).models[MODEL].history
    assert [(each.what, each.version) for each in history] == [
        *(("registered", "1.0"), ("promoted", "1.0")),
        *(("registered", "2.0"), ("promoted", "2.0")),
        *(("scaled", "2.0"), ("unregistered", "1.0")),
        *(("registered", "1.0"), ("promoted", "1.0")),
        *(("unregistered", "2.0"), ("registered", "2.0")),
    ]
    assert history[4].because == "more [load]" and history[0].because == "models.yaml"
    assert shipway(running, "models").stderr == "", "what is noted is what there is"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"wokers": 2}, "wokers"),
        ({"version": 1.0}, "in quotes"),
        ({"archive": "gone.mar"}, "gone.mar does not exist"),
        ({"name": "other"}, "contains tiny-table 1.0, but the models file says other 1.0"),
        ({"sha256": "0" * 64}, "expected 000000000000…"),
        ({"batch_size": 10_000}, "runs at most 4 rows at once"),
    ],
)
def test_a_file_that_cannot_be_served_changes_nothing(running, mars, change, told):
    before = described(running), read_releases(running)
    write(running.path.parent, one(mars, "1.0") | change)
    done = shipway(running, "apply", "models.yaml")
    assert done.returncode == 1
    assert told in " ".join(done.stderr.split())
    assert (described(running), read_releases(running)) == before


def test_another_archive_under_a_version_that_is_served_changes_nothing(running, mars, tmp_path):
    before = described(running)
    with (running.path.parent / "models.yaml").open("w") as file:
        again = tmp_path / mars["1.0"].name
        again.write_bytes(mars["1.0"].read_bytes())
        yaml.safe_dump({"models": [one(mars, "1.0") | {"archive": str(again)}]}, file)
    stored = running.path.parent / "model_store" / again.name
    kept = stored.read_bytes()
    stored.write_bytes(b"another")
    done = shipway(running, "apply", "models.yaml")
    stored.write_bytes(kept)
    assert done.returncode == 1 and "Archives in the model store are immutable" in done.stderr
    assert described(running) == before


def test_a_default_that_does_not_answer_as_certified_leaves_the_old_one(running, mars):
    shipway(running, "rollback", MODEL)
    write(running.path.parent, one(mars, "2.0"))
    assert shipway(running, "apply", "models.yaml", "--interrupt").returncode == 0
    before = described(running)
    write(running.path.parent, one(mars, "3.0"))
    done = shipway(running, "apply", "models.yaml")
    assert done.returncode == 1
    assert f"{MODEL} 3.0 was not promoted" in done.stderr and "relative error" in done.stderr
    assert described(running) == before, "nor is 2.0 gone, which the file does not name"
    assert ask_why_not_ready(running) == []


def test_settings_that_a_default_takes_only_at_its_start_need_a_word(running, mars):
    write(running.path.parent, one(mars, "2.0", batch_size=4))
    assert shipway(running, "apply", "models.yaml", "--interrupt").returncode == 0
    write(running.path.parent, one(mars, "2.0", batch_size=3))
    refused = shipway(running, "apply", "models.yaml")
    assert refused.returncode == 1 and "--interrupt" in refused.stderr
    assert described(running) == {(MODEL, "2.0", True, 1, 4)}
    assert shipway(running, "apply", "models.yaml", "--interrupt").returncode == 0
    assert described(running) == {(MODEL, "2.0", True, 1, 3)}


def test_a_server_that_cannot_serve_all_of_its_file_is_not_ready_until_another_is_applied(
    mars, tmp_path
):
    array = {"name": "tiny-array", "version": "1.0", "archive": str(mars["array"])}
    write(tmp_path, one(mars, "3.0"), array)
    with served(tmp_path) as state:
        until(lambda: state.unapplied_file.exists(), within_s=60)
        assert ask_why_not_ready(state) != []
        until(lambda: ask_why_not_ready(state) == [f"{MODEL} 3.0 was not promoted"], within_s=120)
        assert {each[:2] for each in described(state)} == {("tiny-array", "1.0")}
        write(tmp_path, one(mars, "1.0", sha256=inspect_mar(mars["1.0"]).digest), array)
        assert shipway(state, "apply", "models.yaml").returncode == 0
        assert ask_why_not_ready(state) == []


def test_a_file_that_does_not_read_starts_no_server(tmp_path):
    write_config(tmp_path)
    write(tmp_path, {"name": "a", "version": "1.0"})
    state = StateDirectory(tmp_path / ".shipway")
    refused = shipway(state, "serve", "--models", "models.yaml")
    assert refused.returncode == 1
    assert "a-1.0.mar does not exist" in refused.stderr
    assert not state.running()
