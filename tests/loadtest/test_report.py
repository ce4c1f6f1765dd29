"""The report as data."""

from datetime import UTC, datetime

import shipway
from shipway.loadtest.load_test import Input
from shipway.loadtest.preflight import Subject
from shipway.loadtest.report import INPUTS_NAMED, Report, new_report
from tests.loadtest.made import rates, report_of


def test_a_report_names_the_first_inputs_and_counts_all():
    inputs = [Input(name=f"{size}.jpg", content_type="", body=b"x" * size) for size in range(1, 9)]
    report = new_report(Subject(url="u", model="m"), inputs, 30.0, [])
    assert report.sent.count == 8 and len(report.sent.names) == INPUTS_NAMED
    assert (report.sent.least_bytes, report.sent.most_bytes) == (1, 8)


def test_a_report_says_when_where_and_with_what_it_was_made():
    report = report_of([])
    made = datetime.fromisoformat(report.made)
    assert abs((datetime.now(UTC) - made).total_seconds()) < 60
    assert report.packages["shipway"] == shipway.__version__ and "locust" in report.packages
    assert report.host.cores > 0


def test_the_title_leaves_out_a_version_that_is_not_known():
    assert report_of([]).title == "m 1.0"
    assert report_of([], version=None).title == "m"


def test_the_knee_is_a_result_of_the_report():
    results = rates({20: 10, 40: 10, 60: 11, 80: 13, 100: 18, 110: 80, 120: 700})
    assert report_of(results).knee is results[4]
    assert report_of(results[:2]).knee is None


def test_json_keeps_every_field():
    report = report_of(rates({20: 10}), "stopped")
    assert Report.model_validate_json(report.model_dump_json()) == report
