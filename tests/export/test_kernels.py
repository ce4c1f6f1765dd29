"""Programs must compute in the precision that they claim."""

import pytest

from shipway.artifact.certificate import Kernels
from shipway.export.kernels import why_not_what_it_claims


@pytest.mark.parametrize(
    ("ran", "precision", "refused"),
    [
        ({"int8": 9, "fp32": 1}, "int8", False),
        ({"int8": 8, "fp32": 2}, "int8", True),
        ({"fp32": 4}, "int8", True),
        ({}, "int8", True),
        ({}, "fp32", False),
        ({"bf16": 4}, "fp32", True),
    ],
)
def test_nine_in_ten_heavy_operations_must_run_as_claimed(ran, precision, refused):
    reason = why_not_what_it_claims(Kernels(source="a test", ran=ran), precision)
    assert (reason is not None) == refused
