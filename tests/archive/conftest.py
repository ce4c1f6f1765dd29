from pathlib import Path

import pytest

from shipway.archive.pack import pack


@pytest.fixture(scope="session")
def mar(tiny_artifact, tmp_path_factory) -> Path:
    return pack(tiny_artifact, tmp_path_factory.mktemp("store"))
