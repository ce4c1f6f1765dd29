"""The load report: whole, true to its numbers, harmless whatever is written in it."""

import re
import xml.etree.ElementTree as ET

import pytest

from shipway.loadtest.report_files import write_report
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from tests.loadtest.made import lognormal_ms, rates, report_of, result_of
from tests.pages import Page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"'\x07"
REFUSED = ("http", "503", "ServiceUnavailableException", "the queue is full")


@pytest.fixture(scope="module")
def results():
    """A sweep with all that a report may have to tell of."""
    slow = result_of(
        OpenLoop(rate=60), lognormal_ms(300, count=240), errors={REFUSED: 3}, busy=0.95
    )
    return [
        result_of(ClosedLoop(clients=1), lognormal_ms(10)),
        *rates({10: 10, 20: 11, 30: 12, 40: 15}),
        slow,
    ]


def page_of(folder, report, earlier=None) -> tuple[str, Page]:
    _, path = write_report(report, folder, earlier or {})
    html = path.read_text()
    return html, Page(html)


def test_the_page_is_whole_loads_nothing_and_runs_nothing(tmp_path, results):
    html, page = page_of(tmp_path, report_of(results), {"earlier": report_of(results)})
    assert html.startswith("<!doctype html>")
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "use", "image"}
    assert "url(" not in html and "@import" not in html and "default-src 'none'" in html
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links and {link.removeprefix("#") for link in links} <= set(ids)


def test_the_page_has_the_reports_numbers(tmp_path, results):
    _, page = page_of(tmp_path, report_of(results))
    exact = {value for value, _ in page.data}
    for each in results:
        latency = each.latency
        assert {
            each.rate,
            latency.p50_ms,
            latency.p99_ms,
            latency.p99_9_ms,
            latency.max_ms,
        } <= exact
        assert str(each.load) in page.text
    assert "http 503 ServiceUnavailableException" in page.text
    assert "the queue is full" in page.text
    assert "The load generator was the bottleneck under 1 of 6 loads" in page.text
    assert "Latency rises steeply beyond 40 requests/s" in page.text
    assert "This report is partial" not in page.text


def test_the_drawings_are_well_formed_and_described(tmp_path, results):
    html, _ = page_of(tmp_path, report_of(results), {"earlier": report_of(results)})
    drawings = [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    pictures = [each for each in drawings if each.get("role") == "img"]
    # Throughput, percentiles, time and errors, each for wide and narrow pages.
    assert len(pictures) == 8
    assert all(each.get("aria-labelledby") for each in pictures)
    assert "nan" not in html and "inf" not in re.sub(r"[a-z]*inf[a-z]+", "", html.lower())


def test_a_partial_report_says_so_even_if_nothing_was_measured(tmp_path):
    for results in ([], [result_of(OpenLoop(rate=10), lognormal_ms(10, count=40), last=False)]):
        report = report_of(results, partial="stopped before all loads were measured")
        _, page = page_of(tmp_path, report)
        assert "This report is partial: stopped before all loads were measured." in page.text
        assert page.open == []


def test_a_load_without_an_answer_has_no_latency_to_show(tmp_path):
    _, page = page_of(
        tmp_path, report_of([result_of(ClosedLoop(clients=1), [], errors={REFUSED: 9})])
    )
    assert "of 36 requests" in page.text and "–" in page.text


def test_each_shape_says_once_how_its_requests_arrive(tmp_path, results):
    _, page = page_of(tmp_path, report_of(results))
    assert page.text.count(OpenLoop.explanation) == 1
    _, page = page_of(tmp_path, report_of(results[:1]))
    assert "at random" not in page.text


def test_earlier_reports_are_compared_load_by_load(tmp_path, results):
    before = [result_of(each.load, lognormal_ms(20)) for each in results]
    html, page = page_of(tmp_path, report_of(results), {"tuesday": report_of(before)})
    assert "tuesday" in page.text
    now_ms, before_ms = results[0].latency.p50_ms, before[0].latency.p50_ms
    exact = {value for value, _ in page.data}
    assert now_ms / before_ms in exact and before_ms in exact
    assert html.count("1 client, before") >= 2
    rows = re.findall(r'<th scope="row">(.*?)</th><td>before', html)
    assert rows == [str(each.load) for each in results]  # and no knee: the earlier one has none
    html, _ = page_of(tmp_path, report_of(results), {"monday": report_of(results)})
    assert '<th scope="row">the knee</th><td>before' in html


def test_hostile_words_do_nothing(tmp_path):
    result = result_of(
        ClosedLoop(clients=1), lognormal_ms(10), errors={("http", "500", HOSTILE, HOSTILE): 1}
    )
    report = report_of([result], partial=HOSTILE, model=HOSTILE, url=f"http://x/{HOSTILE}")
    html, page = page_of(tmp_path, report, {HOSTILE: report})
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(drawing)
