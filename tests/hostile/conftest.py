"""An honest artifact and an honest archive, for the cases to spoil, and a mark to be left."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from tests.conftest import retold
from tests.hostile import payloads


@pytest.fixture(scope="session")
def honest(tiny_artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny artifact, that chose the program which most cases spoil."""
    folder = tmp_path_factory.mktemp("honest")
    return retold(tiny_artifact, folder, chosen="onnx_fp32", fallback="onnx_fp32")


@pytest.fixture(scope="session")
def mar(honest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(honest, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def files(mar) -> dict[str, bytes]:
    """What an honest archive holds."""
    with zipfile.ZipFile(mar) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def mark(tmp_path, monkeypatch) -> Iterator[Path]:
    """Where a payload leaves its mark; after the test there must be none."""
    path = tmp_path / "ran"
    monkeypatch.setenv(payloads.MARK, str(path))
    yield path
    assert not path.exists(), f"a payload ran: {path.read_text()}"
