"""Ray's engine against a real cluster: what it can do, and what it says that it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

from shipway.artifact.bundle import Artifact
from shipway.engines import ENGINES
from shipway.engines.errors import NoServer
from shipway.engines.ray.engine import connect
from shipway.engines.state import StateDirectory
from tests.conftest import REPOSITORY, retold

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from benchmarks.ray_cluster import ray_cluster

pytestmark = pytest.mark.ray


def test_two_versions_live_their_life_and_what_ray_cannot_do_is_said(
    tiny_table: Artifact, tmp_path: Path
) -> None:
    second = retold(tiny_table, tmp_path / "second", version="2.0")
    with ray_cluster(6) as running:
        done = subprocess.run(
            [sys.executable, "-m", "tests.engines.ray.engine_life"]
            + [running.address, str(tiny_table.path), str(second.path)],
            cwd=REPOSITORY,
            env=running.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr[-3000:]


def test_it_is_registered_under_its_name(tmp_path: Path) -> None:
    assert ENGINES.get("ray") is connect
    with pytest.raises(NoServer):
        connect(StateDirectory(tmp_path))
