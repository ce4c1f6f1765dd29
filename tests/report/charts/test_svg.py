"""Elements of a drawing: text that cannot break out of it, boxes that can be compared."""

import xml.etree.ElementTree as ET
from typing import get_args

import pytest

from shipway.report.charts.svg import Box, Kind, mark, picture, polyline, symbol, tag, words_at


def test_hostile_text_stays_text():
    hostile = "<script>alert(1)</script> & \"'\x07\ud800"
    drawing = picture("n", 10, 10.2, hostile, hostile, [words_at(hostile, 1, 2)])
    root = ET.fromstring(drawing)
    assert [each.tag.rpartition("}")[2] for each in root] == ["title", "desc", "text"]
    assert root[2].text == "<script>alert(1)</script> & \"'??"
    assert root.get("viewBox") == "0 0 10 11"


def test_attributes_are_spelled_as_in_html_and_none_is_left_out():
    assert (
        tag("a", aria_label="x", class_="y", d=None, x=1.25)
        == '<a aria-label="x" class="y" x="1.2"/>'
    )


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_of_mark_has_a_name_and_a_symbol(kind):
    assert f"<title>{kind}</title>" in symbol(kind)
    assert f"mark {kind}" in mark(kind, 1, 2, "a")


def test_the_kinds_of_marks_have_different_shapes():
    shapes = {mark(kind, 1, 2, "").replace(kind, "") for kind in ("chosen", "refused", "reference")}
    assert len(shapes) == 3


def test_overlap_and_outside_are_areas():
    assert Box(0, 0, 4, 4).overlap(Box(2, 2, 6, 6)) == 4
    assert Box(0, 0, 4, 4).overlap(Box(4, 0, 6, 6)) == 0
    assert Box(0, 0, 4, 4).outside(Box(2, 2, 6, 6)) == 12


def test_a_line_goes_through_its_points_and_has_its_label():
    assert polyline([(0, 1), (2.25, 3)], "curve", "p99") == (
        '<path d="M0.0 1.0L2.2 3.0" class="curve"><title>p99</title></path>'
    )
