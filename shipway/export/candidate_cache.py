"""The candidate cache: finished candidates, kept for the case that an export is interrupted.

It is the folder `out`/.candidates/NAME/KEY, where KEY is a digest of everything that the candidates
depend on. An export with the same key continues with the finished candidates; with another key it
starts from the beginning.
"""

import json
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

import shipway
from shipway.artifact.bundle import read_record, write_record
from shipway.artifact.certificate import Candidate
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import ArtifactError
from shipway.export.errors import AnotherExportRuns
from shipway.export.techniques import TECHNIQUES
from shipway.recipe import Rows
from shipway.runtime.backends import BACKENDS
from shipway.runtime.host import cpu_flags

CACHE = ".candidates"
SEALING = ".sealing"
"""Ends the names of folders in which an artifact is being written."""
PACKAGES = ("torch", "transformers", "numpy", "pillow")
"""The packages that have a part in every export, beside those of the techniques and backends."""


def package_versions() -> dict[str, str]:
    """The versions of the installed packages that build or run programs."""
    needed = {*PACKAGES, *(backend.package for backend in BACKENDS.all().values())}
    needed |= {package for each in TECHNIQUES.all().values() for package in each.packages}
    versions = {}
    for package in sorted(needed):
        for name in (package, f"{package}-gpu"):
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                continue
    return versions


def digest_of_rows(rows: Rows) -> str:
    """SHA-256 of the bytes of all arrays in order, then of the targets and of the groups."""
    digest = sha256()
    known = [array for array in (rows.targets, rows.groups) if array is not None]
    for array in (*rows.arrays, *known):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def cache_key(
    sources: Iterable[Path], checkpoint_sha256: str, calibration: Rows, evaluation: Rows
) -> str:
    """A digest of everything that the candidates depend on.

    `sources` are the files of the recipe and its plugins.
    """
    package = Path(shipway.__path__[0])
    folders = (package / "artifact", package / "export", package / "runtime", package / "tasks")
    code = [package / "recipe.py", *(path for each in folders for path in each.rglob("*.py"))]
    parts = {
        "recipe": [sha256_of(path) for path in sources],
        "checkpoint": checkpoint_sha256,
        "calibration": digest_of_rows(calibration),
        "evaluation": digest_of_rows(evaluation),
        "packages": package_versions(),
        "extensions": _extension_versions(),
        "host": [platform.machine(), platform.python_version(), sorted(cpu_flags())],
        "code": {str(path.relative_to(package)): sha256_of(path) for path in sorted(code)},
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _extension_versions() -> list[str]:
    """The installed packages that bring tasks, techniques or backends, with their versions."""
    return sorted(
        f"{point.value} {point.dist.name} {point.dist.version}"
        for part in ("export.techniques", "runtime.backends", "tasks")
        for point in entry_points(group=f"shipway.{part}")
        if point.dist is not None
    )


@contextmanager
def candidate_cache(out: Path, name: str, key: str) -> Iterator[Path]:
    """The folder for this key, locked. It is kept afterwards; those of other keys are removed.

    Raises AnotherExportRuns if another process exports the same name into `out`.
    """
    home = out / CACHE / name
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise AnotherExportRuns(
            f"Another export of {name} into {out} is running. Wait for it to finish, or choose "
            "another folder with --out."
        ) from error
    try:
        for path in home.iterdir():
            if path.is_dir() and path.name != key:
                shutil.rmtree(path)
        for leftover in out.glob(f".{name}-*{SEALING}"):  # from an export that was killed
            shutil.rmtree(leftover)
        folder = home / key
        (folder / "programs").mkdir(parents=True, exist_ok=True)
        (folder / "candidates").mkdir(exist_ok=True)
        yield folder
    finally:
        lock.release()


def store_candidate(folder: Path, name: str, candidate: Candidate) -> None:
    """Records that a candidate is finished, whether it passed or not."""
    write_record(folder / "candidates" / f"{name}.json", candidate)


def load_candidate(folder: Path, name: str, program: Path) -> Candidate | None:
    """A candidate that an earlier run finished, or None if it has to be built.

    One that passed counts only if its file `program` is there with the right size.
    """
    path = folder / "candidates" / f"{name}.json"
    if not path.exists():
        return None
    try:
        candidate = read_record(path, Candidate)
    except ArtifactError:
        return None
    whole = program.exists() and program.stat().st_size == candidate.bytes
    return candidate if whole or not candidate.passed else None
