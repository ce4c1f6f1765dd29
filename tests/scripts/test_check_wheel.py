"""What the wheel holds. `make test-wheel` installs it and serves with it."""

import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from shipway import __version__
from shipway.extras import EXTRAS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*command, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_installs_one_package(wheel: zipfile.ZipFile) -> None:
    top_level = {name.partition("/")[0] for name in wheel.namelist()}
    assert top_level == {"shipway", f"shipway-{__version__}.dist-info"}


def test_every_file_of_the_package_that_git_knows_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "shipway"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = {line for line in listed.stdout.splitlines() if (ROOT / line).is_file()}
    assert files <= set(wheel.namelist())
    assert {"shipway/py.typed", "shipway/engines/torchserve/log4j2.xml"} <= set(wheel.namelist())


def test_the_files_that_a_person_edits_are_data_of_the_package(wheel: zipfile.ZipFile) -> None:
    for source in (
        ROOT / "config.properties",
        *(ROOT / "handlers").glob("*.py"),
        *(ROOT / "deploy/kubernetes").rglob("*.yaml"),
    ):
        name = f"shipway/_data/{source.relative_to(ROOT).as_posix()}"
        assert wheel.read(name) == source.read_bytes()


def test_nothing_that_was_made_here_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    unwanted = [
        name
        for name in wheel.namelist()
        if "__pycache__" in name or name.endswith((".mar", ".pyc", ".partial"))
    ]
    assert unwanted == []


def test_the_metadata_has_the_packages_version_and_its_extras(wheel: zipfile.ZipFile) -> None:
    text = wheel.read(f"shipway-{__version__}.dist-info/METADATA").decode()
    metadata = message_from_string(text)
    assert metadata["Version"] == __version__
    assert set(metadata.get_all("Provides-Extra", [])) == {*EXTRAS, "dev"}
