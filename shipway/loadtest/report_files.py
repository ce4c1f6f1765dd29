"""Reports on disk: NAME.json for programs and comparisons, NAME.html for people."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from shipway.artifact.bundle import problems_in
from shipway.files import atomic_write
from shipway.loadtest.errors import ReportError
from shipway.loadtest.page import render
from shipway.loadtest.report import Report


def read_report(path: Path) -> Report:
    """The report in a .json file of `shipway bench`. Raises ReportError."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(
            f"{path} cannot be read: {error.strerror}. Check the path and its permissions."
        ) from error
    except ValidationError as error:
        raise ReportError(
            f"{path} is not a valid report of this version of `shipway bench`: "
            f"{problems_in(error)}. Give the .json file of a report."
        ) from error


def check_folder(folder: Path) -> None:
    """Raises ReportError if no report can be written to `folder`, so that it fails before the load
    and not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_report(
    report: Report, folder: Path, earlier: Mapping[str, Report] = MappingProxyType({})
) -> tuple[Path, Path]:
    """Writes the .json and the .html of a report and returns their paths. Raises ReportError.

    `earlier` are reports to compare it with, by name.
    """
    stamp = re.sub(r"[^0-9T]", "", report.made.partition("+")[0]).replace("T", "-")
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", report.title) + f"-{stamp}"
    contents = {".json": report.model_dump_json(indent=1) + "\n", ".html": render(report, earlier)}
    try:
        for suffix, content in contents.items():
            atomic_write(folder / f"{name}{suffix}", content)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / f"{name}.json", folder / f"{name}.html"


def _unwritable(folder: Path, error: OSError) -> ReportError:
    return ReportError(
        f"The report cannot be written to {folder}: {error.strerror}. Choose another folder "
        "with --out."
    )
