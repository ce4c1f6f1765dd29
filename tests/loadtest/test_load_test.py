from typing import Any

import pytest
from pydantic import ValidationError

from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.shapes.open import OpenLoop
from shipway.plugins import PluginError


def load_test(**changes) -> LoadTest:
    fields: dict[str, Any] = {
        "target": Target(url="http://127.0.0.1:8080/predictions/m"),
        "inputs": (Input(name="x", content_type="image/jpeg", body=bytes(range(256))),),
        "load": OpenLoop(rate=5, seed=3),
    }
    return LoadTest(**fields | changes)


def test_a_load_test_reads_back_from_its_line_with_every_byte():
    sent = load_test(headers={"authorization": "Bearer x"}, seconds=3.0)
    assert sent.line().count(b"\n") == 1
    assert LoadTest.read(sent.line()) == sent


def test_a_plugin_that_is_not_there_is_named(tmp_path):
    line = load_test(plugins=(tmp_path / "ramp.py",)).line()
    with pytest.raises(PluginError, match="ramp.py does not exist"):
        LoadTest.read(line)


@pytest.mark.parametrize(
    "changes", [{"inputs": ()}, {"seconds": 0}, {"warm_up_s": -1}, {"timeout_s": 121}]
)
def test_what_cannot_be_measured_is_refused(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        load_test(**changes)


@pytest.mark.parametrize(
    ("url", "model", "version", "protocol", "path"),
    [
        ("http://h:1/predictions/m", "m", None, "http", "/predictions/m"),
        (
            "https://h:1/predictions/m%20m/2.0?a=b",
            "m m",
            "2.0",
            "https",
            "/predictions/m%20m/2.0?a=b",
        ),
        ("grpc://h:1/m/1.0", "m", "1.0", "grpc", "/m/1.0"),
        ("http://h:1/elsewhere", "/elsewhere", None, "http", "/elsewhere"),
    ],
)
def test_a_target_knows_what_its_url_names(url, model, version, protocol, path):
    target = Target(url=url)
    assert (target.model, target.version) == (model, version)
    assert (target.protocol, target.address, target.path) == (protocol, "h:1", path)
