"""The candidate cache: finished candidates, kept for the case that an export is interrupted.

It is the folder `out`/.candidates/NAME/KEY, where KEY is a digest of what is known before the
module is built: the checkpoint, the inputs, Shipway's code, packages, the host. With another key an
export starts from the beginning. Each candidate's record has the digests of its files, and what the
program is made of, as the process that built it had loaded it. A candidate counts only if all of
this is the same now. Even then only the build is saved: it is verified like a new one.
"""

import json
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

import shipway
from shipway.artifact.bundle import read_record, write_record
from shipway.artifact.certificate import Candidate
from shipway.artifact.digests import files_in, sha256_of
from shipway.artifact.errors import ArtifactError
from shipway.export.errors import AnotherExportRuns
from shipway.export.loaded_code import Provenance, digest_of
from shipway.export.techniques import TECHNIQUES
from shipway.recipe import Record, Rows, Sha256
from shipway.runtime.backends import BACKENDS
from shipway.runtime.host import cpu_flags

CACHE = ".candidates"
PROGRAMS, RECORDS = "programs", "candidates"
"""The folders of the programs and of the records."""
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


def cache_key(sources: Iterable[Path], checkpoint_sha256: str, rows: Iterable[Rows]) -> str:
    """A digest of everything that the candidates depend on.

    `sources` are the files of the recipe and its plugins. What they import is in the candidates'
    records. `rows` are those for calibration, for evaluation, and those that take branches.
    """
    package = Path(shipway.__path__[0])
    code = sorted(package.rglob("*.py"))
    parts = {
        "recipe": [sha256_of(path) for path in sources],
        "checkpoint": checkpoint_sha256,
        "rows": list(map(digest_of_rows, rows)),
        "packages": package_versions(),
        "extensions": _extension_versions(),
        "host": [platform.machine(), platform.python_version(), sorted(cpu_flags())],
        "code": {str(path.relative_to(package)): sha256_of(path) for path in code},
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
        (folder / PROGRAMS).mkdir(parents=True, exist_ok=True)
        (folder / RECORDS).mkdir(exist_ok=True)
        yield folder
    finally:
        lock.release()


class CachedCandidate(Record):
    """A finished candidate, and what it depends on beside the key of the cache."""

    candidate: Candidate
    provenance: Provenance
    """What was loaded when it was finished."""
    files: dict[str, Sha256]
    """SHA-256 by name of each file in programs/ that its build wrote, or that it runs."""


def programs_in(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What tells one state of each file in programs/ from another, without reading it."""
    found = {}
    for name in files_in(folder / PROGRAMS):
        state = (folder / PROGRAMS / name).stat()
        found[name] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


def written_since(
    before: Mapping[str, tuple[int, int, int]], folder: Path, program: str | None
) -> dict[str, str]:
    """SHA-256 by name of each file in programs/ that differs from `before`, and of `program`."""
    return {
        name: sha256_of(folder / PROGRAMS / name)
        for name, state in programs_in(folder).items()
        if before.get(name) != state or name == program
    }


def store_candidate(
    folder: Path,
    name: str,
    candidate: Candidate,
    provenance: Provenance,
    files: Mapping[str, str],
) -> None:
    """Records that a candidate is finished, whether it passed or not."""
    record = CachedCandidate(candidate=candidate, provenance=provenance, files=dict(files))
    write_record(folder / RECORDS / f"{name}.json", record)


def load_candidates(folder: Path, made_of: Provenance) -> dict[str, Candidate]:
    """The candidates that an earlier run finished, of the parts that this run has loaded.

    Removes all other records, and the programs that no record that is left has written.
    """
    candidates: dict[str, Candidate] = {}
    files: set[str] = set()
    for path in sorted((folder / RECORDS).iterdir()):
        record = _read_valid(path, folder, made_of)
        if record is None:
            path.unlink()
        else:
            candidates[path.stem] = record.candidate
            files |= record.files.keys()
    for name in programs_in(folder):
        if name not in files:
            (folder / PROGRAMS / name).unlink()
    return candidates


def _read_valid(path: Path, folder: Path, made_of: Provenance) -> CachedCandidate | None:
    try:
        record = read_record(path, CachedCandidate)
    except ArtifactError:
        return None
    valid = (
        record.provenance.includes(made_of)
        and record.provenance.still_true()
        and all(digest_of(folder / PROGRAMS / name) == sum for name, sum in record.files.items())
    )
    return record if valid else None
