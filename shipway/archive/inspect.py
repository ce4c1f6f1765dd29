"""Checks of a `.mar` before anything in it is unpacked or run."""

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from shipway.archive.errors import ArchiveError
from shipway.archive.layout import (
    ALLOWED,
    MAX_COMPRESSION,
    MAX_FILES,
    MAX_UNPACKED_BYTES,
    REQUIRED,
    SETTINGS,
    TORCHSERVE_MANIFEST,
    TORCHSERVE_SETTINGS,
)
from shipway.artifact.bundle import MANIFEST
from shipway.artifact.digests import MAX_RECORD_BYTES, SUMS, parse_sums
from shipway.artifact.errors import ArtifactError

_HEADER_BYTES = 30
_LARGE_SIZES_BYTES = 20
_END_BYTES = 22
_BLOCK_BYTES = 2**20
_COPY_AGAIN = (
    "The file is truncated, damaged or not an archive. "
    "Copy it again, or package the artifact again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarInfo:
    """What registration needs to know about a `.mar` that passed the checks."""

    path: Path
    name: str
    version: str
    batch_size: int
    max_batch_delay_ms: int
    workers: int
    max_batch: int | None = None
    """The largest batch, in rows, that its programs accept; None if the manifest has no limit."""
    digest: str
    """SHA-256 of the file, in hexadecimal."""


class _TorchServeManifest(BaseModel):
    """MAR-INF/MANIFEST.json. Another handler, or a file of requirements, would run code that no
    digest covers."""

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
    """The part of a manifest that registration needs. An archive is opened by its own code, whose
    format may be older, so that a server can be rolled back to it: other fields are not read."""

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


def inspect_mar(path: Path) -> MarInfo:
    """Checks the structure and every digest of a `.mar`; raises ArchiveError for the first fault.

    Nothing is unpacked, and no member is read before the names, number and sizes of all are
    checked.
    """
    with opened(path) as (file, archive):
        file.seek(0)  # the directory at its end was read
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        names = set(archive.namelist())
        for needed in REQUIRED:
            if needed not in names:
                raise ArchiveError(
                    f"{path} is a zip file, but not a Shipway archive: {needed} is missing. "
                    "Create an archive with `shipway package ARTIFACT`."
                )
        _check_members(path, archive)
        _check_headers(path, file, archive)
        _check_digests(path, archive)
        try:
            manifest = _Outline.model_validate_json(
                read_small(path, archive, f"artifact/{MANIFEST}")
            )
            served = _TorchServeManifest.model_validate_json(
                read_small(path, archive, TORCHSERVE_MANIFEST)
            ).model
        except ValidationError as error:
            raise ArchiveError(
                f"{path} has an invalid manifest: {error}. Package the artifact again."
            ) from error
        settings = read_small(path, archive, TORCHSERVE_SETTINGS).decode(errors="replace")
        if not SETTINGS.fullmatch(settings):
            raise ArchiveError(
                f"{path}: {TORCHSERVE_SETTINGS} may set only batchSize, maxBatchDelay, "
                "responseTimeout and startupTimeout. Package the artifact again. Set batch size "
                "and delay with the options of `shipway register`."
            )
    if (served.modelName, served.modelVersion) != (manifest.name, manifest.version):
        raise ArchiveError(
            f"{path} is named {served.modelName} {served.modelVersion} in TorchServe's manifest, "
            f"but contains the artifact {manifest.name} {manifest.version}. "
            "Package the artifact again."
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


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, zipfile.ZipFile]]:
    """Opens a `.mar` as a file and as a zip. A zip error in the block becomes an ArchiveError."""
    if path.is_dir():
        raise ArchiveError(
            f"{path} is a folder, not a .mar file. If it is an artifact, package it with "
            f"`shipway package {path}`."
        )
    if not path.is_file():
        raise ArchiveError(
            f"{path} does not exist. Create a .mar file with `shipway package ARTIFACT`."
        )
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield file, archive
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OSError) as error:
        raise ArchiveError(f"{path} is not a complete .mar file: {error}. {_COPY_AGAIN}") from error
    except (NotImplementedError, OverflowError) as error:  # an unknown version; an absurd number
        raise ArchiveError(f"{path} is not a .mar file: {error}. {_COPY_AGAIN}") from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_FILES or unpacked > MAX_UNPACKED_BYTES:
        raise ArchiveError(
            f"{path} would unpack to {len(members)} files and {unpacked / 2**30:.1f} GiB; at most "
            f"{MAX_FILES} files and {MAX_UNPACKED_BYTES / 2**30:.0f} GiB are accepted. "
            "Package a smaller artifact."
        )
    if unpacked > MAX_COMPRESSION * path.stat().st_size:
        raise ArchiveError(
            f"{path} would unpack to more than {MAX_COMPRESSION} times its size, which is not "
            "plausible for a model. Package the artifact again."
        )
    for member in members:
        name = member.orig_filename
        if not ALLOWED.fullmatch(name) or not {".", ".."}.isdisjoint(name.split("/")):
            raise ArchiveError(
                f"{path} contains {name[:100]!r}, which a Shipway archive may not contain. Package "
                "the artifact again."
            )
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ArchiveError(
                f"{path} contains {name!r}, which is a link or a device. Only regular files are "
                "accepted. Package the artifact again."
            )
    names = {member.filename.lower() for member in members}
    if len(names) != len(members):
        raise ArchiveError(
            f"{path} contains two files with the same name, ignoring case. Package the artifact "
            "again."
        )


