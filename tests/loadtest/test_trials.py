"""How a load is judged. tests/cli/test_tune.py runs trials on a real server."""

import math

import pytest

from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.trials import judged
from tests.loadtest.made import lognormal_ms, result_of

FULL = {("http", "503", "ServiceUnavailableException", "full"): 2}


def test_a_load_below_the_target_keeps_it():
    found = judged(result_of(OpenLoop(rate=50), lognormal_ms(10)), 50.0, 100.0)
    assert found.kept and not found.because
    assert found.rate == 50.0 and found.p99_ms < 100


@pytest.mark.parametrize(
    ("result", "because"),
    [
        (result_of(OpenLoop(rate=50), lognormal_ms(60)), "p99 was "),
        (result_of(OpenLoop(rate=50), lognormal_ms(10), errors=FULL), "8 of 808 requests failed"),
        (result_of(OpenLoop(rate=50), lognormal_ms(10), busy=0.99), "generator was the bottleneck"),
    ],
)
def test_a_load_that_misses_it_says_why(result, because):
    found = judged(result, 50.0, 100.0)
    assert not found.kept and because in found.because


def test_a_load_without_answers_has_no_p99():
    found = judged(result_of(OpenLoop(rate=50), [], errors=FULL), 50.0, 100.0)
    assert not found.kept and math.isinf(found.p99_ms)
