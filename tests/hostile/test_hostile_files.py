"""Every hostile artifact and archive is refused, by name, before anything in it is run."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shipway.archive.errors import ArchiveError
from shipway.archive.inspect import inspect_mar
from shipway.archive.signatures import SignatureError
from shipway.artifact.bundle import open_artifact
from shipway.artifact.errors import ArtifactError
from shipway.cli.main import app
from shipway.engines.state import LAUNCH_MARK, Addresses, ServerRecord, StateDirectory
from shipway.registry import UnknownName
from shipway.runtime.errors import UnknownFormat
from shipway.runtime.program import open_program
from tests.hostile import archives, artifacts, payloads
from tests.hostile.zips import zipped
from tests.servers import write_config


def test_there_are_at_least_forty_kinds():
    assert len(artifacts.CASES) >= 40 and len(archives.CASES) >= 40


def test_the_payloads_do_run_where_nothing_stops_them(tmp_path):
    """Else no test here could fail."""
    (tmp_path / "native.so").write_bytes(payloads.native())
    (tmp_path / "pickled.pkl").write_bytes(payloads.pickled())
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "x.py").write_text("")
    cached = Path(importlib.util.cache_from_source(str(tmp_path / "x.py")))
    cached.write_bytes(payloads.bytecode())
    tried = {
        "native": "import ctypes; ctypes.CDLL('./native.so')",
        "pickled": "import pickle; pickle.load(open('pickled.pkl', 'rb'))",
        "bytecode": "import x",
        "source": payloads.PYTHON,
    }
    if not shutil.which("cc"):
        del tried["native"]
    for name, code in tried.items():
        mark = tmp_path / name
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {payloads.MARK: str(mark)},
            check=True,
        )
        assert mark.exists(), name


@pytest.mark.parametrize("damage", artifacts.CASES.values(), ids=artifacts.CASES)
def test_a_hostile_artifact_is_refused_before_it_is_packaged(honest, tmp_path, mark, damage):
    folder = Path(shutil.copytree(honest.path, tmp_path / "artifact"))
    damage(folder)
    with pytest.raises(ArtifactError) as refused:
        open_artifact(folder)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("damage", artifacts.UNKNOWN.values(), ids=artifacts.UNKNOWN)
def test_a_program_that_nothing_here_opens_is_refused(honest, tmp_path, mark, damage):
    folder = Path(shutil.copytree(honest.path, tmp_path / "artifact"))
    damage(folder)
    artifact = open_artifact(folder)
    with pytest.raises((UnknownFormat, UnknownName)):
        open_program(artifact, artifact.manifest.chosen, threads=1)


def test_the_honest_artifact_is_not_refused(honest, tmp_path):
    open_artifact(Path(shutil.copytree(honest.path, tmp_path / "artifact")))


@pytest.mark.parametrize("make", archives.CASES.values(), ids=archives.CASES)
def test_a_hostile_archive_is_refused_before_it_is_unpacked(files, tmp_path, mark, make):
    path = tmp_path / "hostile.mar"
    path.write_bytes(make(files))
    with pytest.raises(ArchiveError) as refused:
        inspect_mar(path)
    assert str(path) in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_the_honest_archive_written_by_hand_is_not_refused(files, mar, tmp_path):
    path = tmp_path / "honest.mar"
    path.write_bytes(zipped(archives.members(files)))
    assert inspect_mar(path).name == inspect_mar(mar).name


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The state directory of a server that is none: whoever asks it anything finds out.

    Its configuration requires signatures, by a key that signed nothing.
    """
    folder = tmp_path_factory.mktemp("state")
    (folder / "store").mkdir()
    (folder / "key.pub.pem").touch()
    config = write_config(folder, require_signature="true", trusted_keys="key.pub.pem")
    state = StateDirectory(folder)
    nobody = "http://127.0.0.1:1"
    launch = str(folder / "launch")
    process = subprocess.Popen(["sleep", "600"], env=os.environ | {LAUNCH_MARK: launch})
    try:
        state.write(
            ServerRecord(
                pid=process.pid,
                launch=launch,
                addresses=Addresses(
                    inference=nobody,
                    management=nobody,
                    metrics=nobody,
                    grpc_inference=nobody,
                    grpc_management=nobody,
                    exporter=None,
                ),
                max_request_bytes=1,
                metrics_directory=str(folder / "metrics"),
                config=str(config),
                model_store=str(folder / "store"),
                started="2026-01-01T00:00:00+00:00",
            )
        )
        yield state
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def register(state):
    """`shipway register` on that server; returns what it raised."""

    def run(mar: Path) -> BaseException | None:
        return CliRunner().invoke(app, ["register", str(mar), "--state", str(state.path)]).exception

    return run


def test_register_lets_no_hostile_archive_into_the_store(files, tmp_path, mark, state, register):
    for name, make in archives.CASES.items():
        path = tmp_path / f"{name}.mar"
        path.write_bytes(make(files))
        refused = register(path)
        assert isinstance(refused, ArchiveError), (name, refused)
        assert not isinstance(refused, SignatureError), name
        assert list((state.path / "store").iterdir()) == [], name


def test_register_lets_no_unsigned_archive_into_the_store_where_signatures_are_required(
    mar, state, register
):
    assert isinstance(register(mar), SignatureError)
    assert list((state.path / "store").iterdir()) == []
