"""Where candidates are made: a folder that outlives an interrupted export.

It lies in `out`/.workshop/NAME/KEY, where KEY is a digest of everything that the programs depend
on. An export with the same key takes up the candidates that are finished; another key starts over.
"""

import fcntl
import json
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import shipway
from shipway.artifact.bundle import read_record, write_record
from shipway.artifact.certificate import Candidate
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import ArtifactError
from shipway.export.errors import AnotherExportRuns
from shipway.recipe import Rows
from shipway.runtime.host import cpu_flags

PACKAGES = (
    "torch",
    "torchao",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "transformers",
    "numpy",
    "pillow",
)


def package_versions() -> dict[str, str]:
    """The versions of everything that has a part in making programs."""
    found = {}
    for package in PACKAGES:
        for name in (package, f"{package}-gpu"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found


def digest_of_rows(rows: Rows) -> str:
    """SHA-256 of the arrays' bytes, one after the other, then of the targets'."""
    digest = sha256()
    for array in (*rows.arrays, *([] if rows.targets is None else [rows.targets])):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def key_of(
    sources: Iterable[Path], checkpoint_sha256: str, calibration: Rows, evaluation: Rows
) -> str:
    """A digest of all that the candidates depend on. `sources` are the recipe and its plugins."""
    parts = {
        "recipe": [sha256_of(path) for path in sources],
        "checkpoint": checkpoint_sha256,
        "calibration": digest_of_rows(calibration),
        "evaluation": digest_of_rows(evaluation),
        "packages": package_versions(),
        "host": [platform.machine(), platform.python_version(), sorted(cpu_flags())],
        "code": {
            str(path.relative_to(folder.parent)): sha256_of(path)
            for folder in (
                Path(shipway.__path__[0]) / "export",
                Path(shipway.__path__[0]) / "runtime",
                Path(shipway.__path__[0]) / "artifact",
            )
            for path in sorted(folder.rglob("*.py"))
        },
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def workshop(out: Path, name: str, key: str) -> Iterator[Path]:
    """The folder for this key, kept for the next time; others of this name are removed.

    Raises AnotherExportRuns if somebody else is at work on the same name.
    """
    home = out / ".workshop" / name
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AnotherExportRuns(
                f"Another export of {name} into {out} is running. Wait for it, or give this one "
                "another folder with --out."
            ) from error
        for path in home.iterdir():
            if path.is_dir() and path.name != key:
                shutil.rmtree(path)
        for leftover in out.glob(f".{name}-*.sealing"):  # of an export that was killed
            shutil.rmtree(leftover)
        folder = home / key
        (folder / "programs").mkdir(parents=True, exist_ok=True)
        (folder / "candidates").mkdir(exist_ok=True)
        yield folder


def remember(folder: Path, name: str, candidate: Candidate) -> None:
    """Notes that a candidate is finished, passed or not."""
    path = folder / "candidates" / f"{name}.json"
    partial = path.with_suffix(".partial")
    write_record(partial, candidate)
    partial.replace(path)


def recall(folder: Path, name: str, program: Path) -> Candidate | None:
    """What became of a candidate in an earlier run, None if it has to be made."""
    path = folder / "candidates" / f"{name}.json"
    if not path.exists():
        return None
    try:
        candidate = read_record(path, Candidate)
    except ArtifactError:
        return None
    whole = program.exists() and program.stat().st_size == candidate.bytes
    return candidate if whole or not candidate.passed else None
