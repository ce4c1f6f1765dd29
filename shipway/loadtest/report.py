"""A load report: every load on one model, as data."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from shipway import __version__
from shipway.artifact.certificate import Host
from shipway.loadtest.load_test import Input, Record
from shipway.loadtest.preflight import Subject
from shipway.loadtest.result import Result
from shipway.loadtest.sweep import knee
from shipway.runtime.backends.packages import installed
from shipway.runtime.host import describe_host

INPUTS_NAMED = 5
"""How many inputs a report names."""
PACKAGES = ("locust", "gevent", "geventhttpclient", "grpcio", "hdrhistogram", "torchserve")


class Sent(Record):
    """The inputs that were sent, without their bytes."""

    count: int
    names: tuple[str, ...]
    """Of the first few inputs."""
    least_bytes: int
    most_bytes: int


class Report(Record):
    """Every load on one model, in the order in which they were measured."""

    format: Literal[1] = 1
    made: str
    """ISO 8601, UTC."""
    partial: str = ""
    """Why loads are missing; empty if the report is complete."""
    subject: Subject
    sent: Sent
    timeout_s: float
    host: Host
    """The machine of the load generator."""
    packages: dict[str, str]
    results: tuple[Result, ...]

    @property
    def knee(self) -> Result | None:
        """The open loop after which latency rises; None if there is no such point."""
        place = knee(self.results)
        return None if place is None else self.results[place]

    @property
    def title(self) -> str:
        """The model's name and version."""
        return f"{self.subject.model} {self.subject.version or ''}".strip()


def new_report(
    subject: Subject,
    inputs: Sequence[Input],
    timeout_s: float,
    results: Sequence[Result],
    partial: str = "",
) -> Report:
    """A report of these results, made now, from this machine."""
    sizes = [len(given.body) for given in inputs]
    return Report(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        partial=partial,
        subject=subject,
        sent=Sent(
            count=len(inputs),
            names=tuple(given.name for given in inputs[:INPUTS_NAMED]),
            least_bytes=min(sizes),
            most_bytes=max(sizes),
        ),
        timeout_s=timeout_s,
        host=describe_host(),
        packages={
            "shipway": __version__,
            **{name: version for name in PACKAGES if (version := installed(name))},
        },
        results=tuple(results),
    )
