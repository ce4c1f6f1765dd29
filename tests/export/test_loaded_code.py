"""What a process has loaded is found by its content, wherever it was imported from."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shipway.export.loaded_code import CHANGED, Provenance, digest_of_module
from tests.conftest import REPOSITORY

LATER = 2**33
"""A time after any file was written."""
LOADS = """
import json, os, sys
for each in sys.argv[2].split(os.pathsep):
    sys.path.insert(0, each)
import numpy, shipway.recipe
import beside, package.deep, zipped.inside, installed_editable
import dropped, toy_distribution
from shipway.export import loaded_code
print(json.dumps([loaded_code.loaded_code(float(sys.argv[1])), loaded_code.loaded_packages()]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Modules in each place from which one can come."""
    folder = tmp_path_factory.mktemp("code")
    for name in ("package", "elsewhere", "site"):
        (folder / name).mkdir()
    (folder / "beside.py").write_text("import used_by_beside")
    (folder / "used_by_beside.py").write_text("x = 1")
    (folder / "never_imported.py").write_text("x = 1")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "deep.py").write_text("x = 1")
    (folder / "elsewhere" / "installed_editable.py").write_text("x = 1")
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "")
        archive.writestr("zipped/inside.py", "x = 1")
    for name in ("dropped", "toy_distribution"):
        (folder / "site" / f"{name}.py").write_text("x = 1")
    described = folder / "site" / "toy_distribution-1.5.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Name: toy-distribution\nVersion: 1.5\n")
    (described / "top_level.txt").write_text("toy_distribution\n")
    return folder


def loaded(home: Path, since: float = LATER) -> tuple[dict[str, str], dict[str, str]]:
    """What a process reports that imports all of them; the folder `site` is its user site."""
    script = home / "script.py"
    script.write_text(
        LOADS.replace(
            "from shipway.export import loaded_code",
            "from shipway.export import loaded_code\n"
            f"sites = loaded_code._sites() + (loaded_code.Path({str(home / 'site')!r}),)\n"
            "loaded_code._sites = lambda: sites",
        )
    )
    paths = [home, home / "elsewhere", home / "code.zip", home / "site", REPOSITORY]
    done = subprocess.run(
        [sys.executable, script, str(since), ":".join(map(str, paths))],
        capture_output=True,
        text=True,
        check=True,
    )
    code, packages = json.loads(done.stdout)
    return {str(Path(path).relative_to(home)): found for path, found in code.items()}, packages


def test_all_code_from_outside_of_distributions_is_found_and_a_change_of_any_shows(home):
    code, packages = loaded(home)
    assert set(code) == {
        "beside.py",
        "used_by_beside.py",
        "package/__init__.py",
        "package/deep.py",
        "code.zip",
        "elsewhere/installed_editable.py",
        "site/dropped.py",
    }
    assert packages["numpy"] == np.__version__
    assert packages["toy-distribution"] == "1.5"

    recorded = Provenance(
        code={str(home / path): found for path, found in code.items()}, packages={}, module="m"
    )
    assert recorded.still_true()
    for path in code:
        content = (home / path).read_bytes()
        (home / path).write_bytes(content + b"#")
        assert not recorded.still_true(), path
        (home / path).write_bytes(content)
    assert recorded.still_true()
    (home / "beside.py").rename(home / "away.py")
    assert not recorded.still_true()
    (home / "away.py").rename(home / "beside.py")


def test_a_file_that_was_written_after_it_was_loaded_counts_as_changed(home):
    code, _ = loaded(home, since=time.time() - 10**9)
    assert set(code.values()) == {CHANGED}


def test_packages_of_other_versions_show():
    assert Provenance(code={}, packages={"numpy": np.__version__}, module="m").still_true()
    assert not Provenance(code={}, packages={"numpy": "1.0"}, module="m").still_true()
    assert not Provenance(code={}, packages={"not-installed": "1.0"}, module="m").still_true()


def test_more_code_may_have_been_loaded_by_the_end_of_a_build_but_not_less():
    end = Provenance(code={"a": "1", "b": "2"}, packages={"p": "1", "q": "1"}, module="m")
    assert end.includes(end)
    assert end.includes(Provenance(code={"a": "1"}, packages={"p": "1"}, module="m"))
    assert not end.includes(Provenance(code={"a": "3"}, packages={}, module="m"))
    assert not end.includes(Provenance(code={"c": "1"}, packages={}, module="m"))
    assert not end.includes(Provenance(code={}, packages={"r": "1"}, module="m"))
    assert not end.includes(Provenance(code={}, packages={}, module="other"))


class Odd(nn.Module):
    """Parameters and buffers of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        self.register_buffer("scalar", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False]), persistent=False)
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("empty", torch.zeros(0, 4))
        self.act = nn.Hardtanh(-1, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.weight.data.mul_(1.01),
        lambda module: module.scalar.add_(1),
        lambda module: module.mask.logical_not_(),
        lambda module: module.phase.mul_(1j),
        lambda module: setattr(module, "sparse", (2 * torch.eye(3)).to_sparse()),
        lambda module: setattr(module, "act", nn.Hardtanh(-1, 2)),
        lambda module: setattr(module, "empty", torch.zeros(4, 0)),
    ],
    ids=["parameter", "scalar", "not persistent", "complex", "sparse", "setting", "shape"],
)
def test_a_modules_digest_changes_with_each_of_its_tensors_and_settings(change):
    module = Odd()
    assert digest_of_module(module) == digest_of_module(Odd())
    before = digest_of_module(module)
    change(module)
    assert digest_of_module(module) != before
