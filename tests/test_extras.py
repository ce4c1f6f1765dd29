"""The extras that commands name are those of the distribution."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shipway import extras

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_every_extra_of_the_distribution_is_known_and_no_other() -> None:
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert set(extras.EXTRAS) == set(declared) - {"dev"}


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "EXTRAS", {"export": ("json", "a_package_that_nobody_has")})

    with pytest.raises(extras.MissingExtra) as error:
        extras.require_extra("export", "Exporting")
    assert (
        str(error.value)
        == "Exporting needs the extra \"export\". Install it with `pip install 'shipway[export]'`."
    )


@pytest.mark.parametrize("extra", ["export", "bench", "openvino", "signing", "traces", "demo"])
def test_the_extras_of_this_environment_are_recognised(extra: str) -> None:
    extras.require_extra(extra, "This test")


def test_looking_for_an_extra_imports_nothing_of_it() -> None:
    code = (
        "import sys; from shipway import extras; extras.require_extra('export', 'x');"
        "sys.exit(bool({'onnx', 'torchao', 'torch', 'safetensors'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_base_imports_without_any_extra() -> None:
    """Every module outside the folders of an extra; what is installed here is hidden from it."""
    code = """
import importlib, pkgutil, sys
import shipway

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Hidden())
folders = ("shipway.export.", "shipway.loadtest.", "shipway.engines.ray.")
imported_elsewhere = ("shipway.__main__", "shipway.archive.entry")  # by Python, and by a worker
for module in pkgutil.walk_packages(shipway.__path__, "shipway."):
    if not module.name.startswith(folders + imported_elsewhere):
        importlib.import_module(module.name)
"""
    hidden = {package for packages in extras.EXTRAS.values() for package in packages}
    hidden |= {"gevent", "geventhttpclient", "grpc_tools", "starlette"}
    command = [sys.executable, "-c", code, *hidden]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("extra", "command"),
    [("export", ["export", "recipe.py"]), ("bench", ["bench", "my_model"])],
)
def test_a_command_without_its_extra_names_it(
    extra: str, command: list[str], tmp_path: Path
) -> None:
    code = """
import importlib.util, sys

hidden = sys.argv.pop(1).split(",")
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in hidden else find_spec(name)

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Hidden())

from shipway.cli.main import main

main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(extras.EXTRAS[extra]), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert (
        f'needs the extra "{extra}". Install it with `{extras.install_command(extra)}`.'
        in done.stderr
    )
