"""Writes `report.html` into an artifact: the measurements for people, in one self-contained file.

The numbers are those of certificate.json and manifest.json.
"""

from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from shipway.artifact.certificate import Certificate
from shipway.artifact.manifest import Manifest
from shipway.artifact.samples import NO_NOISE_DB
from shipway.export.report_charts import SHOWN_LAYERS, ReportCharts
from shipway.export.report_view import View, batch_in_words
from shipway.export.speedup import factor
from shipway.export.techniques.base import SHARE_NEEDED
from shipway.report.page import environment, exact

REPORT = "report.html"


def write_report(
    folder: Path, manifest: Manifest, certificate: Certificate, budget: float | None = None
) -> Path:
    """Writes report.html into the artifact's folder and returns its path.

    `budget` is the accuracy budget of the choice in points, if it is known.
    """
    path = folder / REPORT
    page = _environment().get_template("report.html.j2")
    view = View(manifest=manifest, certificate=certificate, budget=budget)
    html = page.render(
        view=view, charts=ReportCharts(view), manifest=manifest, certificate=certificate
    )
    path.write_text(html)
    return path


def _environment() -> Environment:
    made = environment(Path(__file__).parent)
    made.filters |= {
        "points": points,
        "decibels": decibels,
        "megabytes": megabytes,
        "batch": batch_in_words,
        "factor": factor,
    }
    made.globals |= {"shown_layers": SHOWN_LAYERS, "share_needed": SHARE_NEEDED}
    return made


def points(value: float) -> Markup:
    """Points, which are percent already."""
    return exact(value, f"{value + 0.0:.2f}")


def decibels(value: float) -> Markup:
    """A ratio in dB; ∞ if there is no noise."""
    return exact(value, f"{value:.1f}" if value < NO_NOISE_DB else "∞")


def megabytes(size: int) -> Markup:
    """A size in bytes, shown in megabytes."""
    return exact(size, f"{size / 1e6:.1f}" if size >= 1e6 else f"{size / 1e6:.2f}")
