"""scripts/structure: a small tree breaks each bound, and the offender is named by its line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "structure"

PYPROJECT = """\
[project]
name = "shipway"
dependencies = ["torch==2.13.0", "grpcio"]
[tool.hatch.build.targets.wheel]
packages = ["shipway"]
[tool.hatch.build.targets.wheel.force-include]
"handlers" = "shipway/_data/handlers"
"""
GOOD = {
    "pyproject.toml": PYPROJECT,
    "shipway/__init__.py": "",
    "shipway/__main__.py": "from shipway.cli.main import main\n\nmain()\n",
    "shipway/files.py": 'def read(path: str) -> str:\n    """The text of a file."""\n',
    "shipway/cli/main.py": (
        "from shipway.files import read\n\n"
        'def main(*names: str) -> None:\n    """Runs."""\n'
        "    # torch takes seconds to import\n    import json\n\n    import torch\n"
    ),
    "tests/test_files.py": "def test_a_file_is_read(): ...\n",
    "tests/cli/test_main.py": "def test_it_runs(): ...\n" * 401,
    "shipway/engines/generated/stubs.py": "from shipway.cli import main\n" * 401,
    "docs/results.json": "{}\n" * 401,
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--root", str(root), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def failed(output: str) -> list[str]:
    return re.findall(r"^(.+?)  .*FAILED$", output, re.MULTILINE)


def test_a_good_tree_passes_every_bound(tmp_path: Path) -> None:
    result = run(write(tmp_path, GOOD))

    assert result.returncode == 0, result.stdout + result.stderr
    assert failed(result.stdout) == []
    assert "generated" not in result.stdout


BROKEN = {
    "a second package in the wheel": (
        {"pyproject.toml": PYPROJECT.replace('["shipway"]', '["shipway", "export"]')},
        "packages installed", "pyproject.toml:1  export",
    ),
    "modules that import each other": (
        {"shipway/cli/main.py": "import shipway.cli.other\n",
         "shipway/cli/other.py": "def f() -> None:\n    from shipway.cli import main\n"},
        "import cycles", "shipway/cli/other.py:2  imports shipway.cli.main",
    ),
    "a cycle over three modules, by name at run time": (
        {"shipway/cli/main.py": "from . import two\n",
         "shipway/cli/two.py": "from shipway.cli import three\n",
         "shipway/cli/three.py": "import importlib\nimportlib.import_module('shipway.cli.main')\n"},
        "import cycles", "shipway/cli/three.py:2  imports shipway.cli.main",
    ),
    "folders that import from each other": (
        {"shipway/engines/errors.py": "",
         "shipway/engines/state.py": "import shipway.engines.ray.a",
         "shipway/engines/ray/a.py": "from shipway.engines.errors import E\n"},
        "two-way pairs of folders", "shipway/engines/ray/a.py:1  imports shipway.engines.errors",
    ),
    "a root module that imports from a folder above it": (
        {"shipway/files.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
                             "    from shipway.cli import other\n",
         "shipway/cli/other.py": ""},
        "two-way pairs of folders", "shipway/files.py:3  imports shipway.cli.other",
    ),
    "a function of 81 lines outside the package": (
        {"benchmarks/soak.py": "\ndef soak():\n" + "    pass\n" * 80},
        "functions over 80 lines", "benchmarks/soak.py:2  soak: 81 lines",
    ),
    "a long function in a script without a suffix": (
        {"scripts/run": "#!/usr/bin/env python3\ndef f():\n" + "    pass\n" * 80},
        "functions over 80 lines", "scripts/run:2  f: 81 lines",
    ),
    "a file of 401 lines": (
        {"shipway/report/page.html.j2": "<p>\n" * 401},
        "files over 400 lines", "shipway/report/page.html.j2:401  401 lines",
    ),
    "an import in a function without a comment": (
        {"shipway/cli/main.py": "def _f() -> None:\n    import torch\n"},
        "unexplained function-level imports", "shipway/cli/main.py:2  imports torch",
    ),
    "an import whose comment names no dependency": (
        {"shipway/cli/main.py": "def _f():\n    # this is slow\n    import shipway.files\n"},
        "unexplained function-level imports", "shipway/cli/main.py:3  imports shipway.files",
    ),
    "an argument without a type": (
        {"shipway/cli/main.py": "class A:\n    def __init__(self, b, *c: int): ...\n"},
        "annotated arguments", "shipway/cli/main.py:2  __init__: b",
    ),
    "a public method without a docstring": (
        {"shipway/cli/main.py": 'class A:\n    """A."""\n    def b(self) -> None: ...\n'
                                "    def _c(self) -> None: ...\n"},
        "public functions with docstrings", "shipway/cli/main.py:3  A.b",
    ),
    "a test file without a test": (
        {"tests/cli/test_main.py": '"""def test_nothing"""\n'},
        "modules with a test of their name",
        "shipway/cli/main.py:1  no tests/cli/test_main.py",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_bound_that_is_passed_fails_and_names_the_line(tmp_path: Path, case: str) -> None:
    files, measure, offender = BROKEN[case]
    result = run(write(tmp_path, GOOD | files))

    assert result.returncode == 1
    assert measure in failed(result.stdout)
    assert f"  {offender}" in result.stdout


def test_a_comment_covers_the_block_of_imports_below_it_and_no_more(tmp_path: Path) -> None:
    body = (
        "def _f():\n    # grpc is heavy\n    from grpc import (\n        aio)\n    import json\n"
        "    print()\n    import re\n"
    )
    result = run(write(tmp_path, GOOD | {"shipway/cli/main.py": body}))

    assert "main.py:7  imports re" in result.stdout
    assert "main.py:5" not in result.stdout


def test_a_comment_on_the_import_of_a_dependency_need_not_name_it(tmp_path: Path) -> None:
    body = "def _f():\n    import torch.nn  # slow\n    print()\n    import json  # slow\n"
    result = run(write(tmp_path, GOOD | {"shipway/cli/main.py": body}))

    assert "main.py:4  imports json" in result.stdout
    assert "imports torch" not in result.stdout


def test_a_report_lists_the_same_and_never_fails(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD | {"shipway/cli/untested.py": "def f(a): ...\n"})
    strict, report = run(root), run(root, "--report")

    assert (strict.returncode, report.returncode) == (1, 0)
    assert report.stdout == strict.stdout


def test_files_that_git_ignores_are_no_part_of_the_tree(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD | {"shipway/made.py": "def f(a): ...\n", ".gitignore": "made.py\n"})
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)

    assert run(root).returncode == 0
