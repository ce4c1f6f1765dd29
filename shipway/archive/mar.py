"""An artifact to a self-contained `.mar`, and back to what it says of itself.

A `.mar` is a zip file. This project's holds

    entry.py              what TorchServe imports; it checks every file below before it runs one
    handler.py            a file of handlers/, or one's own
    model-config.yaml     TorchServe's own settings for the model
    artifact/             the chosen program, the portable one, manifest, certificate, samples,
                          tokenizer
    shipway/              the code that serves it
    MAR-INF/              TorchServe's manifest, made by torch-model-archiver
    SHA256SUMS            every file above
"""

import hashlib
import json
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

import shipway
from shipway.archive.errors import ArchiveError
from shipway.artifact.bundle import CERTIFICATE, MANIFEST, PLUGINS, Artifact, write_record
from shipway.artifact.digests import MAX_RECORD_BYTES, SUMS, parse_sums, sha256_of, write_sums
from shipway.artifact.errors import ArtifactError
from shipway.artifact.manifest import Manifest
from shipway.artifact.samples import FOLDER, file_of
from shipway.errors import ShipwayError
from shipway.files import shipped
from shipway.recipe import TensorSpec

SERVING = ("__init__", "deadlines", "observing", "oip", "replies", "service", "statuses")
CODE = (
    *("__init__.py", "errors.py", "extras.py", "files.py", "plugins.py", "recipe.py"),
    "registry.py",
    *("artifact/*.py", "payloads/*.py", "runtime/*.py", "runtime/backends/*.py"),
    "tasks/*.py",
    *(f"serving/{name}.py" for name in SERVING),
    *(f"metrics/{name}.py" for name in ("__init__", "observed", "declared", "recorder", "traces")),
    *("engines/__init__.py", "engines/torchserve/__init__.py", "engines/torchserve/handler.py"),
)
"""The part of this package that an archive carries, and serves with."""
HANDLER = "handler.py"
"""The archive's copy of a file of handlers/."""
GENERIC = "generic"
"""The handler of tasks that have no file of their own."""

TORCHSERVE_MANIFEST = "MAR-INF/MANIFEST.json"
TORCHSERVE_SETTINGS = "model-config.yaml"
MAX_FILES = 1_000
MAX_UNPACKED_BYTES = 4 * 2**30
MAX_TIMES_LARGER = 200
"""Unpacked than packed: weights hardly shrink, text does by ten, a bomb by a thousand."""
# All that an archive may hold. TorchServe puts the unpacked folder on PYTHONPATH before it starts
# the worker, so a sitecustomize.py or a torch.py in it would run before any check.
_LAYOUT = re.compile(
    r"entry\.py|handler\.py|model-config\.yaml|SHA256SUMS|MAR-INF/MANIFEST\.json"
    r"|(?:handlers|shipway)/(?:[a-z_0-9]+/)*[a-z_0-9]+\.py"
    r"|artifact/(?:SHA256SUMS|(?:manifest|certificate)\.json|plugins/[a-z_0-9]+\.py"
    r"|(?:programs|files|samples)/[A-Za-z0-9_.-]+)"
)
_SETTINGS = re.compile(
    r"(?:(?:batchSize|maxBatchDelay|responseTimeout|startupTimeout): [1-9][0-9]{0,8}\n)*"
)
_NEEDED = (
    SUMS,
    f"artifact/{SUMS}",
    f"artifact/{MANIFEST}",
    TORCHSERVE_MANIFEST,
    TORCHSERVE_SETTINGS,
)
_HEADER_BYTES = 30
_LARGE_SIZES_BYTES = 20
_END_BYTES = 22
_BLOCK_BYTES = 2**20
_COPY_AGAIN = "It was cut short or damaged, or is something else; package or copy it again."
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


class _ForTorchServe(BaseModel):
    """MAR-INF/MANIFEST.json. Another handler, or a file of requirements, would be other code."""

    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")

        modelName: str
        modelVersion: str
        handler: Literal["entry.py"]
        configFile: Literal["model-config.yaml"]

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    createdOn: str
    runtime: Literal["python"]
    model: Model
    archiverVersion: str


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
    inputs: list[dict[str, Any]] = []

    @property
    def max_batch(self) -> int | None:
        try:
            return int(self.inputs[0]["shape"][0]["max"])
        except (LookupError, TypeError, ValueError):
            return None


