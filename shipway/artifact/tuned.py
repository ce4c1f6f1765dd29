"""`NAME-VERSION.tuned.json`: settings that did best under load, beside the archive in its store.

Archives are immutable, and their settings were measured on the exporting host. These are measured
later, on the host that serves.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from shipway.artifact.bundle import read_record, write_record
from shipway.artifact.certificate import Host
from shipway.artifact.manifest import Serving
from shipway.recipe import Record

STORE_VARIABLE = "SHIPWAY_TUNED"
"""An environment variable: the model store in which a worker looks for its model's settings."""


class Evidence(Record):
    """The load test that the settings were chosen by."""

    slo_p99_ms: Annotated[float, Field(gt=0)]
    """The p99 latency limit of the load test."""
    rate: Annotated[float, Field(gt=0)]
    """The highest request rate within that limit, in requests/s with Poisson arrivals."""
    p99_ms: float
    """The p99 latency at that rate."""
    measured: str
    """ISO 8601, UTC."""
    host: Host


class Tuned(Record):
    """The whole of `NAME-VERSION.tuned.json`."""

    format: Literal[1] = 1
    serving: Serving
    evidence: Evidence | None = None
    """None for settings that were written by hand."""


def tuned_path(model_store: Path, name: str, version: str) -> Path:
    """Where the settings of a version are."""
    return model_store / f"{name}-{version}.tuned.json"


def read_tuned(model_store: Path, name: str, version: str) -> Tuned | None:
    """The tuned settings, or None if there are none. Raises InvalidManifest for an invalid file."""
    path = tuned_path(model_store, name, version)
    return read_record(path, Tuned) if path.is_file() else None


def write_tuned(model_store: Path, name: str, version: str, tuned: Tuned) -> Path:
    """Writes the settings of a version, in place of those before; returns their path."""
    path = tuned_path(model_store, name, version)
    write_record(path, tuned)
    return path
