"""Publishing an artifact whole, and opening one that can be trusted."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shipway.artifact.certificate import Certificate
from shipway.artifact.digests import SUMS, check_sums, sha256_of, write_sums
from shipway.artifact.errors import (
    AlreadySealed,
    DigestMismatch,
    InvalidManifest,
    NotAnArtifact,
    UnsupportedFormat,
)
from shipway.artifact.manifest import FORMAT, Manifest, Record

MANIFEST = "manifest.json"
CERTIFICATE = "certificate.json"

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


def write_record(path: Path, record: Record) -> None:
    """Writes a record as JSON that a person can read and a diff can show."""
    path.write_text(json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")


def read_record(path: Path, kind: type[R]) -> R:
    """The record in a file; raises InvalidManifest with every field that is wrong."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}"
            for each in error.errors()[:5]
        )
        raise InvalidManifest(path, problems) from error


def seal(staging: Path, destination: Path) -> None:
    """Makes `staging`, on the same disk, the artifact at `destination`, in one rename.

    Raises AlreadySealed if there is something at `destination`.
    """
    if destination.exists():
        raise AlreadySealed(destination)
    write_sums(staging)
    for path in staging.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(destination)


def open_artifact(path: Path) -> Artifact:
    """Checks every digest, then reads. Raises ArtifactError, naming the file that is wrong."""
    if not path.is_dir():
        raise NotAnArtifact(path, "folder of that name")
    for needed in (MANIFEST, SUMS):
        if not (path / needed).is_file():
            raise NotAnArtifact(path, needed)
    check_sums(path)
    _check_format(path / MANIFEST)
    manifest = read_record(path / MANIFEST, Manifest)
    certificate = read_record(path / CERTIFICATE, Certificate)
    return Artifact(
        path=path,
        manifest=manifest,
        certificate=certificate,
        digest=sha256_of(path / SUMS),
    )


def _check_format(path: Path) -> None:
    # Before validation: a newer format has fields that this build would call mistakes.
    try:
        found = json.loads(path.read_bytes())["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidManifest(path, f"no format number could be read ({error})") from error
    if found != FORMAT:
        raise UnsupportedFormat(path, found, FORMAT)
