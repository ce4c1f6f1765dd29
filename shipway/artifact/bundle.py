"""Publishing an artifact whole, and opening one that can be trusted."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shipway.artifact.certificate import Certificate
from shipway.artifact.digests import SUMS, check_sums, files_in, read_small, sha256_of, write_sums
from shipway.artifact.errors import (
    AlreadySealed,
    DigestMismatch,
    IncompleteArtifact,
    InvalidManifest,
    NotAnArtifact,
    UnexpectedFile,
    UnsupportedFormat,
)
from shipway.artifact.manifest import FORMAT, Manifest
from shipway.files import atomic_write
from shipway.recipe import Record

MANIFEST = "manifest.json"
PLUGINS = "plugins"
"""The folder of the modules that the manifest names."""
CERTIFICATE = "certificate.json"
# With the programs that the manifest names, all that an artifact may hold.
_LAYOUT = re.compile(
    r"manifest\.json|certificate\.json|report\.html|(?:samples|files)/[A-Za-z0-9_.-]+"
)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An artifact whose every file was found to be the one that was sealed."""

    path: Path
    manifest: Manifest
    certificate: Certificate
    digest: str
    """SHA-256 of SHA256SUMS, so of everything."""

    def program_path(self, name: str) -> Path:
        """The file of a program, hashed once more: it is about to be mapped and run."""
        program = self.manifest.programs[name]
        path = self.path / program.file
        if (found := sha256_of(path)) != program.sha256:
            raise DigestMismatch(path, found, program.sha256)
        return path


def record_text(record: Record) -> str:
    """A record as JSON that a person can read and a diff can show."""
    return json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def write_record(path: Path, record: Record) -> None:
    """Writes a record as readable, indented JSON, whole or not at all."""
    atomic_write(path, record_text(record))


def read_record(path: Path, kind: type[R]) -> R:
    """The record in a file; raises InvalidManifest with every field that is wrong."""
    try:
        return kind.model_validate_json(read_small(path))
    except ValidationError as error:
        raise InvalidManifest(path, problems_in(error)) from error


def problems_in(error: ValidationError) -> str:
    """The first fields that are wrong, and what is wrong with each."""
    found = [
        (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))
        for each in error.errors()[:5]
    ]
    return "; ".join(f"{where or 'the file'}: {what}" for where, what in found)


def seal(staging: Path, destination: Path) -> None:
    """Makes `staging`, on the same disk, the artifact at `destination`, in one rename.

    Raises AlreadySealed if there is something at `destination`.
    """
    if destination.exists():
        raise AlreadySealed(destination)
    write_sums(staging)
    for name in files_in(staging):
        with (staging / name).open("rb") as file:
            os.fsync(file.fileno())
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(destination)


def open_artifact(path: Path) -> Artifact:
    """Checks every digest, then reads. Raises ArtifactError, naming the file that is wrong."""
    if not path.is_dir():
        raise NotAnArtifact(path, "folder of that name")
    sealed = check_sums(path)
    for needed in (MANIFEST, CERTIFICATE):
        if needed not in sealed:
            raise NotAnArtifact(path, needed)
    _check_format(path / MANIFEST)
    manifest = read_record(path / MANIFEST, Manifest)
    certificate = read_record(path / CERTIFICATE, Certificate)
    _check_agreement(path, sealed, manifest, certificate)
    return Artifact(
        path=path,
        manifest=manifest,
        certificate=certificate,
        digest=sha256_of(path / SUMS),
    )


def _check_format(path: Path) -> None:
    # Before validation: a newer format has fields that this build would call mistakes.
    try:
        found = json.loads(read_small(path))["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidManifest(path, f"the format number is missing or invalid ({error})") from error
    if found != FORMAT:
        raise UnsupportedFormat(path, found, FORMAT)


def _check_agreement(
    path: Path, sealed: dict[str, str], manifest: Manifest, certificate: Certificate
) -> None:
    """Raises unless the files are those that manifest and certificate speak of, and no others."""
    files = {program.file: program.sha256 for program in manifest.programs.values()}
    for name, expected in files.items():
        if (found := sealed.get(name)) is None:
            raise IncompleteArtifact(path, name)
        if found != expected:
            raise DigestMismatch(path / name, found, expected)
    for name in manifest.preprocessing.files:
        if name not in sealed:
            raise IncompleteArtifact(path, name)
    plugins = {f"{PLUGINS}/{name}.py" for name in manifest.plugins}
    if missing := sorted(plugins - sealed.keys()):
        raise IncompleteArtifact(path, missing[0])
    for name in sealed.keys() - files.keys() - plugins:
        if not _LAYOUT.fullmatch(name):
            raise UnexpectedFile(path / name)
    if unknown := manifest.programs.keys() - certificate.candidates.keys():
        names = ", ".join(sorted(unknown))
        raise InvalidManifest(
            path / CERTIFICATE, f"it has no entry for {names}, which the manifest lists"
        )
