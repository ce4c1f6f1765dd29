"""The archive on a TorchServe whose Python has never heard of this project."""

import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.stock_torchserve import stock_torchserve
from shipway.archive.pack import pack

HOUSE_CATS = {281, 282, 285}


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory) -> Path:
    """An environment with this one's packages, but not with this project.

    Packages on a path that a .pth file adds can be imported, while the .pth files among them, the
    editable install of this project being one, are not read.
    """
    folder = tmp_path_factory.mktemp("foreign") / "venv"
    venv.create(folder, symlinks=True)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (site,) = folder.glob("lib/*/site-packages")
    (site / "packages.pth").write_text(ours + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def server(foreign_python, demo_artifact, tmp_path_factory) -> Iterator[str]:
    """TorchServe, started by its own command with its own defaults, tokens aside."""
    folder = tmp_path_factory.mktemp("stock")
    mar = pack(demo_artifact, folder / "store")
    with stock_torchserve(
        folder, mar, "efficientnet_lite0", workers=1, python=foreign_python
    ) as served:
        yield served.url.removesuffix("/predictions/efficientnet_lite0")


def test_this_project_is_not_installed_there(foreign_python):
    for name in ("shipway", "handler", "handlers"):
        done = subprocess.run(
            [foreign_python, "-c", f"import {name}"], capture_output=True, cwd=foreign_python.parent
        )
        assert done.returncode != 0, name


def test_the_archive_serves_all_the_same(server, cat):
    found = httpx.post(f"{server}/predictions/efficientnet_lite0", content=cat.read_bytes())
    assert found.status_code == 200, found.text
    assert found.json()[0]["class_id"] in HOUSE_CATS


def test_json_that_such_a_server_decodes_itself_is_understood(server, cat):
    import base64

    body = json.dumps({"image": base64.b64encode(cat.read_bytes()).decode()})
    found = httpx.post(
        f"{server}/predictions/efficientnet_lite0",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert found.json()[0]["class_id"] in HOUSE_CATS
    broken = httpx.post(
        f"{server}/predictions/efficientnet_lite0",
        content=b'{"image": ',
        headers={"content-type": "application/json"},
    )
    assert broken.status_code == 400
    assert "not valid JSON" in broken.json()["message"]
