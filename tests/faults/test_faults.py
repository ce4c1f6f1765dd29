"""A sample of the faults, each once, to one server after the other's recovery.

`make test-faults` does all of them, and asserts how long each takes.
"""

import math
from collections.abc import Iterator, Sequence

import pytest

from tests.faults.faults import FAULTS
from tests.faults.front_faults import FRONT_FAULTS
from tests.faults.measure import Fault, do
from tests.faults.sites import Site, open_site

SAMPLE = (
    "a worker is killed",
    "a program returns too few rows",
    "TorchServe is killed",
)
"""A worker, a program's answer, the server."""
SAMPLE_OF_THE_FRONT = ("the front is killed", "the front's files are damaged")


@pytest.fixture(scope="module")
def site(tiny_table, tmp_path_factory) -> Iterator[Site]:
    with open_site(tiny_table, tmp_path_factory.mktemp("site"), front=False) as site:
        yield site


@pytest.fixture(scope="module")
def fronted(tiny_table, tmp_path_factory) -> Iterator[Site]:
    with open_site(tiny_table, tmp_path_factory.mktemp("fronted"), front=True) as site:
        yield site


def sample(faults: Sequence[Fault], names: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "fault",
        [each for each in faults if each.name in names],
        ids=lambda fault: fault.name.replace(" ", "_"),
    )


def expect_what_is_promised(site: Site, fault: Fault) -> None:
    measured = do(fault, site)
    assert math.isfinite(measured.back_s), measured
    assert measured.against(fault, times=math.inf) == [], measured


@sample(FAULTS, SAMPLE)
def test_what_is_promised_for_a_fault_is_what_happens(site, fault: Fault):
    expect_what_is_promised(site, fault)


@sample(FRONT_FAULTS, SAMPLE_OF_THE_FRONT)
def test_what_is_promised_for_a_fault_of_the_front_is_what_happens(fronted, fault: Fault):
    expect_what_is_promised(fronted, fault)
