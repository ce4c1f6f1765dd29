"""The placeholder's folder. test_engine.py has it on a real server."""

import json
from pathlib import Path

from shipway.engines.torchserve.no_default import (
    VERSION,
    is_placeholder,
    placeholder_folder,
    write_placeholder,
)
from shipway.engines.torchserve.worker import will_use_torch


def test_it_has_a_version_of_its_own_and_a_worker_that_needs_no_torch(tmp_path: Path) -> None:
    folder = placeholder_folder(tmp_path, "echo")
    write_placeholder(folder, "echo", "It is missing.")
    model = json.loads((folder / "MAR-INF/MANIFEST.json").read_text())["model"]
    assert (model["modelName"], model["modelVersion"]) == ("echo", VERSION)
    assert (folder / model["handler"]).is_file()
    assert not will_use_torch(folder)


def test_it_is_told_from_archives_by_its_url(tmp_path: Path) -> None:
    for name in ("echo", "a..b", "x" * 128):
        folder = placeholder_folder(tmp_path, name)
        folder.mkdir(parents=True)
        assert is_placeholder(str(folder)) and ".." not in str(folder)
    assert not is_placeholder("echo-1.0.mar")
    assert not is_placeholder("no-default/echo-1.0.mar")
    assert not is_placeholder(f"file://{tmp_path}/echo-1.0.mar")
