"""The charts of the export report."""

import re
import xml.etree.ElementTree as ET

import numpy as np

from shipway.export.report import write_report
from shipway.export.report_charts import SHOWN_LAYERS, ReportCharts
from shipway.export.report_view import View

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_numbers(tmp_path, eventful):
    manifest, certificate = eventful
    html = write_report(tmp_path, manifest, certificate).read_text()
    drawing = re.search(r"<svg[^>]*sensitivity-wide.*?</svg>", html, re.DOTALL)[0]
    widths = [float(each.get("width")) for each in ET.fromstring(drawing).iter(f"{SVG}rect")]
    errors = [each.relative_error for each in certificate.sensitivity][: len(widths)]
    assert np.allclose(np.array(widths) / widths[0], np.array(errors) / errors[0], atol=0.002)


def test_the_plane_has_every_candidate_with_a_latency_and_eager(eventful):
    manifest, certificate = eventful
    charts = ReportCharts(View(manifest=manifest, certificate=certificate, budget=None))
    kinds = {dot.label: dot.kind for dot in charts.dots}
    assert kinds[manifest.chosen] == "chosen"
    assert (kinds["slow"], kinds["eager"]) == ("refused", "reference")
    assert "crashed" not in kinds
    assert {kind for kind, _ in charts.legend} == set(kinds.values())


def test_only_the_most_sensitive_layers_get_a_bar(eventful):
    manifest, certificate = eventful
    charts = ReportCharts(View(manifest=manifest, certificate=certificate, budget=None))
    wide = charts.sensitivity.split('class="narrow"')[0]
    assert len(re.findall("<rect ", wide)) == SHOWN_LAYERS < len(certificate.sensitivity)


def test_without_a_measured_candidate_there_is_no_plot(eventful):
    manifest, certificate = eventful
    crashed = {"crashed": certificate.candidates["crashed"]}
    bare = certificate.model_copy(update={"candidates": crashed, "eager": {}})
    assert ReportCharts(View(manifest=manifest, certificate=bare, budget=None)).pareto == ""
