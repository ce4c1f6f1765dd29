"""Errors that a user can cause share one base class, and the command line shows their text."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import shipway
from shipway.errors import ShipwayError


def error_classes() -> list[type[Exception]]:
    """The exceptions that the modules named `errors` define."""
    names = [module.name for module in pkgutil.walk_packages(shipway.__path__, "shipway.")]
    modules = [importlib.import_module(name) for name in names if name.endswith(".errors")]
    return [
        member
        for module in modules
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, Exception)
        and member.__module__ == module.__name__
    ]


def test_every_error_of_the_package_can_be_caught_by_one_class() -> None:
    classes = error_classes()
    assert len(classes) > 20
    assert [each for each in classes if not issubclass(each, ShipwayError)] == []


def test_the_command_shows_the_text_of_an_error_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shipway", "package", "missing"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: missing is not an artifact")
    assert "Traceback" not in done.stderr
