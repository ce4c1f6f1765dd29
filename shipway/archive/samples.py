"""The samples in a `.mar`: reference outputs to compare a version with before promotion."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from shipway.archive.errors import ArchiveError
from shipway.archive.inspect import opened, read_small
from shipway.artifact.bundle import CERTIFICATE, MANIFEST
from shipway.artifact.certificate import OutputMeasure
from shipway.artifact.measures import kind_of, spread_of
from shipway.artifact.samples import FOLDER, file_of
from shipway.errors import ShipwayError
from shipway.payloads.tensors import from_npy
from shipway.recipe import TensorSpec, Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Evaluation rows with eager PyTorch's outputs for them, and what is certified of them."""

    inputs: Mapping[str, np.ndarray]
    """By name, each (rows, …)."""
    outputs: Mapping[str, np.ndarray]
    """Eager's outputs for these rows by name, each (rows, …)."""
    measures: Mapping[str, OutputMeasure]
    """How each output is compared, by name."""
    tolerances: Mapping[str, Tolerance]
    """By program: how far its outputs may be from eager's."""


class _Certified(BaseModel):
    """The part of a certificate that samples need."""

    outputs: tuple[OutputMeasure, ...] = ()
    """None in archives of early versions."""
    candidates: dict[str, "_Candidate"]


class _Candidate(BaseModel):
    tolerance: Tolerance | None = None


class _Tensors(BaseModel):
    """The part of a manifest that samples need. Its other fields may be of another format."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_samples(path: Path) -> Samples | None:
    """The samples of a `.mar` that passed `inspect_mar`.

    None if it contains none, as archives of early versions do. Raises ArchiveError if they are
    invalid.
    """
    with opened(path) as (_, archive):
        if not any(name.startswith(f"artifact/{FOLDER}/") for name in archive.namelist()):
            return None

        def rows_of(tensors: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
            return {
                spec.name: from_npy(archive.read(f"artifact/{file_of(spec.name)}"), spec)
                for spec in tensors
            }

        try:
            tensors = _Tensors.model_validate_json(
                read_small(path, archive, f"artifact/{MANIFEST}")
            )
            certified = _Certified.model_validate_json(
                read_small(path, archive, f"artifact/{CERTIFICATE}")
            )
            outputs = rows_of(tensors.outputs)
            return Samples(
                inputs=rows_of(tensors.inputs),
                outputs=outputs,
                measures=_by_its_own_rows(outputs)
                | {measure.name: measure for measure in certified.outputs},
                tolerances={
                    name: candidate.tolerance
                    for name, candidate in certified.candidates.items()
                    if candidate.tolerance
                },
            )
        except (ShipwayError, ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(
                f"{path} contains invalid samples: {error}. Export the model and package it again."
            ) from error


def _by_its_own_rows(outputs: Mapping[str, np.ndarray]) -> dict[str, OutputMeasure]:
    """For archives that do not say how their outputs are compared: by the samples' own spread."""
    kinds = {name: kind_of(output, "scores") for name, output in outputs.items()}
    return {
        name: OutputMeasure(name=name, kind=kind, spread=spread_of(outputs[name], kind))
        for name, kind in kinds.items()
    }
