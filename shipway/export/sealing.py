"""Writes an artifact's files into a staging folder and seals it in one rename."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from shipway.artifact import samples
from shipway.artifact.bundle import CERTIFICATE, MANIFEST, PLUGINS, seal, write_record
from shipway.artifact.certificate import Certificate
from shipway.artifact.digests import SUMS, sha256_of
from shipway.artifact.manifest import Manifest, Program
from shipway.export.candidate_cache import SEALING
from shipway.export.recipe_data import RecipeData
from shipway.export.report import write_report
from shipway.export.techniques.base import Technique

SAMPLE_ROWS = 8
"""Evaluation rows, with eager's outputs, that travel with the artifact."""


def describe_program(technique: Technique, path: Path) -> Program:
    """The manifest's entry for a program that `technique` built at `path`, in the cache."""
    return Program(
        file=f"programs/{technique.file}",
        format=technique.format,
        runtime=technique.runtime,
        precision=technique.precision,
        quantization=technique.quantization,
        device=technique.device,
        requires=technique.requires(),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )


def seal_export(
    destination: Path,
    manifest: Manifest,
    certificate: Certificate,
    data: RecipeData,
    *,
    cache: Path,
    references: Mapping[str, np.ndarray],
    overwrite: bool,
    budget: float,
) -> None:
    """Seals a new artifact at `destination`.

    `cache` is the folder that holds programs/, `references` eager's outputs for the evaluation rows
    by name, each (N, …). Raises AlreadySealed if the destination exists and is not to be
    overwritten.
    """
    with _staging(destination.parent, manifest.name) as staging:
        for name in ("programs", samples.FOLDER, *(["files"] if data.files else [])):
            (staging / name).mkdir(parents=True)
        for file in {program.file for program in manifest.programs.values()}:
            # Copied, not linked: the cache may write its file again, the artifact never may.
            shutil.copyfile(cache / file, staging / file)
        for name, path in data.files.items():
            shutil.copyfile(path, staging / "files" / name)
        for path in data.plugins:
            (staging / PLUGINS).mkdir(exist_ok=True)
            shutil.copyfile(path, staging / PLUGINS / path.name)
        for spec, array in zip(manifest.inputs, data.evaluation.arrays, strict=True):
            np.save(staging / samples.file_of(spec.name), array[:SAMPLE_ROWS])
        for name, output in references.items():
            np.save(staging / samples.file_of(name), output[:SAMPLE_ROWS])
        _write_records(staging, manifest, certificate, budget)
        if overwrite and destination.exists():
            destination.rename(staging.parent / "replaced")
        seal(staging, destination)


def seal_again(
    source: Path, destination: Path, manifest: Manifest, certificate: Certificate, budget: float
) -> None:
    """Seals a copy of the artifact `source` at `destination`, with new records and report."""
    with _staging(destination.parent, manifest.name) as staging:
        shutil.copytree(source, staging)
        (staging / SUMS).unlink()
        _write_records(staging, manifest, certificate, budget)
        seal(staging, destination)


@contextmanager
def _staging(out: Path, name: str) -> Iterator[Path]:
    """A path for a new folder on the disk of `out`; what is left of it is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-", suffix=SEALING) as temporary:
        yield Path(temporary) / "artifact"


def _write_records(
    staging: Path, manifest: Manifest, certificate: Certificate, budget: float
) -> None:
    write_record(staging / MANIFEST, manifest)
    write_record(staging / CERTIFICATE, certificate)
    write_report(staging, manifest, certificate, budget)
