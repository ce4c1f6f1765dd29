"""A report on disk: `NAME.json` for programs and for comparisons, `NAME.html` for people."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import ValidationError

from shipway import __version__
from shipway.artifact.bundle import problems_in
from shipway.artifact.certificate import Host
from shipway.loadtest.errors import ReportError
from shipway.loadtest.load_test import Input, Record
from shipway.loadtest.preflight import Subject
from shipway.loadtest.result import Result
from shipway.loadtest.sweep import knee
from shipway.runtime.backends.packages import installed
from shipway.runtime.host import describe_host

NAMED = 5
PACKAGES = ("locust", "gevent", "geventhttpclient", "grpcio", "hdrhistogram", "torchserve")


class Sent(Record):
    """What the requests were, without their bytes."""

    count: int
    names: tuple[str, ...]
    """The first few."""
    least_bytes: int
    most_bytes: int


class Report(Record):
    """Every load on one model, in the order in which they were measured."""

    format: Literal[1] = 1
    made: str
    """ISO 8601, UTC."""
    partial: str = ""
    """Why it is not all that was asked for; empty if it is."""
    subject: Subject
    sent: Sent
    timeout_s: float
    host: Host
    """Where the load came from."""
    packages: dict[str, str]
    results: tuple[Result, ...]

    @property
    def knee(self) -> Result | None:
        place = knee(self.results)
        return None if place is None else self.results[place]

    @property
    def title(self) -> str:
        return f"{self.subject.model} {self.subject.version or ''}".strip()


def new_report(
    subject: Subject,
    inputs: Sequence[Input],
    timeout_s: float,
    results: Sequence[Result],
    partial: str = "",
) -> Report:
    sizes = [len(each.body) for each in inputs]
    return Report(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        partial=partial,
        subject=subject,
        sent=Sent(
            count=len(inputs),
            names=tuple(each.name for each in inputs[:NAMED]),
            least_bytes=min(sizes),
            most_bytes=max(sizes),
        ),
        timeout_s=timeout_s,
        host=describe_host(),
        packages={
            "shipway": __version__,
            **{name: found for name in PACKAGES if (found := installed(name))},
        },
        results=tuple(results),
    )


def read_report(path: Path) -> Report:
    """Raises ReportError."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise ReportError(
            f"{path} is no report of `shipway bench` that this build reads: {problems_in(error)}. "
            "Name a report's .json."
        ) from error


def check_folder(folder: Path) -> None:
    """Before the load, for a report that cannot be written is found too late after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_report(
    report: Report, folder: Path, earlier: Mapping[str, Report] = MappingProxyType({})
) -> tuple[Path, Path]:
    """The .json and the .html, each written whole or not at all. Raises ReportError."""
    from shipway.loadtest.page import render

    stamp = re.sub(r"[^0-9T]", "", report.made.partition("+")[0]).replace("T", "-")
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", report.title) + f"-{stamp}"
    contents = {".json": report.model_dump_json(indent=1) + "\n", ".html": render(report, earlier)}
    try:
        for suffix, content in contents.items():
            partial = folder / f"{name}{suffix}.partial"
            partial.write_text(content)
            partial.replace(folder / f"{name}{suffix}")
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / f"{name}.json", folder / f"{name}.html"


def _unwritable(folder: Path, error: OSError) -> ReportError:
    return ReportError(
        f"The report cannot be written to {folder}: {error.strerror}. Name another folder with "
        "--out."
    )
