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
        str(error.value) == "Exporting needs the extra \"export\": pip install 'shipway[export]'."
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