class _Shaped(BaseModel):
    """What samples need of a manifest, likewise."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


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
        zip_folder(folder, packed)
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
    """Checks the form and every digest of a `.mar`; raises ArchiveError naming what is wrong.

    Nothing is unpacked, and nothing of it is read before names, number and sizes are known.
    """
    with _opened(path) as (file, archive):
        file.seek(0)  # the directory at its end was read
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        names = set(archive.namelist())
        for needed in _NEEDED:
            if needed not in names:
                raise ArchiveError(
                    f"{path} is a zip file but no archive of Shipway's: it has no {needed}. "
                    "`shipway package ARTIFACT` makes one."
                )
        _check_members(path, archive)
        _check_headers(path, file, archive)
        _check_digests(path, archive)
        try:
            manifest = _Outline.model_validate_json(
                _read_small(path, archive, f"artifact/{MANIFEST}")
            )
            served = _ForTorchServe.model_validate_json(
                _read_small(path, archive, TORCHSERVE_MANIFEST)
            ).model
        except ValidationError as error:
            raise ArchiveError(f"{path} has a manifest that does not read: {error}") from error
        settings = _read_small(path, archive, TORCHSERVE_SETTINGS).decode(errors="replace")
        if not _SETTINGS.fullmatch(settings):
            raise ArchiveError(
                f"{path} has a {TORCHSERVE_SETTINGS} with more than batch size, delay and "
                "timeouts. Package it again; `shipway register` has options for these."
            )
    if (served.modelName, served.modelVersion) != (manifest.name, manifest.version):
        raise ArchiveError(
            f"{path} would be served as {served.modelName} {served.modelVersion}, but its artifact "
            "is "
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
        digest=digest,
    )


def read_samples(path: Path) -> Samples | None:
    """The samples of a `.mar` that `inspect_mar` has found to be whole.

    None if it holds none: it was packaged before archives carried them, or is another maker's.
    Raises ArchiveError if they do not read.
    """
    from shipway.payloads.tensors import from_npy

    with _opened(path) as (_, archive):
        if not any(name.startswith(f"artifact/{FOLDER}/") for name in archive.namelist()):
            return None

        def rows_of(tensors: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
            return {
                each.name: from_npy(archive.read(f"artifact/{file_of(each.name)}"), each)
                for each in tensors
            }

        try:
            shaped = _Shaped.model_validate_json(_read_small(path, archive, f"artifact/{MANIFEST}"))
            certificate = json.loads(_read_small(path, archive, f"artifact/{CERTIFICATE}"))
            return Samples(
                inputs=rows_of(shaped.inputs),
                outputs=rows_of(shaped.outputs),
                tolerances={
                    name: float(each["tolerance"]["relative_error"])
                    for name, each in certificate["candidates"].items()
                    if each.get("tolerance")
                },
            )
        except (ShipwayError, ValidationError, KeyError, TypeError, AttributeError) as error:
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
    for name in ("files", FOLDER, PLUGINS):
        if (artifact.path / name).is_dir():
            shutil.copytree(artifact.path / name, inside / name)
    write_record(inside / MANIFEST, kept)
    write_record(inside / CERTIFICATE, artifact.certificate)
    write_sums(inside)
    _copy_code(Path(shipway.__path__[0]), CODE, folder / "shipway")
    shutil.copyfile(Path(__file__).with_name("entry.py"), folder / "entry.py")
    shutil.copyfile(handler_file(kept.task), folder / HANDLER)
    (folder / TORCHSERVE_SETTINGS).write_text(_model_config(kept))
    _write_torchserve_manifest(kept, folder)
    write_sums(folder)


def handler_file(task: str, project: Path | None = None) -> Path:
    """The handler for a task: the file handlers/TASK.py of the project's folder, by default the
    current one, or else the one that comes with Shipway."""
    own = (project or Path.cwd()) / "handlers" / f"{task}.py"
    if own.is_file():
        return own
    ours = shipped("handlers") / f"{task}.py"
    return ours if ours.is_file() else shipped("handlers") / f"{GENERIC}.py"


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
        config_file=TORCHSERVE_SETTINGS,
        export_path=str(folder),
    )
    content = json.loads(ModelExportUtils.generate_manifest_json(config))
    content["createdOn"] = manifest.created  # not the time of packing: the same bytes each time
    path = folder / TORCHSERVE_MANIFEST
    path.parent.mkdir()
    path.write_text(json.dumps(content, indent=1) + "\n")


def zip_folder(folder: Path, destination: Path) -> None:
    """Every file in `folder`, in the one form of zip that inspect_mar takes.

    Nothing is compressed: weights would be smaller by a tenth at most, and each check of it,
    and TorchServe's unpacking beside requests, would take twice as long.
    """
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _MADE_AT)
                member.external_attr = 0o644 << 16
                archive.writestr(member, path.read_bytes())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, zipfile.ZipFile]]:
    if path.is_dir():
        raise ArchiveError(
            f"{path} is a folder, not a .mar. `shipway package {path}` makes one of an artifact."
        )
    if not path.is_file():
        raise ArchiveError(f"{path} does not exist. `shipway package ARTIFACT` makes a .mar.")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield file, archive
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OSError) as error:
        raise ArchiveError(f"{path} is no whole .mar: {error}. {_COPY_AGAIN}") from error
    except (NotImplementedError, OverflowError) as error:  # an unknown version; an absurd number
        raise ArchiveError(f"{path} is no .mar: {error}. {_COPY_AGAIN}") from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_FILES or unpacked > MAX_UNPACKED_BYTES:
        raise ArchiveError(
            f"{path} would unpack to {len(members)} files and {unpacked / 2**30:.1f} GiB; at most "
            f"{MAX_FILES} files and {MAX_UNPACKED_BYTES / 2**30:.0f} GiB are accepted."
        )
    if unpacked > MAX_TIMES_LARGER * path.stat().st_size:
        raise ArchiveError(
            f"{path} would unpack to more than {MAX_TIMES_LARGER} times its size, as no model does."
        )
    for member in members:
        name = member.orig_filename
        if not _LAYOUT.fullmatch(name) or not {".", ".."}.isdisjoint(name.split("/")):
            raise ArchiveError(
                f"{path} holds {name[:100]!r}, which has no place in an archive of Shipway's."
            )
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ArchiveError(f"{path} holds {name!r}, which is a link or a device, not a file.")
    names = {member.filename.lower() for member in members}
    if len(names) != len(members):
        raise ArchiveError(f"{path} holds two files of the same name.")


def _check_headers(path: Path, file: BufferedReader, archive: zipfile.ZipFile) -> None:
    """Raises unless the file is its members, one after the other, and the directory of them.

    TorchServe unpacks by the header before each member; the directory at the end, by which
    members are checked here, it never reads. So both must say the same, and nothing may lie
    before, between or behind them.
    """
    end = 0
    for member in sorted(archive.infolist(), key=lambda each: each.header_offset):
        name = member.filename
        file.seek(end)
        header = file.read(_HEADER_BYTES + len(name) + _LARGE_SIZES_BYTES)
        wanted = [one for one in _headers_of(member) if header.startswith(one)]
        if member.header_offset != end or not wanted:
            raise ArchiveError(
                f"{path} does not say the same of {name!r} in its two places for that. "
                f"{_COPY_AGAIN}"
            )
        end += len(wanted[0]) + member.compress_size
    file.seek(-_END_BYTES, 2)
    last = file.read()
    if end != archive.start_dir or not last.startswith(b"PK\5\6") or archive.comment:
        raise ArchiveError(f"{path} holds more than its members. {_COPY_AGAIN}")


def _headers_of(member: zipfile.ZipInfo) -> list[bytes]:
    """The header that a member must have before it: plain, and with room for large sizes."""
    stored = member.compress_type == zipfile.ZIP_STORED
    if member.flag_bits or (stored and member.compress_size != member.file_size):
        return []
    if not stored and member.compress_type != zipfile.ZIP_DEFLATED:
        return []
    plain = zipfile.ZipInfo(member.filename, member.date_time)
    plain.compress_type, plain.CRC = member.compress_type, member.CRC
    plain.compress_size, plain.file_size = member.compress_size, member.file_size
    plain.extract_version = member.extract_version
    return [plain.FileHeader(), plain.FileHeader(zip64=True)]


def _check_digests(path: Path, archive: zipfile.ZipFile) -> None:
    sealed = _sums(path, archive, SUMS)
    found = set(archive.namelist())
    if extra := sorted(found - set(sealed) - {SUMS}):
        raise ArchiveError(f"{path} holds {extra[0]}, which was not there when it was packaged.")
    if missing := sorted(set(sealed) - found):
        raise ArchiveError(f"{path} lacks {missing[0]}, which was there when it was packaged.")
    inner = _sums(path, archive, f"artifact/{SUMS}")
    outer = {name: sealed[name] for name in sealed if name.startswith("artifact/")}
    if {f"artifact/{name}": digest for name, digest in inner.items()} != {
        name: digest for name, digest in outer.items() if name != f"artifact/{SUMS}"
    }:
        raise ArchiveError(f"{path} holds another artifact than was sealed. Package it again.")
    for name, expected in sealed.items():
        try:
            with archive.open(name) as member:
                digest = hashlib.sha256()
                while block := member.read(_BLOCK_BYTES):
                    digest.update(block)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ArchiveError(f"{path}: {name} is damaged: {error}. Copy it again.") from error
        if digest.hexdigest() != expected:
            raise ArchiveError(
                f"{path}: {name} is not the file that was packaged: its SHA-256 is "
                f"{digest.hexdigest()[:12]}…, expected {expected[:12]}…. Package or copy it again."
            )


def _sums(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, str]:
    try:
        return parse_sums(_read_small(path, archive, name), Path(f"{path}:{name}"))
    except ArtifactError as error:
        raise ArchiveError(f"{path} has a {name} that does not read: {error}") from error


def _read_small(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_RECORD_BYTES:
        raise ArchiveError(f"{path}: {name} is larger than {MAX_RECORD_BYTES >> 20} MiB.")
    return archive.read(name)
