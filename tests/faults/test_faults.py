"""A sample of the faults, each once, to one server after the other's recovery.

`make test-long` does all of them, and asserts how long each takes.
"""

import math
from collections.abc import Iterator

import pytest

from tests.faults.faults import FAULTS
from tests.faults.measure import Fault, do
from tests.faults.sites import Site, open_site

SAMPLE = (
    "a worker is killed",
    "a program returns too few rows",
    "TorchServe is killed",
)
"""A worker, a program's answer, the server; `make test-long` does every fault."""


@pytest.fixture(scope="module")
def site(tiny_table, tmp_path_factory) -> Iterator[Site]:
    with open_site(tiny_table, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.mark.parametrize(
    "fault",
    [each for each in FAULTS if each.name in SAMPLE],
    ids=lambda fault: fault.name.replace(" ", "_"),
)
def test_what_is_promised_for_a_fault_is_what_happens(site, fault: Fault):
    measured = do(fault, site)
    assert math.isfinite(measured.back_s), measured
    assert measured.against(fault, times=math.inf) == [], measured
