"""An artifact to a self-contained `.mar`, and back to what it says of itself.

A `.mar` is a zip file. This project's holds

    entry.py              what TorchServe imports
    model-config.yaml     TorchServe's own settings for the model
    artifact/             the chosen program, the portable one, manifest, certificate, samples,
                          tokenizer
    handlers/, shipway/   the code that serves it
    SHA256SUMS            every file above
    MAR-INF/              TorchServe's manifest, made by torch-model-archiver
"""

import io
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError

import handlers
import shipway
from handlers.errors import ArchiveError
from shipway.artifact.bundle import CERTIFICATE, MANIFEST, Artifact, write_record
from shipway.artifact.digests import SUMS, parse_sums, sha256_of, write_sums
from shipway.artifact.errors import ArtifactError
from shipway.artifact.manifest import Manifest
from shipway.artifact.samples import FOLDER, file_of

NOT_SERVING = ("archive.py", "cli.py", "entry.py")
"""Of the handlers' code, what stays at home; entry.py has its own place."""
SHIPWAY_CODE = (
    *("__init__.py", "errors.py", "artifact/*.py", "runtime/*.py"),
    *(f"metrics/{name}.py" for name in ("__init__", "answered", "declared", "recorder", "traces")),
)

TORCHSERVE_MANIFEST = "MAR-INF/MANIFEST.json"
MAX_FILES = 1_000
MAX_UNPACKED_BYTES = 4 * 2**30
_MADE_AT = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: the same content, the same bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MarInfo:
    """What a checked `.mar` says of itself."""

    path: Path
    name: str
    version: str
    batch_size: int
    max_batch_delay_ms: int
    workers: int
    max_batch: int | None = None
    """The most rows that one run of its programs may hold."""
    digest: str
    """SHA-256 of the file, in hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What an archive gives to compare a server's answers with."""

    inputs: Mapping[str, np.ndarray]
    """By name, each (rows, …)."""
    outputs: Mapping[str, np.ndarray]
    """Eager's for these rows, likewise."""
    tolerances: Mapping[str, float]
    """By program: how large the relative error of its outputs may be, as certified."""


class _Tensor(BaseModel):
    name: str
    shape: list[Any] = []


class _Outline(BaseModel):
    """What registration needs of a manifest. An archive is read by its own code, whose format may
    be older than this, so that it can be rolled back to; the rest of the manifest is its affair."""

    class Batching(BaseModel):
        batch_size: int
        max_batch_delay_ms: int
        workers: int

    name: str
    version: str
    serving: Batching
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []

    @property
    def max_batch(self) -> int | None:
        try:
            return int(self.inputs[0].shape[0]["max"])
        except (LookupError, TypeError, ValueError):
            return None


def pack(artifact: Artifact, model_store: Path) -> Path:
    """Writes NAME-VERSION.mar into `model_store`, whole or not at all.

    The same artifact and code give the same bytes. Raises ArchiveError if another file of that
    name is there.
    """
    manifest = artifact.manifest
    destination = model_store / f"{manifest.name}-{manifest.version}.mar"
    model_store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model_store, prefix=".packing-") as temporary:
        folder = Path(temporary) / "content"
        _stage(artifact, folder)
        packed = Path(temporary) / destination.name
        _zip(folder, packed)
        if destination.exists():
            if sha256_of(destination) == sha256_of(packed):
                return destination
            raise ArchiveError(
                f"{destination} exists with other content, and an archive never changes. "
                "Export under another version (--version 2.0), or remove the old file first."
            )
        packed.replace(destination)
    return destination


def inspect_mar(path: Path) -> MarInfo:
    """Checks the form and every digest of a `.mar`; raises ArchiveError naming what is wrong."""
    with _opened(path) as archive:
        _check_members(path, archive)
        names = set(archive.namelist())
        for needed in (SUMS, f"artifact/{MANIFEST}", TORCHSERVE_MANIFEST):
            if needed not in names:
                raise ArchiveError(
                    f"{path} is a zip file but no archive of Shipway's: it has no {needed}. "
                    "`shipway package ARTIFACT` makes one."
                )
        _check_digests(path, archive)
        try:
            manifest = _Outline.model_validate_json(archive.read(f"artifact/{MANIFEST}"))
            model = json.loads(archive.read(TORCHSERVE_MANIFEST))["model"]
            served_as = (model["modelName"], model["modelVersion"])
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{path} has a manifest that does not read: {error}") from error
    if served_as != (manifest.name, manifest.version):
        raise ArchiveError(
            f"{path} would be served as {' '.join(map(str, served_as))}, but its artifact is "
            f"{manifest.name} {manifest.version}. Package it again."
        )
    return MarInfo(
        path=path,
        name=manifest.name,
        version=manifest.version,
        batch_size=manifest.serving.batch_size,
        max_batch_delay_ms=manifest.serving.max_batch_delay_ms,
        workers=manifest.serving.workers,
        max_batch=manifest.max_batch,
        digest=sha256_of(path),
    )


