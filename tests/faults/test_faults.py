"""Each fault once, to one server after the other's recovery."""

from collections.abc import Iterator

import pytest

from tests.faults.faults import FAULTS
from tests.faults.measure import Fault, do
from tests.faults.sites import NO_SMALL_DISKS, Site, open_site

ON_A_BUSY_MACHINE = 3.0
"""Whoever else works on the machine that runs the tests takes time from starting workers."""


@pytest.fixture(scope="module")
def site(tiny_table, tmp_path_factory) -> Iterator[Site]:
    with open_site(tiny_table, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_what_is_promised_for_a_fault_is_what_happens(site, fault: Fault):
    if fault.fills_a_disk and not site.has_small_disks:
        pytest.skip(NO_SMALL_DISKS)
    measured = do(fault, site)
    assert measured.against(fault, times=ON_A_BUSY_MACHINE) == [], measured
