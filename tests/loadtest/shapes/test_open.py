import numpy as np
import pytest
from pydantic import ValidationError

from shipway.loadtest.shapes.open import OpenLoop


def test_arrivals_are_a_poisson_process_of_the_rate():
    gaps = np.diff(list(OpenLoop(rate=50).arrivals(100.0, 500.0)))
    assert len(gaps) == pytest.approx(50 * 400, rel=0.03)
    assert gaps.min() >= 0
    # Exponential gaps: the deviation is the mean, and two in a row tell nothing of each other.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_arrivals_lie_between_start_and_end_and_repeat_with_the_seed():
    first, again, other = (
        list(OpenLoop(rate=20, seed=seed).arrivals(-1.0, 4.0)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert min(first) > -1.0 and max(first) < 4.0


def test_clients_are_added_as_arrivals_need_them():
    shape = OpenLoop(rate=5, most_clients=7)
    assert (shape.clients_at_start(), shape.clients_at_most()) == (0, 7)
    assert shape.is_open and shape.offered_rate() == 5


def test_it_says_what_repeats_it():
    assert str(OpenLoop(rate=12.5)) == "12.5 requests/s"
    assert OpenLoop(rate=12.5).bench_option() == "--rate 12.5"


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ValidationError, match="rate"):
        OpenLoop(rate=0)