def read_samples(path: Path) -> Samples | None:
    """The samples of a `.mar` that `inspect_mar` has found to be whole.

    None if it holds none: it was packaged before archives carried them, or is another maker's.
    Raises ArchiveError if some are missing.
    """
    with _opened(path) as archive:
        if not any(name.startswith(f"artifact/{FOLDER}/") for name in archive.namelist()):
            return None

        def rows_of(tensors: list[_Tensor]) -> dict[str, np.ndarray]:
            files = {each.name: archive.read(f"artifact/{file_of(each.name)}") for each in tensors}
            return {
                name: np.load(io.BytesIO(data), allow_pickle=False) for name, data in files.items()
            }

        try:
            manifest = _Outline.model_validate_json(archive.read(f"artifact/{MANIFEST}"))
            certified = json.loads(archive.read(f"artifact/{CERTIFICATE}"))["candidates"]
            return Samples(
                inputs=rows_of(manifest.inputs),
                outputs=rows_of(manifest.outputs),
                tolerances={
                    name: float(each["tolerance"]["relative_error"])
                    for name, each in certified.items()
                    if each.get("tolerance")
                },
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{path} has samples that do not read: {error}") from error


def _stage(artifact: Artifact, folder: Path) -> None:
    kept = artifact.manifest.model_copy(
        update={
            "programs": {
                name: artifact.manifest.programs[name]
                for name in dict.fromkeys((artifact.manifest.chosen, artifact.manifest.fallback))
            }
        }
    )
    inside = folder / "artifact"
    (inside / "programs").mkdir(parents=True)
    for name, program in kept.programs.items():
        shutil.copyfile(artifact.program_path(name), inside / program.file)
    for name in ("files", FOLDER):
        if (artifact.path / name).is_dir():
            shutil.copytree(artifact.path / name, inside / name)
    write_record(inside / MANIFEST, kept)
    write_record(inside / CERTIFICATE, artifact.certificate)
    write_sums(inside)
    _copy_code(Path(shipway.__path__[0]), SHIPWAY_CODE, folder / "shipway")
    _copy_code(Path(handlers.__path__[0]), ("*.py",), folder / "handlers")
    for name in NOT_SERVING:
        (folder / "handlers" / name).unlink()
    shutil.copyfile(Path(handlers.__path__[0]) / "entry.py", folder / "entry.py")
    (folder / "model-config.yaml").write_text(_model_config(kept))
    write_sums(folder)
    _write_torchserve_manifest(kept, folder)


def _copy_code(source: Path, patterns: tuple[str, ...], destination: Path) -> None:
    for pattern in patterns:
        for path in source.glob(pattern):
            copy = destination / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _model_config(manifest: Manifest) -> str:
    # For those who register with curl and say nothing: a registration's query string wins.
    # TorchServe takes a delay below 1 ms only from there.
    return yaml.safe_dump(
        {
            "batchSize": manifest.serving.batch_size,
            "maxBatchDelay": max(1, manifest.serving.max_batch_delay_ms),
            "responseTimeout": 60,
            "startupTimeout": 120,
        },
        sort_keys=False,
    )


def _write_torchserve_manifest(manifest: Manifest, folder: Path) -> None:
    from model_archiver.model_archiver_config import ModelArchiverConfig
    from model_archiver.model_packaging_utils import ModelExportUtils

    config = ModelArchiverConfig(
        model_name=manifest.name,
        handler="entry.py",
        version=manifest.version,
        config_file="model-config.yaml",
        export_path=str(folder),
    )
    content = json.loads(ModelExportUtils.generate_manifest_json(config))
    content["createdOn"] = manifest.created  # not the time of packing: the same bytes each time
    path = folder / TORCHSERVE_MANIFEST
    path.parent.mkdir()
    path.write_text(json.dumps(content, indent=1) + "\n")


def _zip(folder: Path, destination: Path) -> None:
    with zipfile.ZipFile(destination, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _MADE_AT)
                member.external_attr = 0o644 << 16
                archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=6)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if path.is_dir():
        raise ArchiveError(
            f"{path} is a folder, not a .mar. `shipway package {path}` makes one of an artifact."
        )
    if not path.is_file():
        raise ArchiveError(f"{path} does not exist. `shipway package ARTIFACT` makes a .mar.")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ArchiveError(
            f"{path} is no whole .mar: {error}. It was cut short or damaged, or is something "
            "else; package or copy it again."
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_FILES or unpacked > MAX_UNPACKED_BYTES:
        raise ArchiveError(
            f"{path} would unpack to {len(members)} files and {unpacked / 2**30:.1f} GiB; at most "
            f"{MAX_FILES} files and {MAX_UNPACKED_BYTES / 2**30:.0f} GiB are accepted."
        )
    names = [member.filename for member in members]
    for member in members:
        parts = member.filename.split("/")
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if member.filename.startswith("/") or ".." in parts or "\\" in member.filename or is_link:
            raise ArchiveError(f"{path} holds {member.filename!r}, which would land outside it.")
    if len(set(names)) != len(names):
        raise ArchiveError(f"{path} holds two files of the same name.")


def _check_digests(path: Path, archive: zipfile.ZipFile) -> None:
    try:
        sealed = parse_sums(archive.read(SUMS).decode(), Path(f"{path}:{SUMS}"))
    except (ArtifactError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path} has a {SUMS} that does not read: {error}") from error
    found = {name for name in archive.namelist() if not name.endswith("/")}
    if extra := sorted(found - set(sealed) - {SUMS, TORCHSERVE_MANIFEST}):
        raise ArchiveError(f"{path} holds {extra[0]}, which was not there when it was packaged.")
    if missing := sorted(set(sealed) - found):
        raise ArchiveError(f"{path} lacks {missing[0]}, which was there when it was packaged.")
    for name, expected in sealed.items():
        try:
            digest = sha256(archive.read(name)).hexdigest()
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ArchiveError(f"{path}: {name} is damaged: {error}. Copy it again.") from error
        if digest != expected:
            raise ArchiveError(
                f"{path}: {name} is not the file that was packaged: its SHA-256 is "
                f"{digest[:12]}…, expected {expected[:12]}…. Package or copy it again."
            )
