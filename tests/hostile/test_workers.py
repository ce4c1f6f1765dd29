"""No worker starts from a hostile folder, and none of what is hostile in it is run.

What `shipway register` checks is not repeated here: these are folders as TorchServe would unpack
them for somebody who registered without it, or as they became after they were unpacked.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile import artifacts, payloads, programs
from tests.hostile.artifacts import reseal

WORKER = Path(__file__).with_name("worker.py")


def link_away(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        elsewhere = folder.with_suffix(f".{name.replace('/', '_')}")
        shutil.move(folder / name, elsewhere)
        (folder / name).symlink_to(elsewhere)

    return damage


def planted(name: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    """A file more, that nobody sealed."""

    def damage(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content())

    return damage


def changed(name: str) -> Callable[[Path], None]:
    return planted(name, payloads.PYTHON.encode)


# The others are refused by the same function, which tests/hostile/test_hostile_files.py asks.
ARTIFACTS = (
    "a_changed_program",
    "a_torchscript_swapped_for_a_pickle",
    "an_exported_program_swapped_for_a_library",
    "a_library_beside_the_programs",
    "a_sitecustomize",
    "sealed_bytecode",
    "a_program_file_that_goes_up",
    "a_program_with_a_digest_of_another_file",
    "a_tokenizer_that_is_a_folder",
    "a_chosen_program_that_is_not_there",
    "a_manifest_that_nests_for_ever",
    "sums_that_go_up",
)
LIBRARY = "cpython-311-x86_64-linux-gnu.so"
# Of everything that is imported to check the rest, too.
TREES = {
    "a_changed_module": changed("handler.py"),
    "a_changed_module_that_checks": changed("shipway/artifact/digests.py"),
    "a_changed_package": changed("shipway/__init__.py"),
    "a_changed_manifest_of_torchserve": planted("MAR-INF/MANIFEST.json", lambda: b"{}"),
    "a_module_more": planted("shipway/evil.py", payloads.PYTHON.encode),
    "a_module_at_the_top": planted("psutil.py", payloads.PYTHON.encode),
    "a_package_in_place_of_a_module": planted("shipway/errors/__init__.py", payloads.PYTHON.encode),
    "a_library_in_place_of_a_module": planted(f"shipway/errors.{LIBRARY}", payloads.native),
    "a_library_in_place_of_a_package": planted(f"shipway.{LIBRARY}", payloads.native),
    "bytecode_in_place_of_a_module": planted(
        "shipway/__pycache__/errors.cpython-311.pyc", payloads.bytecode
    ),
    "bytecode_in_place_of_a_package": planted(
        "shipway/__pycache__/__init__.cpython-311.pyc", payloads.bytecode
    ),
    "bytecode_of_another_name_at_the_top": planted(
        "__pycache__/psutil.cpython-311.pyc", payloads.bytecode
    ),
    "a_link_to_the_code": link_away("shipway"),
    "a_link_to_a_module": link_away("shipway/serving/service.py"),
    "a_link_to_the_artifact": link_away("artifact"),
    "a_pipe": lambda folder: os.mkfifo(folder / "evil"),
    "without_sums": lambda folder: (folder / "SHA256SUMS").unlink(),
    "without_a_module": lambda folder: (folder / "shipway" / "serving" / "service.py").unlink(),
}


def folders(files: dict[str, bytes], home: Path) -> dict[str, Path]:
    """Every case as an unpacked archive, by a name of its own."""

    def unpacked(name: str) -> Path:
        for member, content in files.items():
            path = home / name / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        made[name] = home / name
        return home / name

    made: dict[str, Path] = {}
    for name in ARTIFACTS:
        folder = unpacked(f"artifact_{name}")
        artifacts.CASES[name](folder / "artifact")
        reseal(folder)
    for name in programs.CASES:
        folder = unpacked(f"program_{name}")
        programs.plant(folder / "artifact", name)
        reseal(folder)
    for name, damage in TREES.items():
        damage(unpacked(f"tree_{name}"))
    return made


@pytest.fixture(scope="module")
def said(files, tmp_path_factory) -> dict[str, str | None]:
    """What each worker said, by its folder's name; the mark each might have left is beside it."""
    home = tmp_path_factory.mktemp("workers")
    made = folders(files, home)
    for honest in ("honest", "honest_again"):  # the second finds what the first left behind
        made[honest] = home / "honest"
    folder = home / "honest"
    for member, content in files.items():
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        (folder / member).write_bytes(content)
    done = subprocess.run(
        [sys.executable, WORKER, *made.values()],
        env=os.environ | {payloads.MARK: str(home / "ran"), "PYTHONPATH": ""},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers: dict[str, str | None] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            answers |= json.loads(line)
    assert answers.keys() == {path.name for path in made.values()}
    return answers | {"ran": (home / "ran").read_text() if (home / "ran").exists() else None}


def test_an_honest_worker_starts_and_so_does_the_next_one(said):
    assert said["honest"] is None


def test_no_payload_ran_in_any_worker(said):
    assert said["ran"] is None


@pytest.mark.parametrize("name", ARTIFACTS)
def test_no_worker_starts_from_a_hostile_artifact(said, name):
    assert "artifact" in str(said[f"artifact_{name}"])


@pytest.mark.parametrize("name", programs.CASES)
def test_no_worker_starts_from_a_hostile_program_that_is_sealed(said, name):
    assert str(said[f"program_{name}"]).startswith("BrokenProgram: ")


@pytest.mark.parametrize("name", TREES)
def test_no_worker_starts_from_a_tree_that_is_not_what_was_packaged(said, name):
    assert str(said[f"tree_{name}"]).startswith("RuntimeError: ")
