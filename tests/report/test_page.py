"""Numbers rounded for the eye, with the exact value beside them; charts for two widths."""

from pathlib import Path

import pytest

from shipway.report.page import NARROW, at_widths, environment, exact, number, percent, rounded


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (3.14159, "3.14"),
        (1234.5, "1,234"),
        (0.00123, "0.00123"),
        (0.0000019, "1.9 × 10⁻⁶"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_rounded_to_three_digits(value, shown):
    assert rounded(value) == shown


def test_what_is_rounded_carries_the_exact_value():
    assert number(0.123456) == '<data value="0.123456">0.123</data>'
    assert percent(0.98765) == '<data value="0.98765">98.8%</data>'
    assert exact(1, "<b>") == '<data value="1">&lt;b&gt;</data>'


def test_a_chart_is_drawn_for_a_wide_and_for_a_narrow_page():
    drawn = []

    def draw(name: str, width: int) -> str:
        drawn.append((name, width))
        return f"<svg id='{name}'></svg>"

    html = at_widths("batch 8×128", draw, 504)
    assert drawn == [("batch-8-128-wide", 504), ("batch-8-128-narrow", NARROW)]
    assert html.count("<svg") == 2 and '<div class="narrow">' in html


def test_a_template_extends_the_page_and_its_text_is_escaped(tmp_path: Path):
    (tmp_path / "t.html.j2").write_text(
        '{% extends "page.html.j2" %}{% block page %}{{ words }}{{ symbol("front") }}{% endblock %}'
    )
    html = environment(tmp_path).get_template("t.html.j2").render(words="<script>")
    assert "&lt;script&gt;" in html and "<svg" in html and "default-src 'none'" in html