def _check_headers(path: Path, file: BufferedReader, archive: zipfile.ZipFile) -> None:
    """Raises ArchiveError unless the file is its members, one after the other, and the directory.

    TorchServe unpacks by the header before each member and never reads the directory at the end,
    by which members are checked here. So both must agree, and nothing may lie before, between or
    after them.
    """
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        name = member.filename
        file.seek(end)
        header = file.read(_HEADER_BYTES + len(name) + _LARGE_SIZES_BYTES)
        matching = [form for form in _headers_of(member) if header.startswith(form)]
        if member.header_offset != end or not matching:
            raise ArchiveError(
                f"{path} has different headers for {name!r} before the file and in the zip "
                f"directory. {_COPY_AGAIN}"
            )
        end += len(matching[0])
        file.seek(end)
        if member.compress_type == zipfile.ZIP_DEFLATED and not _ends_there(file, member):
            raise ArchiveError(
                f"{path} contains {name!r} as a stream that does not end where its header says. "
                f"{_COPY_AGAIN}"
            )
        end += member.compress_size
    file.seek(-_END_BYTES, 2)
    last = file.read()
    if end != archive.start_dir or not last.startswith(b"PK\5\6") or archive.comment:
        raise ArchiveError(f"{path} contains data outside of its zip members. {_COPY_AGAIN}")


def _ends_there(file: BufferedReader, member: zipfile.ZipInfo) -> bool:
    """Whether the deflated stream at the file's position has exactly the sizes in its header.

    zipfile stops after so many bytes. TorchServe reads until the stream says that it ends, which
    could be in the middle of another member.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    left, size = member.compress_size, 0
    while left and not stream.eof:
        block = file.read(min(left, _BLOCK_BYTES))
        if not block:
            return False
        left -= len(block)
        while block and not stream.eof:
            size += len(stream.decompress(block, _BLOCK_BYTES))
            if size > member.file_size:
                return False
            block = stream.unconsumed_tail
    # What has been read already may hold more than fits one block.
    while not stream.eof and (more := stream.decompress(stream.unconsumed_tail, _BLOCK_BYTES)):
        size += len(more)
        if size > member.file_size:
            return False
    return stream.eof and not left and not stream.unused_data and size == member.file_size


def _headers_of(member: zipfile.ZipInfo) -> list[bytes]:
    """The headers that a member may have: the plain one, and the one for large sizes."""
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
        raise ArchiveError(
            f"{path} contains {extra[0]}, which SHA256SUMS does not list. Copy or package it again."
        )
    if missing := sorted(set(sealed) - found):
        raise ArchiveError(
            f"{path} lacks {missing[0]}, which SHA256SUMS lists. Copy or package it again."
        )
    inner = _sums(path, archive, f"artifact/{SUMS}")
    outer = {name: sealed[name] for name in sealed if name.startswith("artifact/")}
    if {f"artifact/{name}": digest for name, digest in inner.items()} != {
        name: digest for name, digest in outer.items() if name != f"artifact/{SUMS}"
    }:
        raise ArchiveError(
            f"{path} contains an artifact that does not match the digests of the archive. "
            "Package the artifact again."
        )
    for name, expected in sealed.items():
        try:
            with archive.open(name) as member:
                digest = hashlib.sha256()
                while block := member.read(_BLOCK_BYTES):
                    digest.update(block)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ArchiveError(
                f"{path}: {name} is damaged: {error}. Copy the archive again."
            ) from error
        if digest.hexdigest() != expected:
            raise ArchiveError(
                f"{path}: {name} has changed since the archive was packaged: its SHA-256 is "
                f"{digest.hexdigest()[:12]}…, expected {expected[:12]}…. Copy or package it again."
            )


def _sums(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, str]:
    try:
        return parse_sums(read_small(path, archive, name), Path(f"{path}:{name}"))
    except ArtifactError as error:
        raise ArchiveError(f"{path} has an invalid {name}: {error}") from error


def read_small(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member that is read whole. Raises ArchiveError if it is too large."""
    if archive.getinfo(name).file_size > MAX_RECORD_BYTES:
        raise ArchiveError(
            f"{path}: {name} is larger than the limit of {MAX_RECORD_BYTES >> 20} MiB. Package the "
            "artifact again."
        )
    return archive.read(name)
