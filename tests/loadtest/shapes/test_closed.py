from itertools import count, islice

import pytest
from pydantic import ValidationError

from shipway.loadtest.shapes.closed import ClosedLoop


def test_the_next_request_is_due_at_once_until_the_end():
    clock = count(10.0, 1.0)
    assert list(ClosedLoop(clients=2).arrivals(10.0, 13.0, lambda: next(clock))) == [10, 11, 12]


def test_the_number_of_clients_never_changes():
    shape = ClosedLoop(clients=3)
    assert (shape.clients_at_start(), shape.clients_at_most()) == (3, 3)
    assert shape.offered_rate() is None and not shape.is_open


def test_it_says_what_repeats_it():
    assert [str(ClosedLoop(clients=clients)) for clients in (1, 2)] == ["1 client", "2 clients"]
    assert ClosedLoop(clients=2).bench_option() == "--clients 2"


def test_no_client_is_no_load():
    with pytest.raises(ValidationError, match="clients"):
        ClosedLoop(clients=0)


def test_arrivals_do_not_end_before_the_end():
    assert len(list(islice(ClosedLoop(clients=1).arrivals(0, 1, lambda: 0.5), 1000))) == 1000
