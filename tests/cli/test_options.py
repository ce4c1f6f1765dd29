"""Options that several commands share."""

import pytest
import typer

from shipway.cli.options import milliseconds


@pytest.mark.parametrize(
    ("text", "value"), [("50ms", 50), ("0.05s", 50), (" 2 s ", 2000), ("1.5 ms", 1.5)]
)
def test_a_latency_is_read_in_milliseconds(text, value):
    assert milliseconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["50", "0ms", "-5ms", "ms", "1e3ms", "5m", ""])
def test_anything_else_is_refused_with_what_to_write(text):
    with pytest.raises(typer.BadParameter, match="for example 50ms or 0.05s"):
        milliseconds(text)
