"""Reports on disk: written whole, read back, refused with a reason."""

import pytest

from shipway.loadtest.errors import ReportError
from shipway.loadtest.report_files import check_folder, read_report, write_report
from shipway.loadtest.shapes.closed import ClosedLoop
from tests.loadtest.made import lognormal_ms, rates, report_of, result_of


@pytest.fixture(scope="module")
def results():
    return [result_of(ClosedLoop(clients=1), lognormal_ms(10)), *rates({10: 10, 20: 11})]


def test_a_report_reads_back_as_it_was_written(tmp_path, results):
    report = report_of(results)
    json_path, html_path = write_report(report, tmp_path)
    assert read_report(json_path) == report
    assert sorted(tmp_path.iterdir()) == sorted([json_path, html_path])
    assert json_path.name.startswith("m-1.0-20") and json_path.stem == html_path.stem


def test_a_folder_that_cannot_be_written_is_named(tmp_path, results):
    (tmp_path / "file").write_text("")
    for refuse in (check_folder, lambda folder: write_report(report_of(results), folder)):
        with pytest.raises(ReportError, match=r"cannot be written to .*file/reports.*--out"):
            refuse(tmp_path / "file" / "reports")


def test_what_is_no_report_is_refused(tmp_path):
    path = tmp_path / "it.json"
    with pytest.raises(ReportError, match="cannot be read"):
        read_report(path)
    for text in ("{", '{"format": 2}', "[]"):
        path.write_text(text)
        with pytest.raises(ReportError, match="is not a valid report"):
            read_report(path)
