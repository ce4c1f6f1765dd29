"""The samples in a `.mar`: reference outputs to compare a version with before promotion."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from shipway.archive.errors import ArchiveError
from shipway.archive.inspect import opened, read_small
from shipway.artifact.bundle import CERTIFICATE, MANIFEST
from shipway.artifact.samples import FOLDER, file_of
from shipway.errors import ShipwayError
from shipway.payloads.tensors import from_npy
from shipway.recipe import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Evaluation rows with eager PyTorch's outputs for them, and the certified tolerances."""

    inputs: Mapping[str, np.ndarray]
    """By name, each (rows, …)."""
    outputs: Mapping[str, np.ndarray]
    """Eager's outputs for these rows by name, each (rows, …)."""
    tolerances: Mapping[str, float]
    """By program: the largest relative error of its outputs that the certificate allows."""


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
            certificate = json.loads(read_small(path, archive, f"artifact/{CERTIFICATE}"))
            return Samples(
                inputs=rows_of(tensors.inputs),
                outputs=rows_of(tensors.outputs),
                tolerances={
                    name: float(candidate["tolerance"]["relative_error"])
                    for name, candidate in certificate["candidates"].items()
                    if candidate.get("tolerance")
                },
            )
        except (ShipwayError, ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(
                f"{path} contains invalid samples: {error}. Export the model and package it again."
            ) from error
