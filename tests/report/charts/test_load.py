"""The charts of a load test."""

import re
import xml.etree.ElementTree as ET
from typing import Literal

from shipway.report.charts import Curve, Spot, Stretch, by_percentile, over_time, throughput

FRAME = {"name": "l", "width": 1040, "height": 420, "title": "t", "description": "d"}


def test_each_further_nine_has_the_same_distance():
    curve = Curve(label="10 requests/s", points=[(50, 1), (90, 2), (99, 3), (99.9, 4)], style="c0")
    drawing = by_percentile([curve], **FRAME)
    (path,) = re.findall(r'<path d="M([^"]*)" class="curve c0"', drawing)
    x = [float(point.split()[0]) for point in path.split("L")]
    assert abs((x[2] - x[1]) - (x[3] - x[2])) < 0.2
    assert "10 requests/s" in drawing


def test_a_second_without_answers_is_a_gap_and_one_with_errors_a_cross():
    stretch = Stretch(
        label="1", p50_ms=[1, 2, None, 3], p99_ms=[4, 5, None, 6], errors=[0, 0, 7, 0]
    )
    drawing = over_time([stretch], **FRAME)
    ET.fromstring(drawing)
    assert drawing.count("1: p50") == 2
    assert "1, second 3: 7 errors" in drawing


def test_open_loops_are_joined_and_closed_ones_are_not():
    def spot(rate: float, joined: bool) -> Spot:
        kind: Literal["front", "reference"] = "front" if joined else "reference"
        return Spot(label=f"{rate}", rate=rate, p50_ms=1, p99_ms=2, kind=kind, joined=joined)

    joined = throughput([spot(10, True), spot(20, True), spot(15, False)], **FRAME)
    (path,) = re.findall(r'<path d="M([^"]*)" class="curve p99"', joined)
    assert len(path.split("L")) == 2
    assert "curve" not in throughput([spot(15, False)], **FRAME)
