"""The seam of load shapes: a new shape is one class, and no file of the package changes."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.preflight import Subject
from shipway.loadtest.report import new_report
from shipway.loadtest.report_files import read_report, write_report
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes import SHAPES
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.plugins import load_plugins
from tests.loadtest.http_server import noting_server

BURSTS = """
import time

from shipway.loadtest.shapes import SHAPES
from shipway.loadtest.shapes.base import LoadShape


@SHAPES.register("bursts")
class Bursts(LoadShape):
    kind: str = "bursts"
    is_open = True
    explanation = "All requests of a burst arrive at once."
    size: int
    every_s: float

    def __str__(self):
        return f"{self.size} every {self.every_s:g} s"

    def arrivals(self, start, end, now=time.monotonic):
        while start < end:
            yield from [start] * self.size
            start += self.every_s

    def clients_at_start(self):
        return 0

    def clients_at_most(self):
        return 50
"""
THINKING = """
import time

from shipway.loadtest.shapes import SHAPES
from shipway.loadtest.shapes.base import LoadShape


@SHAPES.register("thinking")
class Thinking(LoadShape):
    kind: str = "thinking"
    is_open = False
    think_s: float

    def __str__(self):
        return f"one client that thinks for {self.think_s:g} s"

    def arrivals(self, start, end, now=time.monotonic):
        while (moment := now() + self.think_s) < end:
            yield moment

    def clients_at_start(self):
        return 1

    def clients_at_most(self):
        return 1
"""


@pytest.fixture
def plugin(tmp_path):
    """Writes a module beside the test, imports it, and forgets its shape afterwards."""
    names: list[str] = []

    def write(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        load_plugins([name], tmp_path)
        names.append(name)
        return path

    yield write
    for name in names:
        del SHAPES._parts[name]


def load_test(url: str, load: Any, path: Path, seconds: float) -> LoadTest:
    return LoadTest(
        target=Target(url=url),
        inputs=(Input(name="x", content_type="text/plain", body=b"x"),),
        load=load,
        warm_up_s=0.2,
        seconds=seconds,
        timeout_s=5.0,
        plugins=(path,),
    )


def test_the_generator_sends_as_a_new_open_shape_says(plugin, tmp_path):
    path = plugin("bursts", BURSTS)
    shape = SHAPES.get("bursts")(size=5, every_s=0.4)
    with noting_server() as server:
        result = measure(load_test(server.url, shape, path, seconds=2.0))
    # Warm-up included: at 0, 0.4 … 2.0 seconds.
    assert len(server.moments) == 30
    assert result.answered + 5 * 1 == 30 and not result.failed
    assert result.service is not None  # an open shape's wait is not part of the service time
    gaps = [later - earlier for earlier, later in pairwise(server.moments[::5])]
    assert sum(gaps) / len(gaps) == pytest.approx(0.4, abs=0.1)

    report = new_report(Subject(url=server.url, model="m"), (result_input(),), 5.0, [result])
    json_path, html_path = write_report(report, tmp_path)
    assert read_report(json_path).results[0].load == shape
    page = html_path.read_text()
    assert "5 every 0.4 s" in page
    assert "All requests of a burst arrive at once." in page and "at random" not in page


def test_the_generator_sends_as_a_new_closed_shape_says(plugin):
    path = plugin("thinking", THINKING)
    with noting_server() as server:
        shape = SHAPES.get("thinking")(think_s=0.25)
        result = measure(load_test(server.url, shape, path, seconds=2.0))
    assert 4 <= len(server.moments) <= 8  # 2.2 seconds, a quarter of one before each request
    gaps = [later - earlier for earlier, later in pairwise(server.moments)]
    assert min(gaps) > 0.24
    assert result.latency and result.latency.p50_ms < 200  # thinking is not waiting
    assert result.service is None


def test_a_shape_keeps_its_fields_in_json_and_an_unknown_one_names_those_known(plugin):
    path = plugin("bursts", BURSTS)
    shape = SHAPES.get("bursts")(size=5, every_s=0.5)
    sent = load_test("http://127.0.0.1:1/predictions/m", shape, path, seconds=1.0)
    assert LoadTest.read(sent.line()) == sent
    assert b'"load":{"kind":"bursts","size":5,"every_s":0.5}' in sent.line()
    with pytest.raises(ValidationError, match="no load shape named 'ramp'.*bursts, closed, open"):
        LoadTest.model_validate_json(sent.line().replace(b'"bursts","size"', b'"ramp","size"'))


def test_the_shapes_of_the_package_read_as_reports_have_them():
    assert SHAPES.get("closed")(clients=3) == ClosedLoop(clients=3)
    assert {"closed", "open"} <= set(SHAPES.names())


def result_input() -> Input:
    return Input(name="x", content_type="text/plain", body=b"x")
