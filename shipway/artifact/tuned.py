"""`NAME-VERSION.tuned.json`: settings that did best under load, beside the archive in its store.

An archive never changes and its settings are those of the exporting host; these are measured later,
on the host that serves.
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
    """What the settings did."""

    slo_p99_ms: Annotated[float, Field(gt=0)]
    """The latency that 99% of requests were to keep below."""
    rate: Annotated[float, Field(gt=0)]
    """The most requests a second that did, arriving by themselves as a Poisson process."""
    p99_ms: float
    """At that rate."""
    measured: str
    """ISO 8601, UTC."""
    host: Host


class Tuned(Record):
    """The whole of `NAME-VERSION.tuned.json`."""

    format: Literal[1] = 1
    serving: Serving
    evidence: Evidence | None = None
    """None for settings that somebody wrote by hand."""


def tuned_path(model_store: Path, name: str, version: str) -> Path:
    """Where the settings of a version are."""
    return model_store / f"{name}-{version}.tuned.json"


def read_tuned(model_store: Path, name: str, version: str) -> Tuned | None:
    """None if nobody has tuned that version. Raises InvalidManifest if the file does not read."""
    path = tuned_path(model_store, name, version)
    return read_record(path, Tuned) if path.is_file() else None


def write_tuned(model_store: Path, name: str, version: str, tuned: Tuned) -> Path:
    """Writes the settings of a version, in place of those before; returns their path."""
    path = tuned_path(model_store, name, version)
    write_record(path, tuned)
    return path
